import { EstargzError } from "@estargz/interface";
import { type PaxRecords } from "./pax.ts";
import { invalidTar, type RawHeader } from "./tar-header.ts";

/** What kind of thing a tar entry is. `skip` is for entries that are no file: volume labels. */
export type TarKind = "dir" | "reg" | "symlink" | "hardlink" | "char" | "block" | "fifo" | "skip";

/** A tar entry's header with everything applied: PAX records, global records, GNU long names. */
export interface TarHeader {
  /** The name as it stands in the tar. */
  readonly name: string;
  readonly kind: TarKind;
  readonly linkName: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970, and nanoseconds from 0 on. */
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  readonly userName: string;
  readonly groupName: string;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Bytes of the file; of a sparse file with its holes. */
  readonly size: number;
  /** Extended attributes, from `SCHILY.xattr.` records. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const XATTR_PREFIX = "SCHILY.xattr.";

const KINDS: Readonly<Record<string, TarKind>> = {
  "0": "reg",
  "\0": "reg",
  "7": "reg",
  S: "reg",
  "1": "hardlink",
  "2": "symlink",
  "3": "char",
  "4": "block",
  "5": "dir",
  "6": "fifo",
  V: "skip",
};

/** Kind of an entry by its type flag. Throws `UNSUPPORTED` for flags that nobody can unpack. */
function kindOf(raw: RawHeader, name: string): TarKind {
  if (raw.type === "\0" && name.endsWith("/")) return "dir";
  const kind = KINDS[raw.type];
  if (kind !== undefined) return kind;
  throw new EstargzError("UNSUPPORTED", `the tar has an entry of type ${JSON.stringify(raw.type)}, which layers can't have`);
}

/** What is taken from long-name entries before a header. */
export interface LongNames {
  readonly name?: Uint8Array | undefined;
  readonly linkName?: Uint8Array | undefined;
}

/** Puts a header together. PAX records win over long names, and those over the block. */
export function composeHeader(raw: RawHeader, long: LongNames, pax: PaxRecords, position: number): TarHeader {
  const name = decodeName(pax.get("GNU.sparse.name") ?? nonEmpty(pax.get("path")) ?? long.name ?? raw.name, position);
  const kind = kindOf(raw, name);
  const hasPayload = kind === "reg" || kind === "skip";
  return {
    name,
    kind,
    linkName:
      kind === "symlink" || kind === "hardlink" ? decodeName(nonEmpty(pax.get("linkpath")) ?? long.linkName ?? raw.linkName, position) : "",
    mode: raw.mode,
    uid: paxInteger(pax, "uid", position) ?? raw.uid,
    gid: paxInteger(pax, "gid", position) ?? raw.gid,
    mtime: paxTime(pax, position) ?? { seconds: raw.mtime, nanoseconds: 0 },
    userName: decodeOwner(nonEmpty(pax.get("uname")) ?? raw.userName),
    groupName: decodeOwner(nonEmpty(pax.get("gname")) ?? raw.groupName),
    devMajor: raw.devMajor,
    devMinor: raw.devMinor,
    size: hasPayload ? (paxInteger(pax, "size", position) ?? raw.size) : 0,
    xattrs: xattrsOf(pax),
  };
}

function nonEmpty(value: Uint8Array | undefined): Uint8Array | undefined {
  return value === undefined || value.length === 0 ? undefined : value;
}

function decodeName(bytes: Uint8Array, position: number): string {
  let name: string;
  try {
    name = decoder.decode(bytes);
  } catch (error) {
    throw new EstargzError("UNSUPPORTED", `a name in the tar, at byte ${position}, is not UTF-8; the index of a layer can't hold it`, {
      cause: error,
    });
  }
  if (name.includes("\0")) throw invalidTar("a name has a NUL", position);
  return name;
}

/** Names of owners are only for show: what isn't UTF-8 in them is left out. */
function decodeOwner(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    return "";
  }
}

/** An integer record; `undefined` if it isn't there or empty. */
export function paxInteger(pax: PaxRecords, key: string, position: number): number | undefined {
  const value = nonEmpty(pax.get(key));
  if (value === undefined) return undefined;
  const text = String.fromCharCode(...value.subarray(0, 20));
  const number = /^-?\d{1,16}$/.test(text) && value.length <= 20 ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw invalidTar(`the PAX record ${key} is not an integer`, position);
}

function paxTime(pax: PaxRecords, position: number): TarHeader["mtime"] | undefined {
  const value = nonEmpty(pax.get("mtime"));
  if (value === undefined) return undefined;
  const match = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(String.fromCharCode(...value.subarray(0, 64)));
  if (match === null) throw invalidTar("the PAX record mtime is not a number", position);
  const seconds = Number(match[2]);
  const nanoseconds = Number((match[3] ?? "").slice(0, 9).padEnd(9, "0"));
  if (match[1] === "") return { seconds, nanoseconds };
  return nanoseconds === 0 ? { seconds: 0 - seconds, nanoseconds } : { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

function xattrsOf(pax: PaxRecords): ReadonlyMap<string, Uint8Array> {
  const xattrs = new Map<string, Uint8Array>();
  for (const [key, value] of pax) if (key.startsWith(XATTR_PREFIX)) xattrs.set(key.slice(XATTR_PREFIX.length), value);
  return xattrs;
}
