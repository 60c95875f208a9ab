import { expect, it } from "vitest";
import { IN_HEADER_BYTES, Opcode } from "../../src/dev-fuse/protocol.ts";
import { Outcome, RequestHandler } from "../../src/dev-fuse/request-handler.ts";
import { ServedConnection } from "../../src/dev-fuse/served-connection.ts";
import { ServedLayer } from "../../src/dev-fuse/served-layer.ts";
import type { SystemCalls } from "../../src/dev-fuse/system-calls.ts";
import { buildLayerIndex } from "../../src/index.ts";
import { makeLayer } from "../memory-layer.ts";

const EAGAIN = 11;
const EOPNOTSUPP = 95;

/** A layer with one local file on a disk that is slow. */
function serveFrom(disk: { inMemory: boolean; errno: number }) {
  const calls: string[] = [];
  const systemCalls = {
    address: () => 0,
    errno: () => disk.errno,
    open: () => 3,
    close: () => 0,
    willNeed: () => calls.push("advise"),
    preadNow: (_fd: number, _address: number, length: number) => (disk.inMemory ? length : -1),
    pread: (_fd: number, _address: number, length: number) => {
      calls.push("wait");
      return length;
    },
  } as unknown as SystemCalls;
  const index = buildLayerIndex(makeLayer([{ path: "file", content: Buffer.alloc(1_000_000) }]).layer);
  const bitmap = new SharedArrayBuffer((index.chunkCount + 7) >> 3);
  new Uint8Array(bitmap).fill(255);
  const handshake = { minor: 45, noOpen: true, noOpendir: true, passthrough: false, resend: true, idmap: true };
  const connection = new ServedConnection({ key: "n", fd: 0, xattrs: false, handshake, waiting: false });
  connection.add(new ServedLayer({ number: 1, index: index.buffer, bitmap, dataPath: "/data" }, systemCalls));
  const handler = new RequestHandler(systemCalls, () => calls.push("leave"));
  const read = (length: number, mayWait: boolean): number => {
    const view = new DataView(handler.request.buffer);
    view.setUint32(4, Opcode.READ, true);
    view.setUint32(16, index.lookup(0, Buffer.from("file")) + 1, true);
    view.setUint32(20, 2, true);
    view.setBigUint64(IN_HEADER_BYTES + 8, 0n, true);
    view.setUint32(IN_HEADER_BYTES + 16, length, true);
    return handler.handle(connection, IN_HEADER_BYTES + 40, mayWait);
  };
  return { calls, read };
}

it("a short read that the disk has to bring is handled again, and waited for in the end", () => {
  const disk = { inMemory: false, errno: EAGAIN };
  const { calls, read } = serveFrom(disk);
  expect(read(4096, false)).toBe(Outcome.DISK);
  expect(read(4096, false)).toBe(Outcome.DISK);
  expect(calls).toEqual([]);
  expect(read(4096, true)).toBe(16 + 4096);
  expect(calls).toEqual(["leave", "wait"]);
  disk.inMemory = true;
  expect(read(4096, false)).toBe(16 + 4096);
  expect(calls).toEqual(["leave", "wait"]);
});

it("a long read is waited for at once, by a thread that leaves the others to somebody else", () => {
  const { calls, read } = serveFrom({ inMemory: false, errno: EAGAIN });
  expect(read(512 * 1024, false)).toBe(16 + 512 * 1024);
  expect(calls).toEqual(["advise", "leave", "wait"]);
});

it("where it cannot be asked what is in memory, reads are just made", () => {
  const { calls, read } = serveFrom({ inMemory: false, errno: EOPNOTSUPP });
  expect(read(4096, false)).toBe(16 + 4096);
  expect(calls).toEqual(["wait"]);
});
