/** Flavours of tar that {@link buildTar} writes. */
export type TarFlavour = "ustar" | "pax" | "gnu";

/** An entry of a tar that a test makes. */
export interface TarSpec {
  readonly name: string;
  /**
   * `reg`, `dir`, `symlink`, `hardlink`, `char`, `block`, `fifo`, or a type flag itself. Default `reg`, or `dir` for a name with a slash
   * at its end.
   */
  readonly type?: string | undefined;
  readonly content?: Uint8Array | string | undefined;
  readonly linkName?: string | undefined;
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly userName?: string | undefined;
  readonly groupName?: string | undefined;
  /** Whole seconds since 1970. */
  readonly mtime?: number | undefined;
  readonly devMajor?: number | undefined;
  readonly devMinor?: number | undefined;
  /** PAX records by key, besides those that the entry needs itself. */
  readonly pax?: Readonly<Record<string, Uint8Array | string>> | undefined;
  /** Extended attributes, written as PAX records in every flavour. */
  readonly xattrs?: Readonly<Record<string, Uint8Array | string>> | undefined;
}

const FLAGS: Readonly<Record<string, string>> = { reg: "0", hardlink: "1", symlink: "2", char: "3", block: "4", dir: "5", fifo: "6" };
const encoder = new TextEncoder();

/**
 * Builds a tar for tests, in the flavour asked for: ustar (names up to 255 bytes), pax (records for long names and large numbers) or GNU
 * (`@LongLink`, base-256). It is written apart from the code under test on purpose.
 */
export function buildTar(entries: readonly TarSpec[], flavour: TarFlavour = "pax", trailingBytes = 1024): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const entry of entries) {
    const content = typeof entry.content === "string" ? encoder.encode(entry.content) : (entry.content ?? new Uint8Array(0));
    parts.push(...entryHeaders(entry, content.length, flavour), content, padding(content.length));
  }
  parts.push(new Uint8Array(trailingBytes));
  return join(parts);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

function padding(length: number): Uint8Array {
  return new Uint8Array((512 - (length % 512)) % 512);
}

function entryHeaders(entry: TarSpec, size: number, flavour: TarFlavour): Uint8Array[] {
  const flag = FLAGS[entry.type ?? (entry.name.endsWith("/") ? "dir" : "reg")] ?? entry.type ?? "0";
  const headers: Uint8Array[] = [];
  const records = new Map<string, Uint8Array | string>(Object.entries(entry.pax ?? {}));
  for (const [name, value] of Object.entries(entry.xattrs ?? {})) records.set(`SCHILY.xattr.${name}`, value);
  const longName = encoder.encode(entry.name).length > 100;
  const longLink = encoder.encode(entry.linkName ?? "").length > 100;
  if (flavour === "gnu") {
    if (longLink) headers.push(...longEntry("K", entry.linkName ?? ""));
    if (longName) headers.push(...longEntry("L", entry.name));
  } else if (flavour === "pax") {
    if (longName || /[^ -~]/.test(entry.name)) records.set("path", entry.name);
    if (longLink || /[^ -~]/.test(entry.linkName ?? "")) records.set("linkpath", entry.linkName ?? "");
    if ((entry.uid ?? 0) > 0o7777777) records.set("uid", String(entry.uid));
    if ((entry.gid ?? 0) > 0o7777777) records.set("gid", String(entry.gid));
  }
  if (records.size > 0) headers.push(...paxEntry(records));
  headers.push(headerBlock(entry, flag, size, flavour));
  return headers;
}

function longEntry(flag: string, text: string): Uint8Array[] {
  const content = encoder.encode(`${text}\0`);
  return [headerBlock({ name: "././@LongLink" }, flag, content.length, "gnu"), content, padding(content.length)];
}

/** Blocks of a PAX header with these records; type `g` makes a global one. */
export function paxEntry(records: ReadonlyMap<string, Uint8Array | string>, type: "x" | "g" = "x"): Uint8Array[] {
  const content = join(
    [...records].map(([key, value]) => {
      const rest = join([encoder.encode(` ${key}=`), typeof value === "string" ? encoder.encode(value) : value, encoder.encode("\n")]);
      let length = rest.length + 1;
      while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
      return join([encoder.encode(String(length)), rest]);
    }),
  );
  return [headerBlock({ name: "PaxHeaders.0/x" }, type, content.length, "ustar"), content, padding(content.length)];
}

function headerBlock(entry: TarSpec, flag: string, size: number, flavour: TarFlavour): Uint8Array {
  const block = new Uint8Array(512);
  const text = (offset: number, length: number, value: string): void => {
    block.set(encoder.encode(value).subarray(0, length), offset);
  };
  const number = (offset: number, length: number, value: number): void => {
    if (value < 8 ** (length - 1)) text(offset, length, value.toString(8).padStart(length - 1, "0"));
    else if (flavour === "gnu" || offset >= 329) {
      let left = BigInt(value);
      for (let i = offset + length - 1; i >= offset; i -= 1, left >>= 8n) block[i] = Number(left & 0xffn);
      block[offset] = (block[offset] as number) | 0x80;
    } else text(offset, length, "0".repeat(length - 1));
  };
  const bytes = encoder.encode(entry.name);
  if (flavour === "ustar" && bytes.length > 100) {
    const slash = entry.name.indexOf("/", entry.name.length - 101);
    text(0, 100, entry.name.slice(slash + 1));
    text(345, 155, entry.name.slice(0, slash));
  } else text(0, 100, entry.name);
  number(100, 8, entry.mode ?? (flag === "5" ? 0o755 : flag === "2" ? 0o777 : 0o644));
  number(108, 8, entry.uid ?? 0);
  number(116, 8, entry.gid ?? 0);
  number(124, 12, size);
  number(136, 12, entry.mtime ?? 0);
  text(156, 1, flag);
  text(157, 100, entry.linkName ?? "");
  text(257, 8, flavour === "gnu" ? "ustar  \0" : "ustar\u000000");
  text(265, 31, entry.userName ?? "");
  text(297, 31, entry.groupName ?? "");
  number(329, 8, entry.devMajor ?? 0);
  number(337, 8, entry.devMinor ?? 0);
  block.fill(0x20, 148, 156);
  text(
    148,
    8,
    `${block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0")}\0 `,
  );
  return block;
}
