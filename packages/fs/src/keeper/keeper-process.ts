import { loadSystemCalls } from "../dev-fuse/system-calls.ts";
import { KeeperServer } from "./keeper-server.ts";

// The keeper's process: `node keeper-process.js SOCKET`. See docs/restart.md.
const [, , socketPath] = process.argv;
if (socketPath === undefined) {
  process.stderr.write("usage: estargz-keeper SOCKET\n");
  process.exitCode = 2;
} else {
  process.umask(0o077);
  KeeperServer.listen(loadSystemCalls(), socketPath).run();
}
