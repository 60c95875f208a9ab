/** Kinds of TOC entries other than chunks, as numbers. */
export const KIND = { dir: 0, reg: 1, symlink: 2, char: 3, block: 4, fifo: 5, hardlink: 6 } as const;
/** One of {@link KIND}. */
export type Kind = (typeof KIND)[keyof typeof KIND];
/** Kind of an entry that says more of the regular file before it: `chunk`. */
export const CHUNK = 7;
