// `npm run demo`: sets up and runs examples/demo.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { join } from "node:path";
import { projectEnvironment, root } from "./node24.mjs";
import { setup } from "./setup.mjs";

setup();
const main = join(root, "examples", "demo", "src", "main.ts");
const child = spawn("node", ["--no-memory-protection-keys", main, ...process.argv.slice(2)], {
  cwd: root,
  env: projectEnvironment(),
  stdio: "inherit",
});
// The terminal sends Ctrl-C to the demo as well; it cleans up and ends, and only then do we.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    if (signal !== "SIGINT") child.kill(signal);
  });
}
child.on("exit", (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 128 + constants.signals[signal];
});
