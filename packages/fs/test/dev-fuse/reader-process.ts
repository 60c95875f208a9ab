import { closeSync, constants, existsSync, fstatSync, lstatSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";

/**
 * Reads a mounted tree over and over, past every cache that can be gone past: O_DIRECT reads, lookups of names that
 * were never asked for, and compares all of it with an original. Ends at the first difference or error.
 */
const [, , kind, mounted = "", original = ""] = process.argv;
const names = readdirSync(original, { recursive: true, encoding: "utf8", withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name).slice(original.length + 1));
const contents = new Map(names.map((name) => [name, readFileSync(join(original, name))]));
let operations = 0;
let stopping = false;
process.on("message", (message) => {
  if (message === "stop") stopping = true;
});

function readDirect(name: string): void {
  const expected = contents.get(name) ?? Buffer.alloc(0);
  const fd = openSync(join(mounted, name), constants.O_RDONLY | constants.O_DIRECT);
  try {
    const size = fstatSync(fd).size;
    if (size !== expected.length) throw new Error(`${name} has ${size} bytes instead of ${expected.length}`);
    const offset = Math.floor((Math.random() * size) / 4096) * 4096;
    const buffer = Buffer.alloc(64 * 1024);
    const length = readSync(fd, buffer, 0, buffer.length, offset);
    if (!buffer.subarray(0, length).equals(expected.subarray(offset, offset + buffer.length)))
      throw new Error(`${name} differs at ${offset}`);
  } finally {
    closeSync(fd);
  }
}

function lookUp(name: string): void {
  if (existsSync(join(mounted, `${name}.${Math.random()}`))) throw new Error(`a name near ${name} exists`);
  if (!lstatSync(join(mounted, name)).isFile()) throw new Error(`${name} is no file`);
}

function step(): void {
  for (let i = 0; i < 20; i += 1) {
    const name = names[Math.floor(Math.random() * names.length)] ?? "";
    if (kind === "direct") readDirect(name);
    else lookUp(name);
    operations += 1;
  }
  if (stopping) {
    process.send?.({ operations });
    process.disconnect();
  } else setImmediate(step);
}
try {
  process.send?.({ started: true });
  step();
} catch (error) {
  process.send?.({ error: String(error), operations });
  process.exitCode = 1;
  process.disconnect?.();
}
process.on("uncaughtException", (error) => {
  process.send?.({ error: String(error), operations });
  process.exit(1);
});
