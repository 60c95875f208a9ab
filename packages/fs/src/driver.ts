import type { LatencyHistogram } from "./dev-fuse/session-statistics.ts";
import type { LayerIndex } from "./layer-index.ts";

/** Local data of an attached layer, as a driver reads it without asking anyone. */
export interface DriverStore {
  /**
   * Path of the layer's sparse data file. A regular file's bytes lie from `index.dataOffset(inode)` on in
   * `dataFilePath(dataPath, index, inode)`: this file, or for big files one of its own. Open it when a bit says that
   * something is there; a bit may be taken back (eviction), so look at it again after reading and discard what was read
   * if it is gone.
   */
  readonly dataPath: string;
  /**
   * One bit a chunk, least significant first: set once the chunk's verified bytes are in the data file. Shared between threads.
   * Of any length that holds the bits: read it by bytes.
   */
  readonly bitmap: SharedArrayBuffer;
  /**
   * Path of a wholly local file's own backing file (offset 0 is the file's offset 0), if it has one. For passthrough:
   * the file is not evicted while the layer is attached once this was called.
   */
  backingPath(inode: number): string | undefined;
}

/** A layer as a driver shows it. */
export interface DriverLayer {
  /** Name of its directory in the mount: a number of its own, never used twice in a state directory. */
  readonly number: number;
  /** Good until {@link Driver.detach} has resolved, or as long as the driver holds it ({@link LayerIndex.hold}). */
  readonly index: LayerIndex;
  readonly store: DriverStore;
  /**
   * Brings the bytes of a file's range into the store and resolves when they can be read there. Called for misses
   * only. When they can't be kept (disk full), and for `index.stateFile` always, the bytes themselves are given: exactly
   * `length` of them, less only at the file's end. Rejects with the signal's reason, or an error for `errnoOf`.
   *
   * @param signal - Aborted when the kernel interrupts the request.
   */
  fetch(inode: number, offset: number, length: number, signal: AbortSignal): Promise<Uint8Array | undefined>;
}

/** Counts of requests by kind, for metrics. */
export interface DriverStatistics {
  readonly requests: Readonly<Record<string, number>>;
  readonly misses: number;
  readonly errors: number;
  /** How long requests of each kind took, where the driver measures that; `read_miss` are reads that waited for bytes. */
  readonly latencies?: Readonly<Record<string, LatencyHistogram>> | undefined;
}

/** Shows layers to the kernel, by inode. */
export interface Driver {
  readonly name: "dev-fuse" | "fuse-native";
  /** Shows a layer; gives the absolute path of its root directory, which stays the same after a restart. */
  attach(layer: DriverLayer): Promise<string>;
  /**
   * Says that every layer the former process showed was attached again. Until then, requests for layers that a
   * driver with taken-over mounts does not know wait; afterwards they are answered with ENOENT. Called once, also
   * when there was no former process. Drivers that take nothing over ignore it.
   */
  ready(): Promise<void>;
  /**
   * Path of an attached layer's root directory where questions for absent extended attributes are answered with ENODATA, as
   * on any local file system. At the path that {@link Driver.attach} gives they may fail with EOPNOTSUPP, because only
   * then the kernel stops asking; programs that compare trees (containerd's Diff service) take that for an error.
   * `undefined` when both are the same.
   */
  exactPath(number: number): string | undefined;
  /** Takes a layer away. Open files of it go on to be readable only until the driver closes. */
  detach(number: number): Promise<void>;
  statistics(): DriverStatistics;
  /** Ends. With `unmount` false, mounts stay for the next process if this driver can hand them over. */
  close(options?: { readonly unmount?: boolean | undefined }): Promise<void>;
}
