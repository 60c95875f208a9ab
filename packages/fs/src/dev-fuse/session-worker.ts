import { type MessagePort, workerData } from "node:worker_threads";
import { runAtOnce } from "../real-time.ts";
import { SessionLoop } from "./session-loop.ts";
import type { SessionStart } from "./session-messages.ts";
import { loadSystemCalls } from "./system-calls.ts";

// The entry of a worker thread; see session-pool.ts.
const { start, port } = workerData as { readonly start: SessionStart; readonly port: MessagePort };
const loop = new SessionLoop(start, port, loadSystemCalls());
if (start.realTime) runAtOnce();
try {
  loop.run();
} finally {
  // After an error others go on.
  loop.stopLeading();
}
port.close();
