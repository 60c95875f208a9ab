/**
 * The `estargz` command, and what it is made of: an image's layers as one tree, and containers without a daemon.
 *
 * @packageDocumentation
 */
export { runCli } from "./cli.ts";
export type { CliContext, OutputStream } from "./cli-context.ts";
export { describeError } from "./error-message.ts";
export type { ImageNode, ImageTree } from "./image-tree.ts";
export { createImageTree } from "./image-tree.ts";
export type { ProgressStream } from "./progress.ts";
export type { ContainerOptions } from "./run/container.ts";
export { runContainer } from "./run/container.ts";
export type { ImageConfig } from "./run/image-config.ts";
export { parseImageConfig } from "./run/image-config.ts";
export type { MountedImage, MountImageOptions } from "./run/mount-image.ts";
export { mountImage } from "./run/mount-image.ts";
export type { Overlay, OverlayOptions } from "./run/overlay.ts";
export { mountOverlay } from "./run/overlay.ts";
export type { Bind } from "./run/runtime-spec.ts";
