import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Digest } from "@estargz/interface";

const folder = new URL("../../../fixtures/go-estargz/", import.meta.url);

/** A blob of the reference library, as fixtures/go-estargz/index.json describes it. */
export interface FixtureBlob {
  readonly file?: string;
  readonly source: string;
  readonly sha256?: string;
  readonly size?: number;
  readonly diffID?: Digest;
  readonly tocDigest?: Digest;
  readonly tocOffset?: number;
  readonly footerSize?: number;
  readonly uncompressedSize?: number;
  readonly uncompressedSha256?: string;
  readonly manifestAnnotations?: Readonly<Record<string, string>>;
  readonly externalTOC?: { readonly sha256: string; readonly size: number };
  readonly options: readonly string[];
  readonly error?: string;
}

/** What the reference's reader sees of one path. */
export interface FixtureEntry {
  readonly path: string;
  readonly type: string;
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly nlink: number;
  readonly mtime: string;
  readonly link?: string;
  readonly dev?: readonly number[];
  readonly content_sha256?: string;
  readonly xattrs?: Readonly<Record<string, string>>;
  readonly chunks?: null | readonly { chunkOffset: number; chunkSize: number; digest: string; offset: number; next: number }[];
}

export function fixtureBytes(name: string): Uint8Array {
  return new Uint8Array(readFileSync(fileURLToPath(new URL(name, folder))));
}

export function fixtureJson<T>(name: string): T {
  return JSON.parse(new TextDecoder().decode(fixtureBytes(name))) as T;
}

const index = fixtureJson<{ blobs: Record<string, FixtureBlob>; sources: Record<string, { file: string; sha256: string; size: number }> }>(
  "index.json",
);

/** Blobs that the reference could make, by name. */
export const fixtureBlobs: [string, FixtureBlob & { file: string }][] = Object.entries(index.blobs).flatMap(([name, blob]) =>
  blob.file === undefined ? [] : [[name, { ...blob, file: blob.file }]],
);

export const fixtureSources: Readonly<Record<string, { file: string; sha256: string; size: number }>> = index.sources;
