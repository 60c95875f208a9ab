import type { Digest, EstargzError } from "@estargz/interface";

/** What the thread that opens layers is asked. */
export type OpenOrder =
  | {
      readonly type: "open";
      readonly id: number;
      readonly size: number | undefined;
      /** How much of the blob's end to read first; it is on its way already. `undefined`: the thread decides. */
      readonly tailBytes: number | undefined;
      readonly layerDigest: Digest;
      /** Expected digest of the TOC; without it the TOC is taken as it is, and the caller compares. */
      readonly tocDigest: Digest | undefined;
      /** Whether chunks without digests are taken, and the layer counts as unverified. */
      readonly allowUnverified: boolean;
      readonly annotations: Readonly<Record<string, string>> | undefined;
    }
  | { readonly type: "read"; readonly id: number; readonly read: number; readonly bytes: Uint8Array; readonly size: number | undefined }
  | {
      readonly type: "make";
      readonly id: number;
      readonly directory: string;
      readonly index: ArrayBuffer;
      readonly ownFiles: readonly number[];
    }
  | { readonly type: "read-failed"; readonly id: number; readonly read: number; readonly error: PostedError };

/** What that thread says. */
export type OpenReply =
  | {
      readonly type: "read";
      readonly id: number;
      readonly read: number;
      readonly kind: "range" | "tail" | "toc";
      readonly offset: number;
      readonly length: number;
    }
  | { readonly type: "opened"; readonly id: number; readonly index: ArrayBuffer }
  | { readonly type: "made"; readonly id: number }
  | { readonly type: "failed"; readonly id: number; readonly error: PostedError };

/** An error on its way between threads: a class does not survive the way. */
export interface PostedError {
  readonly code: EstargzError["code"] | undefined;
  readonly message: string;
  readonly details: EstargzError["details"];
}
