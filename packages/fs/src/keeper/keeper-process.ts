import { loadSystemCalls } from "../dev-fuse/system-calls.ts";
import { KeeperServer } from "./keeper-server.ts";

// The keeper's process: `node keeper-process.js SOCKET [GRACE-SECONDS]`. See docs/restart.md.
const [, , socketPath, grace] = process.argv;
const graceMs = grace === undefined ? undefined : Number(grace) * 1000;
if (socketPath === undefined || Number.isNaN(graceMs)) {
  process.stderr.write("usage: estargz-keeper SOCKET [GRACE-SECONDS]\n");
  process.exitCode = 2;
} else {
  process.umask(0o077);
  KeeperServer.listen(loadSystemCalls(), socketPath, { graceMs }).run();
}
