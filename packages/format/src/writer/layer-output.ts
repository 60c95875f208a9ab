import { type Digest, EstargzError } from "@estargz/interface";

/** What is known of a layer once it was written. */
export interface WrittenLayer {
  /** Digest and size of the blob. */
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
  /** Digest and size of the uncompressed stream, as an unpacker sees it. */
  readonly diffId: Digest;
  readonly uncompressedSize: number;
  readonly tocDigest: Digest;
  /** The TOC's JSON. */
  readonly tocBytes: Uint8Array;
  /** To be put on the layer's descriptor. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Prioritised paths that don't exist (`allowMissingFiles`). */
  readonly missingFiles: readonly string[];
  /** The blob that holds the TOC (`externalToc`), to be stored as a layer of the TOC image. */
  readonly externalToc:
    | {
        readonly bytes: Uint8Array;
        readonly digest: Digest;
        readonly size: number;
        readonly mediaType: string;
        readonly annotations: Readonly<Record<string, string>>;
      }
    | undefined;
}

/** A layer that is being written: nothing happens before `bytes` is read, and no faster. */
export interface LayerOutput {
  /** The blob. To be read once, to its end. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Resolves after the last bytes; rejects with what stopped the writing, with `CLOSED` if `bytes` was not read to its end. */
  readonly result: Promise<WrittenLayer>;
}

/** Makes an output of a generator that returns the result. */
export function createOutput(run: () => AsyncGenerator<Uint8Array, WrittenLayer, undefined>): LayerOutput {
  let resolve: (layer: WrittenLayer) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<WrittenLayer>((onResult, onError) => {
    resolve = onResult;
    reject = onError;
  });
  // Whoever reads `bytes` sees the error there.
  promise.catch(() => {});
  async function* bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      resolve(yield* run());
    } catch (error) {
      reject(error);
      throw error;
    } finally {
      // Without effect once it is settled.
      reject(new EstargzError("CLOSED", "the layer was not read to its end"));
    }
  }
  return { bytes: bytes(), result: promise };
}
