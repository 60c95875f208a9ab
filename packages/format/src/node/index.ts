/**
 * What of `@estargz/format` needs Node: local files.
 *
 * @packageDocumentation
 */
export { openFile } from "./open-file.ts";
