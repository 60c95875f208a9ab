import { EstargzError } from "@estargz/interface";
import { LABEL_GID_MAPPING, LABEL_UID_MAPPING } from "./labels.ts";
import type { Labels } from "./snapshot.ts";

/** Ids on the host that root of an id-mapped snapshot has. */
export interface MappedOwner {
  readonly uid: number;
  readonly gid: number;
}

/** The host id of container id 0 in `CONTAINER:HOST:SIZE[,…]`. */
function hostRoot(label: string, mapping: string): number {
  for (const range of mapping.split(",")) {
    const match = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(range);
    if (match === null) {
      throw new EstargzError("INVALID_ARGUMENT", `label ${label}: ${JSON.stringify(range)} is not of the form CONTAINER:HOST:SIZE`);
    }
    if (Number(match[1]) === 0 && Number(match[3]) > 0) return Number(match[2]);
  }
  throw new EstargzError("INVALID_ARGUMENT", `label ${label}: no range maps id 0`);
}

/** Owner of the root directory of an id-mapped snapshot; `undefined` when the labels ask for no mapping. */
export function mappedOwner(labels: Labels): MappedOwner | undefined {
  const uid = labels[LABEL_UID_MAPPING];
  const gid = labels[LABEL_GID_MAPPING];
  if (uid === undefined && gid === undefined) return undefined;
  if (uid === undefined || gid === undefined) {
    throw new EstargzError("INVALID_ARGUMENT", `labels ${LABEL_UID_MAPPING} and ${LABEL_GID_MAPPING} are needed together`);
  }
  return { uid: hostRoot(LABEL_UID_MAPPING, uid), gid: hostRoot(LABEL_GID_MAPPING, gid) };
}

/** Mount options that ask containerd (2.x) for an id-mapped mount. */
export function mappingOptions(labels: Labels): string[] {
  const options: string[] = [];
  if (labels[LABEL_UID_MAPPING] !== undefined) options.push(`uidmap=${labels[LABEL_UID_MAPPING]}`);
  if (labels[LABEL_GID_MAPPING] !== undefined) options.push(`gidmap=${labels[LABEL_GID_MAPPING]}`);
  return options;
}
