import { type EstargzError, isEstargzError } from "@estargz/interface";
import { hasBit } from "../store/bits.ts";
import { ChunkFiles, type ChunkFilesInit } from "../store/chunk-files.ts";
import { createOpenFiles, type OpenFiles } from "../store/open-files.ts";
import type { StoreFiles } from "../store/store-files.ts";
import { createMemberDecompressor, type MemberDecompressor } from "./decompress.ts";
import { type SharedTransfer, TransferWord } from "./transfer.ts";

/** A chunk that any local layer has, to be copied. */
export interface CopyOrder {
  readonly from: number;
  readonly fromChunk: number;
  readonly to: number;
  readonly chunk: number;
}

/** What decoders are told. */
export type DecoderOrder =
  | { readonly type: "layer"; readonly init: ChunkFilesInit }
  | { readonly type: "forget-layer"; readonly layer: number }
  | { readonly type: "transfer"; readonly transfer: SharedTransfer }
  | { readonly type: "check"; readonly layer: number; readonly chunks: readonly number[]; readonly urgent: boolean }
  | { readonly type: "copy"; readonly copy: CopyOrder }
  | { readonly type: "close" };

/** What became of a chunk. */
export interface ChunkResult {
  readonly layer: number;
  readonly chunk: number;
  /** The transfer it came with; 0 for checks and copies. */
  readonly transfer: number;
  /** `stored`: shown. `bytes`: verified, but not kept. `absent`: to be fetched. `failed`: the source's bytes are wrong. */
  readonly outcome: "stored" | "bytes" | "absent" | "failed";
  readonly bytes?: Uint8Array | undefined;
  readonly error?: { readonly code: EstargzError["code"]; readonly message: string } | undefined;
  /** Code of the file system's error, when bytes could not be kept. */
  readonly storeError?: string | undefined;
}

const BATCH = 64;

/**
 * Decompresses, verifies and writes chunks: one of several that take work from the same transfers. Runs in a thread of its
 * own or, in tests, in the caller's.
 */
export class Decoder {
  readonly #layers = new Map<number, ChunkFiles>();
  readonly #files: OpenFiles;
  readonly #post: (results: readonly ChunkResult[]) => void;
  readonly #decompressor: MemberDecompressor;
  #transfers: SharedTransfer[] = [];
  readonly #urgent: (() => void)[] = [];
  readonly #patient: (() => void)[] = [];
  #results: ChunkResult[] = [];
  closing = false;

  constructor(files: StoreFiles, post: (results: readonly ChunkResult[]) => void, options: { readonly native?: boolean } = {}) {
    this.#decompressor = createMemberDecompressor(options.native ?? true);
    this.#files = createOpenFiles(files);
    this.#post = post;
  }

  /** Takes an order. */
  take(order: DecoderOrder): void {
    switch (order.type) {
      case "layer":
        this.#layers.get(order.init.layer)?.close();
        this.#layers.set(order.init.layer, new ChunkFiles(order.init, this.#files));
        break;
      case "forget-layer":
        this.#layers.get(order.layer)?.close();
        this.#layers.delete(order.layer);
        break;
      case "transfer":
        this.#transfers.push(order.transfer);
        break;
      case "check":
        for (const chunk of order.chunks)
          (order.urgent ? this.#urgent : this.#patient).push(() => this.#check(order.layer, chunk, order.urgent));
        break;
      case "copy":
        this.#urgent.push(() => this.#copy(order.copy));
        break;
      case "close":
        this.closing = true;
        for (const layer of this.#layers.values()) layer.close();
        this.#layers.clear();
        break;
    }
  }

  /** Does one piece of work, the most urgent that can be done; gives false when there is none. */
  step(): boolean {
    const urgent = this.#urgent.shift();
    if (urgent !== undefined) {
      urgent();
      return true;
    }
    const claimed = this.#claim();
    if (claimed !== undefined) {
      this.#decode(claimed.transfer, claimed.member, claimed.priority);
      return true;
    }
    const patient = this.#patient.shift();
    patient?.();
    return patient !== undefined;
  }

  /** Reports what was done since the last report. */
  flush(): void {
    if (this.#results.length === 0) return;
    const results = this.#results;
    this.#results = [];
    this.#post(results);
  }

  #report(result: ChunkResult, now: boolean): void {
    this.#results.push(result);
    if (now || this.#results.length >= BATCH) this.flush();
  }

  #claim(): { transfer: SharedTransfer; member: number; priority: number } | undefined {
    let best: { transfer: SharedTransfer; member: number; priority: number } | undefined;
    let exhausted = false;
    for (const transfer of this.#transfers) {
      const state = new Int32Array(transfer.state);
      const member = Atomics.load(state, TransferWord.claimed);
      const end = transfer.ends[member];
      if (end === undefined || member >= transfer.ends.length) {
        exhausted = true;
        continue;
      }
      const priority = Atomics.load(state, TransferWord.priority);
      if (end <= Atomics.load(state, TransferWord.received) && (best === undefined || priority > best.priority))
        best = { transfer, member, priority };
    }
    if (exhausted)
      this.#transfers = this.#transfers.filter((one) => Atomics.load(new Int32Array(one.state), TransferWord.claimed) < one.ends.length);
    if (best === undefined) return undefined;
    const state = new Int32Array(best.transfer.state);
    const won = Atomics.compareExchange(state, TransferWord.claimed, best.member, best.member + 1) === best.member;
    return won ? best : this.#claim();
  }

  #decode(transfer: SharedTransfer, member: number, priority: number): void {
    const chunks = transfer.chunks.subarray(transfer.members[member], transfer.members[member + 1]);
    const layer = this.#layers.get(transfer.layer);
    const urgent = priority > 0;
    const fail = (chunk: number, error: unknown): void =>
      this.#report({ layer: transfer.layer, chunk, transfer: transfer.id, outcome: "failed", error: describe(error) }, urgent);
    const last = chunks.at(-1);
    if (layer === undefined || last === undefined) {
      for (const chunk of chunks) this.#report({ layer: transfer.layer, chunk, transfer: transfer.id, outcome: "absent" }, urgent);
      return;
    }
    const { index } = layer;
    let output: Uint8Array | undefined;
    try {
      const wanted = chunks.filter((chunk) => transfer.keep || !hasBit(layer.live, chunk));
      let length = 0;
      for (const chunk of wanted) length = Math.max(length, index.chunkInnerOffset(chunk) + index.chunkLength(chunk));
      const start = index.chunkBlobOffset(last) - transfer.blobOffset;
      const bytes = new Uint8Array(transfer.bytes, start, (transfer.ends[member] ?? 0) - start);
      if (length > 0) output = this.#decompressor.decompress(bytes, length, index.compression);
    } catch (error) {
      for (const chunk of chunks) fail(chunk, error);
      return;
    }
    for (const chunk of chunks) {
      try {
        this.#keep(layer, transfer, chunk, output, urgent);
      } catch (error) {
        fail(chunk, error);
      }
    }
  }

  #keep(layer: ChunkFiles, transfer: SharedTransfer, chunk: number, output: Uint8Array | undefined, urgent: boolean): void {
    const result = { layer: layer.layer, chunk, transfer: transfer.id };
    if (output === undefined || (hasBit(layer.live, chunk) && !transfer.keep)) {
      this.#report({ ...result, outcome: "stored" }, urgent);
      return;
    }
    const start = layer.index.chunkInnerOffset(chunk);
    const bytes = output.subarray(start, start + layer.index.chunkLength(chunk));
    layer.verify(chunk, bytes);
    let storeError: string | undefined;
    if (!transfer.keep) {
      try {
        layer.write(chunk, bytes);
        this.#report({ ...result, outcome: "stored" }, urgent);
        return;
      } catch (error) {
        storeError = errorCode(error);
      }
    }
    this.#report({ ...result, outcome: "bytes", bytes: Uint8Array.from(bytes), storeError }, urgent);
  }

  #check(layer: number, chunk: number, urgent: boolean): void {
    let good = false;
    try {
      good = this.#layers.get(layer)?.check(chunk) ?? false;
    } catch {
      // The bitmap could not be changed: absent all the same, and not shown.
    }
    this.#report({ layer, chunk, transfer: 0, outcome: good ? "stored" : "absent" }, urgent);
  }

  #copy(copy: CopyOrder): void {
    const result = { layer: copy.to, chunk: copy.chunk, transfer: 0 };
    try {
      const target = this.#layers.get(copy.to);
      if (target !== undefined && target.index.chunkIsZeros(copy.chunk)) {
        target.writeZeros(copy.chunk);
        this.#report({ ...result, outcome: "stored" }, true);
        return;
      }
      const bytes = this.#layers.get(copy.from)?.read(copy.fromChunk);
      if (target !== undefined && bytes !== undefined && target.index.chunkDigest(copy.chunk) !== undefined) {
        target.verify(copy.chunk, bytes);
        target.write(copy.chunk, bytes);
        this.#report({ ...result, outcome: "stored" }, true);
        return;
      }
    } catch {
      // Gone, damaged or no room: the source has it.
    }
    this.#report({ ...result, outcome: "absent" }, true);
  }
}

function describe(error: unknown): ChunkResult["error"] {
  if (isEstargzError(error)) return { code: error.code, message: error.message };
  return { code: "INVALID_COMPRESSION", message: error instanceof Error ? error.message : String(error) };
}

function errorCode(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : "EIO";
}
