import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Credentials, Keychain, Logger } from "@estargz/interface";
import { noLogger } from "@estargz/interface";
import { formatReference, parseReference } from "@estargz/registry";
import { z } from "zod";
import { repositoryOf } from "../labels.ts";

/** Credentials as CRI's PullImage carries them. */
export interface CriAuth {
  readonly username: string;
  readonly password: string;
  /** base64 of `username:password`. */
  readonly auth: string;
  readonly serverAddress: string;
  readonly identityToken: string;
  readonly registryToken: string;
}

/** Options of {@link createCriKeychain}. */
export interface CriKeychainOptions {
  /** File, readable by its owner only, that credentials are kept in over restarts; on a tmpfs they never reach a disk. Default: none. */
  readonly statePath?: string | undefined;
  readonly logger?: Logger | undefined;
}

/** Puts back what was remembered before: for a pull that failed. */
export type UndoRemember = () => void;

/** Remembers the credentials that images were pulled with. */
export interface CriKeychain extends Keychain {
  /** Remembers a pull's credentials. A pull without any leaves those of earlier pulls in place: containers may run on them. */
  remember(reference: string, auth: CriAuth | undefined): UndoRemember;
  /** Forgets an image's credentials. */
  forget(reference: string): void;
}

const entry = z.object({
  server: z.string(),
  credentials: z.discriminatedUnion("type", [
    z.object({ type: z.literal("basic"), username: z.string(), password: z.string() }),
    z.object({ type: z.literal("identity-token"), token: z.string() }),
    z.object({ type: z.literal("registry-token"), token: z.string() }),
  ]),
});
const stateFile = z.object({ version: z.literal(1), images: z.record(z.string(), entry) });
type Entry = z.infer<typeof entry>;

const MAX_IMAGES = 2000;

function credentialsOf(auth: CriAuth): Credentials | undefined {
  if (auth.username !== "") return { type: "basic", username: auth.username, password: auth.password };
  if (auth.identityToken !== "") return { type: "identity-token", token: auth.identityToken };
  if (auth.registryToken !== "") return { type: "registry-token", token: auth.registryToken };
  if (auth.auth === "") return undefined;
  const text = Buffer.from(auth.auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = text.indexOf(":");
  return colon === -1 ? undefined : { type: "basic", username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function normalised(reference: string): string {
  try {
    return formatReference(parseReference(reference));
  } catch {
    return reference;
  }
}

/** Host of a server address, which may be a URL, a host, or a host with a path. */
function hostOf(address: string): string {
  return address.replace(/^[a-z]+:\/\//, "").split("/", 1)[0] ?? "";
}

class RememberedCredentials implements CriKeychain {
  readonly #statePath: string | undefined;
  readonly #logger: Logger;
  readonly #images = new Map<string, Entry>();

  constructor(options: CriKeychainOptions) {
    this.#statePath = options.statePath === "" ? undefined : options.statePath;
    this.#logger = options.logger ?? noLogger;
    this.#load();
  }

  #load(): void {
    if (this.#statePath === undefined) return;
    try {
      const state = stateFile.parse(JSON.parse(readFileSync(this.#statePath, "utf8")));
      for (const [reference, value] of Object.entries(state.images)) this.#images.set(reference, value);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
        this.#logger.warn({ path: this.#statePath }, "remembered credentials can't be read and are ignored; pods have to pull again");
      }
    }
  }

  #save(): void {
    if (this.#statePath === undefined) return;
    try {
      mkdirSync(dirname(this.#statePath), { recursive: true, mode: 0o700 });
      const temporary = `${this.#statePath}.${process.pid}`;
      writeFileSync(temporary, JSON.stringify({ version: 1, images: Object.fromEntries(this.#images) }), { mode: 0o600 });
      renameSync(temporary, this.#statePath);
    } catch (error) {
      this.#logger.warn({ err: error, path: this.#statePath }, "credentials can't be kept for a restart");
    }
  }

  remember(reference: string, auth: CriAuth | undefined): UndoRemember {
    const credentials = auth === undefined ? undefined : credentialsOf(auth);
    if (credentials === undefined || auth === undefined) return () => {};
    const name = normalised(reference);
    const before = this.#images.get(name);
    const value: Entry = { server: hostOf(auth.serverAddress), credentials: credentials as Entry["credentials"] };
    this.#set(name, value);
    return () => {
      if (this.#images.get(name) !== value) return;
      if (before === undefined) this.forget(name);
      else this.#set(name, before);
    };
  }

  #set(name: string, value: Entry): void {
    this.#images.delete(name);
    this.#images.set(name, value);
    while (this.#images.size > MAX_IMAGES) {
      const [oldest] = this.#images.keys();
      if (oldest !== undefined) this.#images.delete(oldest);
    }
    this.#save();
  }

  forget(reference: string): void {
    if (this.#images.delete(normalised(reference))) this.#save();
  }

  async resolve(request: Parameters<Keychain["resolve"]>[0]): Promise<Credentials | undefined> {
    if (request.reference === undefined) return undefined;
    const name = normalised(request.reference);
    const found = this.#images.get(name) ?? this.#ofRepository(repositoryOf(name));
    if (found === undefined) return undefined;
    const host = new URL(request.origin).host;
    const own = hostOf(name);
    // Credentials are for the reference's own registry, unless the pull named another server.
    const allowed = found.server === "" ? [own] : [found.server];
    if (allowed.includes("docker.io") || allowed.includes("index.docker.io")) allowed.push("registry-1.docker.io");
    return allowed.includes(host) ? found.credentials : undefined;
  }

  /** The newest credentials of the same repository: pulls may name a digest where labels name a tag. */
  #ofRepository(repository: string): Entry | undefined {
    let newest: Entry | undefined;
    for (const [reference, value] of this.#images) if (repositoryOf(reference) === repository) newest = value;
    return newest;
  }
}

/** Makes a keychain that is fed by CRI pulls; see `imageServiceProxy`. */
export function createCriKeychain(options: CriKeychainOptions = {}): CriKeychain {
  return new RememberedCredentials(options);
}
