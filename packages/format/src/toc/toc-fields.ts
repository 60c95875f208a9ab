import { type CHUNK, KIND, type Kind } from "./kind.ts";

/** What one TOC entry says, each field checked by itself. One object is filled again for each entry. */
export class TocFields {
  kind: Kind | typeof CHUNK = KIND.dir;
  /** Clean path. Of no meaning for chunks. */
  path = "";
  /** Whether the path is known to be of printable ASCII characters. */
  isPlain = false;
  size = 0;
  seconds = 0;
  nanoseconds = 0;
  linkName = "";
  mode = 0;
  uid = 0;
  gid = 0;
  devMajor = 0;
  devMinor = 0;
  /** As JSON has them; not looked into yet. */
  xattrs: Readonly<Record<string, unknown>> | undefined = undefined;
  /** Reference in `DigestTexts`. */
  digest = 0;
  /** The chunk that the entry stands for. */
  offset = 0;
  innerOffset = 0;
  chunkOffset = 0;
  chunkSize = 0;
  chunkDigest = 0;
  /** Whether that chunk is a run of zeros that takes no bytes in the blob. */
  zeros = false;

  /** Sets every field to what an absent key means. */
  clear(): void {
    this.kind = KIND.dir;
    this.path = "";
    this.isPlain = false;
    this.linkName = "";
    this.size = 0;
    this.seconds = 0;
    this.nanoseconds = 0;
    this.mode = 0;
    this.uid = 0;
    this.gid = 0;
    this.devMajor = 0;
    this.devMinor = 0;
    this.xattrs = undefined;
    this.digest = 0;
    this.offset = 0;
    this.innerOffset = 0;
    this.chunkOffset = 0;
    this.chunkSize = 0;
    this.chunkDigest = 0;
    this.zeros = false;
  }
}
