import type { LayerIndex } from "../layer-index.ts";

/**
 * Kinds of mounts. The kernel decides per connection whether it asks for extended attributes and whether it asks to
 * open files, so layers are sorted into one mount a kind.
 */
export interface ConnectionClass {
  /** Name of the mount's directory. Part of the layers' paths: never changed. */
  readonly key: "n" | "x" | "p" | "q";
  /** Whether its layers have extended attributes. */
  readonly xattrs: boolean;
  /** Whether big files may be read from their backing files by the kernel itself. */
  readonly passthrough: boolean;
}

/** All kinds, by key. */
export const connectionClasses: Readonly<Record<ConnectionClass["key"], ConnectionClass>> = {
  n: { key: "n", xattrs: false, passthrough: false },
  x: { key: "x", xattrs: true, passthrough: false },
  p: { key: "p", xattrs: false, passthrough: true },
  q: { key: "q", xattrs: true, passthrough: true },
};

/** Share of a layer's bytes that lies in big files, from which on the kernel had better read those by itself. */
const PASSTHROUGH_SHARE = 0.75;
/** Above this number of small files for each big one, opening them costs more than passthrough gains. */
const MAX_SMALL_PER_BIG = 64;

/** The kind of mount that a layer belongs to: a function of the layer, the same after each restart. */
export function classOf(index: LayerIndex, passthrough: boolean): ConnectionClass {
  const passes = passthrough && isMadeOfBigFiles(index);
  if (index.hasXattrs) return passes ? connectionClasses.q : connectionClasses.x;
  return passes ? connectionClasses.p : connectionClasses.n;
}

/** The kind of mount that answers questions for absent extended attributes of a layer. */
export function exactClassOf(connectionClass: ConnectionClass): ConnectionClass {
  return connectionClass.xattrs ? connectionClass : connectionClasses.x;
}

function isMadeOfBigFiles(index: LayerIndex): boolean {
  let big = 0;
  let small = 0;
  let bigBytes = 0;
  let bytes = 0;
  for (let inode = 0; inode < index.inodeCount; inode += 1) {
    if (!index.isRegular(inode)) continue;
    bytes += index.size(inode);
    if (index.hasOwnFile(inode)) {
      big += 1;
      bigBytes += index.size(inode);
    } else small += 1;
  }
  return big > 0 && bigBytes >= bytes * PASSTHROUGH_SHARE && small <= big * MAX_SMALL_PER_BIG;
}
