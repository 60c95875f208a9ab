import { tmpdir } from "node:os";
import { join } from "node:path";

/** Where layers are kept between runs when nothing else is said: for root in /var/lib, for others in their state folder. */
export function defaultStateFolder(env: NodeJS.ProcessEnv = process.env, uid: number = process.getuid?.() ?? 0): string {
  if (uid === 0) return "/var/lib/estargz";
  const state = env["XDG_STATE_HOME"] ?? (env["HOME"] === undefined ? undefined : join(env["HOME"], ".local", "state"));
  return state === undefined ? join(tmpdir(), `estargz-${uid}`) : join(state, "estargz");
}
