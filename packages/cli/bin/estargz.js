#!/usr/bin/env -S node --no-memory-protection-keys
import "../dist/main.js";
