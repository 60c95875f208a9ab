#!/usr/bin/env -S node --no-memory-protection-keys
import "../dist/keeper/keeper-process.js";
