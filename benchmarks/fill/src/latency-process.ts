import { closeSync, openSync, readFileSync, readSync } from "node:fs";

/**
 * Reads files of a list, each once, a fixed number a second, and prints how long each took, in microseconds.
 *
 * Arguments: file with paths, first, count, reads a second.
 */
const [, , list, first, count, rate] = process.argv;
const paths = readFileSync(list ?? "", "utf8").split("\n");
const buffer = Buffer.alloc(4096);
const sleeper = new Int32Array(new SharedArrayBuffer(4));
const times: number[] = [];
const start = performance.now();
for (let at = 0; at < Number(count); at++) {
  const due = start + (at * 1000) / Number(rate);
  const wait = due - performance.now();
  if (wait > 0) Atomics.wait(sleeper, 0, 0, wait);
  const before = performance.now();
  const file = openSync(paths[Number(first) + at] ?? "", "r");
  readSync(file, buffer, 0, buffer.length, 0);
  closeSync(file);
  times.push((performance.now() - before) * 1000);
}
process.stdout.write(JSON.stringify(times));
