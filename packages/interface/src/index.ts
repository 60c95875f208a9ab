/**
 * Contracts between the estargz packages, and the error they all throw. Almost no code: depend on it to
 * implement a seam (a `ReaderAt` of your own, a `Keychain`, a `LayerSource`).
 *
 * @packageDocumentation
 */
export type { Clock } from "./clock.ts";
export { systemClock } from "./clock.ts";
export type { Codec, DecodeOptions } from "./codec.ts";
export type { Descriptor, Platform } from "./descriptor.ts";
export type { Digest } from "./digest.ts";
export { digestHex, isDigest, parseDigest } from "./digest.ts";
export type { ErrorCode, ErrorDetails, EstargzErrorOptions } from "./errors.ts";
export { EstargzError, isEstargzError } from "./errors.ts";
export type { Credentials, Keychain, KeychainRequest } from "./keychain.ts";
export type { Chunk, DirectoryEntry, EntryType, Layer, LayerEntry, VerifyLevel, VerifyReport } from "./layer.ts";
export type { AttachedLayer, AttachRequest, LayerCoverage, LayerFileSystem } from "./layer-file-system.ts";
export type { LayerLocation, LayerSource } from "./layer-source.ts";
export type { LogFields, Logger } from "./logger.ts";
export { noLogger } from "./logger.ts";
export type { Counter, Gauge, Histogram, MetricLabels, MetricOptions, Metrics, ObservedHistogram } from "./metrics.ts";
export { noMetrics } from "./metrics.ts";
export type { ByteRange, ReaderAt, ReadOptions, StreamReadOptions, Tail } from "./reader-at.ts";
export { PRIORITY_BACKGROUND, PRIORITY_ON_DEMAND, PRIORITY_PREFETCH } from "./reader-at.ts";
