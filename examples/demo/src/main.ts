// Starts the demo in a process group of its own and hands Ctrl-C on to it. The terminal sends Ctrl-C to a whole group: the
// daemons that the demo has started would end before the containers and mounts that need them.
import { fork } from "node:child_process";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const child = fork(fileURLToPath(new URL("demo.ts", import.meta.url)), process.argv.slice(2), {
  // The demo ends by itself when this channel closes: also when this process is killed.
  stdio: ["ignore", "inherit", "inherit", "ipc"],
  detached: true,
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => child.kill(signal));
}
child.on("exit", (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 128 + constants.signals[signal];
});
