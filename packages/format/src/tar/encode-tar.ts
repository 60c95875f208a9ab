import { EstargzError } from "@estargz/interface";
import { asciiBytes, concatBytes } from "../bytes.ts";
import { encodePax } from "./pax.ts";
import type { TarHeader, TarKind } from "./tar-entry.ts";
import { BLOCK_BYTES } from "./tar-header.ts";

const TYPE_FLAGS: Readonly<Record<Exclude<TarKind, "skip">, string>> = {
  reg: "0",
  hardlink: "1",
  symlink: "2",
  char: "3",
  block: "4",
  dir: "5",
  fifo: "6",
};

const encoder = new TextEncoder();
const ASCII = /^[ -~]*$/;

/**
 * Writes the header blocks of an entry: ustar where everything fits, with PAX records for what doesn't (POSIX pax). The same header
 * gives the same bytes.
 *
 * @throws {@link EstargzError} `INVALID_ARGUMENT` for what no tar can hold.
 */
export function encodeTarHeader(header: TarHeader): Uint8Array {
  if (header.kind === "skip") throw new EstargzError("INVALID_ARGUMENT", "an entry without a kind can't be written");
  const pax = new Map<string, Uint8Array | string>();
  const block = new Uint8Array(BLOCK_BYTES);
  const name = splitName(header.name);
  if (name === undefined) pax.set("path", header.name);
  putText(block, 0, 100, name?.name ?? encoder.encode(header.name).subarray(0, 100));
  if (name !== undefined) putText(block, 345, 155, name.prefix);
  const linkFits = ASCII.test(header.linkName) && header.linkName.length <= 100;
  if (!linkFits) pax.set("linkpath", header.linkName);
  putText(block, 157, 100, encoder.encode(header.linkName).subarray(0, 100));
  putNumber(block, 100, 8, header.mode % 0o10000000, "mode", pax);
  putNumber(block, 108, 8, header.uid, "uid", pax);
  putNumber(block, 116, 8, header.gid, "gid", pax);
  putNumber(block, 124, 12, header.size, "size", pax);
  putTime(block, header.mtime, pax);
  block[156] = TYPE_FLAGS[header.kind].charCodeAt(0);
  block.set(asciiBytes("ustar\u000000"), 257);
  putOwner(block, 265, header.userName, "uname", pax);
  putOwner(block, 297, header.groupName, "gname", pax);
  putDevice(block, header);
  for (const attribute of [...header.xattrs.keys()].sort()) {
    if (attribute.includes("="))
      throw new EstargzError("UNSUPPORTED", `the xattr ${JSON.stringify(attribute)} has a "=", which PAX records can't hold`);
    pax.set(`SCHILY.xattr.${attribute}`, header.xattrs.get(attribute) as Uint8Array);
  }
  putChecksum(block);
  return pax.size === 0 ? block : concatBytes([encodePaxEntry(pax, header.name), block]);
}

function encodePaxEntry(records: ReadonlyMap<string, Uint8Array | string>, name: string): Uint8Array {
  const content = encodePax(records);
  const block = new Uint8Array(BLOCK_BYTES);
  // For readers that don't know PAX.
  const shown =
    name
      .replaceAll(/[^ -~]/g, "_")
      .split("/")
      .findLast((part) => part !== "") ?? "root";
  putText(block, 0, 100, asciiBytes(`PaxHeaders.0/${shown}`.slice(0, 100)));
  putNumber(block, 100, 8, 0o644, "mode");
  putNumber(block, 108, 8, 0, "uid");
  putNumber(block, 116, 8, 0, "gid");
  putNumber(block, 124, 12, content.length, "size");
  putNumber(block, 136, 12, 0, "mtime");
  block[156] = "x".charCodeAt(0);
  block.set(asciiBytes("ustar\u000000"), 257);
  putChecksum(block);
  return concatBytes([block, content, new Uint8Array(paddingOf(content.length))]);
}

/** Bytes that fill up `length` to whole blocks. */
export function paddingOf(length: number): number {
  return (BLOCK_BYTES - (length % BLOCK_BYTES)) % BLOCK_BYTES;
}

function splitName(name: string): { name: Uint8Array; prefix: Uint8Array } | undefined {
  if (!ASCII.test(name)) return undefined;
  if (name.length <= 100) return { name: asciiBytes(name), prefix: new Uint8Array(0) };
  for (let slash = name.indexOf("/"); slash >= 0 && slash <= 155; slash = name.indexOf("/", slash + 1)) {
    const rest = name.slice(slash + 1);
    if (slash > 0 && rest !== "" && rest.length <= 100) return { name: asciiBytes(rest), prefix: asciiBytes(name.slice(0, slash)) };
  }
  return undefined;
}

function putText(block: Uint8Array, offset: number, length: number, bytes: Uint8Array): void {
  block.set(bytes.subarray(0, length), offset);
}

function putNumber(
  block: Uint8Array,
  offset: number,
  length: number,
  value: number,
  what: string,
  pax?: Map<string, Uint8Array | string>,
): void {
  if (!Number.isSafeInteger(value)) throw new EstargzError("INVALID_ARGUMENT", `the ${what} of a tar entry is ${value} and not an integer`);
  const fits = value >= 0 && value < 8 ** (length - 1);
  if (!fits && pax === undefined) throw new EstargzError("INVALID_ARGUMENT", `the ${what} of a tar entry is ${value}, which doesn't fit`);
  if (!fits) pax?.set(what, String(value));
  block.set(asciiBytes((fits ? value : 0).toString(8).padStart(length - 1, "0")), offset);
}

function putTime(block: Uint8Array, mtime: TarHeader["mtime"], pax: Map<string, Uint8Array | string>): void {
  const { seconds, nanoseconds } = mtime;
  const fits = seconds >= 0 && seconds < 8 ** 11;
  putNumber(block, 136, 12, fits ? seconds : 0, "mtime");
  if (fits && nanoseconds === 0) return;
  const total = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
  const size = total < 0n ? -total : total;
  const fraction = (size % 1_000_000_000n).toString().padStart(9, "0").replace(/0+$/, "");
  pax.set("mtime", `${total < 0n ? "-" : ""}${size / 1_000_000_000n}${fraction === "" ? "" : `.${fraction}`}`);
}

function putOwner(block: Uint8Array, offset: number, name: string, key: string, pax: Map<string, Uint8Array | string>): void {
  if (ASCII.test(name) && name.length < 32) putText(block, offset, 32, asciiBytes(name));
  else pax.set(key, name);
}

function putDevice(block: Uint8Array, header: TarHeader): void {
  const isDevice = header.kind === "char" || header.kind === "block";
  for (const [offset, value] of [
    [329, isDevice ? header.devMajor : 0],
    [337, isDevice ? header.devMinor : 0],
  ] as const) {
    if (value < 8 ** 7) putNumber(block, offset, 8, value, "device number");
    else putBase256(block, offset, 8, value);
  }
}

/** GNU's way for numbers that octal digits can't hold; PAX has no record for device numbers. */
function putBase256(block: Uint8Array, offset: number, length: number, value: number): void {
  let left = BigInt(value);
  for (let i = offset + length - 1; i > offset; i -= 1) {
    block[i] = Number(left & 0xffn);
    left >>= 8n;
  }
  block[offset] = 0x80;
}

function putChecksum(block: Uint8Array): void {
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.set(asciiBytes(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
}
