import { execFile } from "node:child_process";
import { promisify } from "node:util";

/**
 * Tells systemd about a state (`READY=1`, `STOPPING=1`), when it started this process with `Type=notify` and
 * `NotifyAccess=all`. Anything that goes wrong is no error: a service manager is not needed.
 */
export async function notifySystemd(state: string): Promise<void> {
  if (process.env["NOTIFY_SOCKET"] === undefined) return;
  // Node has no datagram sockets of the unix family: systemd's own tool sends it in this process's name.
  await promisify(execFile)("systemd-notify", [`--pid=${process.pid}`, state]).catch(() => undefined);
}
