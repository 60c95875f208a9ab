/**
 * Converts whole images to ones whose layers can be read lazily: indexes, manifests, configurations and layers.
 *
 * @example
 * ```ts
 * const source = await openImageStore("docker.io/library/node:24");
 * const destination = await openImageStore("registry.example/node:24-lazy");
 * const { descriptor } = await convertImage(source, destination);
 * ```
 *
 * @packageDocumentation
 */
export type { ConvertedManifest, ConvertResult } from "./convert-image.ts";
export { convertImage } from "./convert-image.ts";
export type { ConvertedLayer } from "./convert-layer.ts";
export type { CopyOptions } from "./copy-image.ts";
export { copyImage } from "./copy-image.ts";
export type { OptimizeOptions } from "./optimize-image.ts";
export { optimizeImage } from "./optimize-image.ts";
export type { ConvertEvent, ConvertOptions } from "./options.ts";
export type { RecordedFile } from "./record.ts";
export { formatRecord, parseRecord } from "./record.ts";
