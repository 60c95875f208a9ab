import { EstargzError, type ReaderAt } from "@estargz/interface";
import type { TarHeader, TarKind } from "../tar/tar-entry.ts";
import { readBlob } from "./tar-source.ts";

/** What every entry can have. */
export interface EntryOptions {
  /** Permission bits with setuid, setgid and sticky. Default 0o755 for directories, 0o777 for symlinks, 0o644 otherwise. */
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly userName?: string | undefined;
  readonly groupName?: string | undefined;
  /** A `Date`, or nanoseconds since 1970. Default 1970, so that the same files give the same layer. */
  readonly mtime?: Date | bigint | undefined;
  readonly xattrs?: ReadonlyMap<string, Uint8Array> | Readonly<Record<string, Uint8Array | string>> | undefined;
}

/** Content of a file. A stream needs its size beforehand. */
export type FileContent =
  | string
  | Uint8Array
  | Blob
  | ReaderAt
  | { readonly size: number; readonly stream: () => AsyncIterable<Uint8Array> };

/** An entry to write; made by {@link file}, {@link directory} and so on. */
export interface LayerInput {
  readonly header: TarHeader;
  readonly content: () => AsyncIterable<Uint8Array>;
}

/** A regular file. */
export function file(path: string, content: FileContent, options: EntryOptions = {}): LayerInput {
  const { size, open } = openContent(content, path);
  return { header: makeHeader("reg", path, options, { size }), content: open };
}

/** A directory. */
export function directory(path: string, options: EntryOptions = {}): LayerInput {
  return { header: makeHeader("dir", path.endsWith("/") ? path : `${path}/`, options, {}), content: nothing };
}

/** A symbolic link with its target as it is to stand in the link. */
export function symlink(path: string, target: string, options: EntryOptions = {}): LayerInput {
  return { header: makeHeader("symlink", path, options, { linkName: target }), content: nothing };
}

/** Another name of a file of the same layer. */
export function hardLink(path: string, target: string, options: EntryOptions = {}): LayerInput {
  return { header: makeHeader("hardlink", path, options, { linkName: target }), content: nothing };
}

/** A character or block device. */
export function device(path: string, kind: "char" | "block", major: number, minor: number, options: EntryOptions = {}): LayerInput {
  return { header: makeHeader(kind, path, options, { devMajor: major, devMinor: minor }), content: nothing };
}

/** A named pipe. */
export function fifo(path: string, options: EntryOptions = {}): LayerInput {
  return { header: makeHeader("fifo", path, options, {}), content: nothing };
}

const encoder = new TextEncoder();

function makeHeader(kind: TarKind, name: string, options: EntryOptions, special: Partial<TarHeader>): TarHeader {
  const defaultMode = kind === "dir" ? 0o755 : kind === "symlink" ? 0o777 : 0o644;
  const mode = options.mode ?? defaultMode;
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) throw invalid(name, `mode is ${mode}; it has to be from 0 to 0o7777`);
  for (const [key, id] of [
    ["uid", options.uid ?? 0],
    ["gid", options.gid ?? 0],
  ] as const) {
    if (!Number.isInteger(id) || id < 0 || id > 0xffff_ffff) throw invalid(name, `${key} is ${id}; it has to be from 0 to 2^32 - 1`);
  }
  if (name === "" || `${name}${special.linkName ?? ""}`.includes("\0") || !`${name}\n${special.linkName ?? ""}`.isWellFormed()) {
    throw invalid(name, "its name or target is not one that a file can have");
  }
  return {
    name,
    kind,
    linkName: "",
    mode,
    uid: options.uid ?? 0,
    gid: options.gid ?? 0,
    mtime: splitTime(options.mtime ?? 0n),
    userName: options.userName ?? "",
    groupName: options.groupName ?? "",
    devMajor: 0,
    devMinor: 0,
    size: 0,
    xattrs: toXattrs(options.xattrs),
    ...special,
  };
}

function invalid(name: string, reason: string): EstargzError {
  return new EstargzError("INVALID_ARGUMENT", `entry ${JSON.stringify(name)}: ${reason}`);
}

function splitTime(time: Date | bigint): TarHeader["mtime"] {
  const nanoseconds = typeof time === "bigint" ? time : BigInt(time.getTime()) * 1_000_000n;
  const rest = ((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return { seconds: Number((nanoseconds - rest) / 1_000_000_000n), nanoseconds: Number(rest) };
}

function toXattrs(xattrs: EntryOptions["xattrs"]): ReadonlyMap<string, Uint8Array> {
  if (xattrs === undefined) return new Map();
  if (xattrs instanceof Map) return xattrs as ReadonlyMap<string, Uint8Array>;
  return new Map(
    Object.entries(xattrs).map(([name, value]: [string, Uint8Array | string]) => [
      name,
      typeof value === "string" ? encoder.encode(value) : value,
    ]),
  );
}

async function* nothing(): AsyncIterable<Uint8Array> {}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}

function openContent(content: FileContent, path: string): { size: number; open: () => AsyncIterable<Uint8Array> } {
  if (typeof content === "string") return openContent(encoder.encode(content), path);
  if (content instanceof Uint8Array) return { size: content.length, open: () => once(content) };
  if (typeof Blob !== "undefined" && content instanceof Blob) return { size: content.size, open: () => blobStream(content) };
  if ("readAt" in content) {
    if (content.size === undefined) throw invalid(path, "the size of its content is not known; read the blob's tail first");
    return { size: content.size, open: () => readBlob(content) };
  }
  if (!("stream" in content) || typeof content.stream !== "function") throw invalid(path, "its content is of no kind that can be written");
  return { size: content.size, open: () => (content as { stream: () => AsyncIterable<Uint8Array> }).stream() };
}

const PIECE_BYTES = 1 << 20;

async function* blobStream(blob: Blob): AsyncIterable<Uint8Array> {
  for (let at = 0; at < blob.size; at += PIECE_BYTES) yield new Uint8Array(await blob.slice(at, at + PIECE_BYTES).arrayBuffer());
}
