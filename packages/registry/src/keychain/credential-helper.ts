import { spawn } from "node:child_process";
import { type Credentials, EstargzError } from "@estargz/interface";
import { z } from "zod";

const MAX_OUTPUT_BYTES = 1024 * 1024;
const NAME = /^[A-Za-z0-9_.-]{1,100}$/;
const answerSchema = z.object({ Username: z.string(), Secret: z.string() });

/**
 * Asks Docker's credential helper `docker-credential-NAME` for a server's credentials.
 *
 * @returns `undefined` when the helper has none.
 * @throws `UNAVAILABLE` when it cannot be run or fails, `TIMEOUT` after `timeoutMs`.
 */
export async function askCredentialHelper(options: {
  readonly name: string;
  readonly server: string;
  readonly timeoutMs?: number | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly signal?: AbortSignal | undefined;
}): Promise<Credentials | undefined> {
  const { name, server, timeoutMs = 30_000, env = process.env, signal } = options;
  if (!NAME.test(name))
    throw new EstargzError("INVALID_CONFIG", `${JSON.stringify(name.slice(0, 40))} is not the name of a credential helper`);
  const command = `docker-credential-${name}`;
  const deadline = AbortSignal.timeout(timeoutMs);
  const child = spawn(command, ["get"], {
    env,
    stdio: ["pipe", "pipe", "ignore"],
    signal: AbortSignal.any(signal === undefined ? [deadline] : [signal, deadline]),
    killSignal: "SIGKILL",
  });
  const pieces: Buffer[] = [];
  let length = 0;
  child.stdout.on("data", (bytes: Buffer) => {
    length += bytes.length;
    if (length <= MAX_OUTPUT_BYTES) pieces.push(bytes);
  });
  child.stdin.on("error", () => {});
  child.stdin.end(server);
  let code: number | null;
  try {
    code = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
  } catch (cause) {
    signal?.throwIfAborted();
    if (deadline.aborted) throw new EstargzError("TIMEOUT", `${command} did not answer within ${timeoutMs / 1000} s`, { cause });
    throw new EstargzError("UNAVAILABLE", `${command} could not be run: is it installed and in PATH?`, { cause });
  }
  const output = Buffer.concat(pieces).toString("utf8");
  if (code !== 0) {
    if (/not found/i.test(output)) return undefined;
    throw new EstargzError("UNAVAILABLE", `${command} ended with code ${code} when asked for ${server}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(output);
  } catch {
    throw new EstargzError("INVALID_RESPONSE", `${command} did not answer in JSON`);
  }
  const result = answerSchema.safeParse(value);
  if (!result.success) throw new EstargzError("INVALID_RESPONSE", `${command} answered without Username and Secret`);
  const { Username: username, Secret: secret } = result.data;
  if (username === "" && secret === "") return undefined;
  return username === "<token>" || username === ""
    ? { type: "identity-token", token: secret }
    : { type: "basic", username, password: secret };
}
