/**
 * What of `@estargz/format` needs Node: local files and folders.
 *
 * @packageDocumentation
 */
export { openFile } from "./open-file.ts";
export type { ReadFolderOptions } from "./read-folder.ts";
export { readFolder } from "./read-folder.ts";
