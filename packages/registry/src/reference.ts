import { type Digest, EstargzError, parseDigest } from "@estargz/interface";

/** A parsed image reference. */
export interface Reference {
  /** Host and port as the reference names them, `docker.io` by default. */
  readonly host: string;
  /** Repository in that host, like `library/node`. */
  readonly repository: string;
  /** Tag; `latest` when neither tag nor digest is given, `undefined` when only a digest is. */
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

const HOST =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const MAX_REFERENCE_LENGTH = 4096;
const MAX_NAME_LENGTH = 255;

function invalid(text: string, why: string): EstargzError {
  const shown = text.length > 120 ? `${text.slice(0, 120)}…` : text;
  return new EstargzError("INVALID_REFERENCE", `${JSON.stringify(shown)} is not an image reference: ${why}`);
}

/** Says whether the first part of a reference names a host rather than a piece of a repository. */
function isHost(part: string): boolean {
  return part.includes(".") || part.includes(":") || part === "localhost" || part.toLowerCase() !== part;
}

/**
 * Parses `[host[:port]/]repository[:tag][@digest]` with Docker's defaults: `node` is `docker.io/library/node:latest`.
 * Every later request is built from these checked parts only.
 *
 * @throws `INVALID_REFERENCE`, saying which part is wrong.
 *
 * @example
 * ```ts
 * parseReference("ghcr.io/org/app:1.2");
 * // => { host: "ghcr.io", repository: "org/app", tag: "1.2", digest: undefined }
 * ```
 */
export function parseReference(text: string): Reference {
  if (text.length === 0) throw invalid(text, "it is empty");
  if (text.length > MAX_REFERENCE_LENGTH) throw invalid(text, `it is longer than ${MAX_REFERENCE_LENGTH} characters`);
  const at = text.indexOf("@");
  let digest: Digest | undefined;
  if (at >= 0) {
    try {
      digest = parseDigest(text.slice(at + 1));
    } catch (cause) {
      throw new EstargzError("INVALID_REFERENCE", `${JSON.stringify(text.slice(0, 120))} has a malformed digest after its @`, { cause });
    }
  }
  let name = at >= 0 ? text.slice(0, at) : text;
  let tag: string | undefined;
  const colon = name.lastIndexOf(":");
  if (colon > name.lastIndexOf("/")) {
    tag = name.slice(colon + 1);
    name = name.slice(0, colon);
    if (!TAG.test(tag)) throw invalid(text, "its tag may have letters, digits, _ . - only, 128 at most");
  }
  const slash = name.indexOf("/");
  const first = slash >= 0 ? name.slice(0, slash) : "";
  let host = "docker.io";
  let repository = name;
  if (slash >= 0 && isHost(first)) {
    host = first === "index.docker.io" || first === "registry-1.docker.io" ? "docker.io" : first;
    repository = name.slice(slash + 1);
  }
  if (!HOST.test(host)) throw invalid(text, "its host is malformed");
  if (host === "docker.io" && !repository.includes("/")) repository = `library/${repository}`;
  checkRepository(text, repository);
  if (tag === undefined && digest === undefined) tag = "latest";
  return { host, repository, tag, digest };
}

function checkRepository(text: string, repository: string): void {
  if (repository.length > MAX_NAME_LENGTH) throw invalid(text, `its repository is longer than ${MAX_NAME_LENGTH} characters`);
  for (const component of repository.split("/")) {
    if (COMPONENT.test(component)) continue;
    const why = component.toLowerCase() === component ? "its repository is malformed" : "its repository must be lower case";
    throw invalid(text, why);
  }
}

/** Writes a reference in full, the same for every spelling of it. */
export function formatReference(reference: Reference): string {
  const { host, repository, tag, digest } = reference;
  return `${host}/${repository}${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}
