import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { createDevFuseDriver } from "../../src/index.ts";
import { makeDriverLayer } from "./driver-layer.ts";

// Mounts as a user that is not root, reads, and tells what it saw.
const folder = process.argv[2] ?? "";
const run = promisify(execFile);
const driver = await createDevFuseDriver({ mountRoot: join(folder, "m"), keeper: false });
const entries = [
  { path: "a/file", content: "content\n" },
  { path: "b", content: "b" },
];
const path = await driver.attach(makeDriverLayer({ number: 1, entries, directory: join(folder, "data"), local: false }));
const { stdout: listing } = await run("ls", [path]);
const { stdout: content } = await run("cat", [join(path, "a/file")]);
await driver.close({ unmount: true });
const after = readFileSync("/proc/self/mountinfo", "utf8")
  .split("\n")
  .filter((line) => line.includes(`${folder}/m/`))
  .join("\n");
process.stdout.write(JSON.stringify({ listing, content, after }));
