import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { answerInit } from "../../src/dev-fuse/handshake.ts";
import { parseMountInfo } from "../../src/dev-fuse/mount-table.ts";
import { IN_HEADER_BYTES, InitFlag, Opcode } from "../../src/dev-fuse/protocol.ts";
import { layerNumberOf, Outcome, RequestHandler } from "../../src/dev-fuse/request-handler.ts";
import { ServedConnection } from "../../src/dev-fuse/served-connection.ts";
import { ServedLayer } from "../../src/dev-fuse/served-layer.ts";
import type { SystemCalls } from "../../src/dev-fuse/system-calls.ts";
import { buildLayerIndex } from "../../src/index.ts";
import { makeLayer, type TestEntry } from "../memory-layer.ts";

const noCalls = { address: () => 0, errno: () => 0, open: () => -1, close: () => 0 } as unknown as SystemCalls;
const handshake = { minor: 45, noOpen: true, noOpendir: true, passthrough: false, resend: true, idmap: true };

/** A connection with one layer, and a way to ask it. */
function serve(entries: readonly TestEntry[], options: { xattrs?: boolean; waiting?: boolean; number?: number } = {}) {
  const index = buildLayerIndex(makeLayer([...entries]).layer);
  const bitmap = new SharedArrayBuffer((index.chunkCount + 7) >> 3);
  const layer = new ServedLayer({ number: options.number ?? 1, index: index.buffer, bitmap, dataPath: "/absent" }, noCalls);
  const connection = new ServedConnection({
    key: "n",
    fd: 0,
    xattrs: options.xattrs ?? false,
    handshake,
    waiting: options.waiting ?? false,
  });
  connection.add(layer);
  const handler = new RequestHandler(noCalls);
  const ask = (opcode: number, high: number, low: number, args: Uint8Array = new Uint8Array(40)) => {
    const view = new DataView(handler.request.buffer);
    view.setUint32(0, IN_HEADER_BYTES + args.length, true);
    view.setUint32(4, opcode, true);
    view.setUint32(8, 77, true);
    view.setUint32(12, 0x80000000, true);
    view.setUint32(16, low, true);
    view.setUint32(20, high, true);
    handler.request.set(args, IN_HEADER_BYTES);
    const length = handler.handle(connection, IN_HEADER_BYTES + args.length);
    const reply = handler.reply.bytes.slice(0, Math.max(length, 0));
    const replyView = new DataView(reply.buffer);
    return { length, reply, view: replyView, error: length > 0 ? Math.abs(replyView.getInt32(4, true)) : undefined };
  };
  return { index, layer, connection, handler, ask };
}

const name = (text: string): Uint8Array => Buffer.from(`${text}\0`);
const readArgs = (offset: number, size: number): Uint8Array => {
  const args = new Uint8Array(40);
  const view = new DataView(args.buffer);
  view.setBigUint64(8, BigInt(offset), true);
  view.setUint32(16, size, true);
  return args;
};

describe("RequestHandler", () => {
  it("echoes the number of a request, the bit of a resent one included", () => {
    const { ask } = serve([{ path: "f", content: "x" }]);
    const { view } = ask(Opcode.GETATTR, 2, 1);
    expect([view.getUint32(8, true), view.getUint32(12, true)]).toEqual([77, 0x80000000]);
  });

  it("finds names, tells for ever of absent ones, and numbers inodes by layer and place", () => {
    const { ask, index } = serve([{ path: "d/f", content: "x" }], { number: 9 });
    const found = ask(Opcode.LOOKUP, 10, 1, name("d"));
    const inode = index.lookup(0, Buffer.from("d"));
    expect([found.error, found.view.getUint32(16, true), found.view.getUint32(20, true)]).toEqual([0, inode + 1, 10]);
    const absent = ask(Opcode.LOOKUP, 10, 1, name("absent"));
    expect([absent.error, absent.view.getBigUint64(16, true), absent.view.getBigUint64(32, true)]).toEqual([0, 0n, 0x7fffffffn]);
    expect(ask(Opcode.LOOKUP, 10, 1, name("n".repeat(256))).error).toBe(36);
    expect(ask(Opcode.LOOKUP, 0, 1, name("9")).view.getUint32(20, true)).toBe(10);
    expect(ask(Opcode.LOOKUP, 0, 1, name("09")).error).toBe(2);
    expect(ask(Opcode.LOOKUP, 0, 1, name("8")).error).toBe(2);
  });

  it.each([
    ["SETATTR", 30],
    ["MKDIR", 30],
    ["UNLINK", 30],
    ["WRITE", 30],
    ["RENAME2", 30],
    ["SETXATTR", 30],
    ["CREATE", 30],
    ["IOCTL", 38],
    ["POLL", 38],
    ["LSEEK", 38],
    ["ACCESS", 38],
    ["FLUSH", 38],
    ["STATX", 38],
    ["OPEN", 38],
    ["OPENDIR", 38],
    ["GETXATTR", 38],
    ["LISTXATTR", 38],
    ["READLINK", 22],
  ] as const)("refuses %s with errno %i", (opcode, errno) => {
    const { ask, index } = serve([{ path: "f", content: "x" }]);
    expect(ask(Opcode[opcode], 2, index.lookup(0, Buffer.from("f")) + 1).error).toBe(errno);
  });

  it("answers nothing to FORGET, and counts what the kernel knows", () => {
    const { ask, layer } = serve([{ path: "f", content: "x" }]);
    ask(Opcode.LOOKUP, 2, 1, name("f"));
    ask(Opcode.LOOKUP, 2, 1, name("f"));
    expect(layer.lookups).toBe(2);
    const args = new Uint8Array(8);
    args[0] = 2;
    expect(ask(Opcode.FORGET, 2, 2, args).length).toBe(Outcome.NONE);
    expect(layer.lookups).toBe(0);
  });

  it("lets requests for layers that are not there yet wait after a take-over only", () => {
    for (const [waiting, lookup, getattr] of [
      [true, Outcome.PARK, Outcome.PARK],
      [false, 16, 16],
    ] as const) {
      const { ask } = serve([{ path: "f", content: "x" }], { waiting });
      expect(ask(Opcode.LOOKUP, 0, 1, name("5")).length).toBe(lookup);
      expect(ask(Opcode.GETATTR, 6, 1).length).toBe(getattr);
      expect(ask(Opcode.GETATTR, 2, 1).error).toBe(0);
    }
  });

  it("passes on reads of what is not local, and ends at the end of a file", () => {
    const { ask, index, handler } = serve([{ path: "f", content: "0123456789" }]);
    const low = index.lookup(0, Buffer.from("f")) + 1;
    expect(ask(Opcode.READ, 2, low, readArgs(4, 100)).length).toBe(Outcome.MISS);
    expect(handler.miss).toEqual({
      uniqueLow: 77,
      uniqueHigh: 0x80000000,
      layer: 1,
      inode: low - 1,
      offset: 4,
      length: 100,
      pid: 0,
      direct: false,
      attempt: 0,
    });
    expect(ask(Opcode.READ, 2, low, readArgs(10, 100)).length).toBe(16);
    expect(ask(Opcode.READ, 2, low, readArgs(2 ** 40, 100)).length).toBe(16);
    expect(ask(Opcode.READ, 2, 1, readArgs(0, 100)).error).toBe(21);
  });

  it("survives requests of any bytes", () => {
    const { ask } = serve([{ path: "d/f", content: "x", xattrs: { "user.a": "b" } }], { xattrs: true });
    fc.assert(
      fc.property(fc.nat(60), fc.nat(3), fc.nat(20), fc.uint8Array({ minLength: 0, maxLength: 200 }), (opcode, high, low, args) => {
        const { length, view } = ask(opcode, high, low, args);
        if (length > 0) expect(view.getUint32(0, true)).toBe(length);
      }),
      { numRuns: 2000 },
    );
  });

  it("lists a directory whole, in order, whatever the room and wherever it is taken up", () => {
    const names = fc.uniqueArray(fc.stringMatching(/^[a-zA-Z0-9ä_-]{1,60}$/u), { minLength: 0, maxLength: 60 });
    fc.assert(
      fc.property(names, fc.integer({ min: 320, max: 4096 }), fc.boolean(), (list, room, plus) => {
        const { ask, index } = serve(list.map((each) => ({ path: `d/${each}`, content: each })));
        const directory = list.length === 0 ? 0 : index.lookup(0, Buffer.from("d"));
        const got: string[] = [];
        let offset = 0n;
        for (;;) {
          const args = readArgs(Number(offset), room);
          const { reply, view, error } = ask(plus ? Opcode.READDIRPLUS : Opcode.READDIR, 2, directory + 1, args);
          expect(error).toBe(0);
          expect(reply.length).toBeLessThanOrEqual(room + 16);
          if (reply.length === 16) break;
          for (let at = 16; at < reply.length; ) {
            const dirent = at + (plus ? 128 : 0);
            const length = view.getUint32(dirent + 16, true);
            got.push(Buffer.from(reply.subarray(dirent + 24, dirent + 24 + length)).toString());
            offset = view.getBigUint64(dirent + 8, true);
            at = dirent + ((24 + length + 7) & ~7);
          }
        }
        expect(got).toEqual([".", "..", ...list.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))]);
      }),
      { numRuns: 100 },
    );
  });
});

describe("answerInit", () => {
  const init = (minor: number, low: number, high: number): Uint8Array => {
    const request = new Uint8Array(IN_HEADER_BYTES + 64);
    const view = new DataView(request.buffer);
    view.setUint32(0, request.length, true);
    view.setUint32(4, Opcode.INIT, true);
    view.setUint32(40, 7, true);
    view.setUint32(44, minor, true);
    view.setUint32(52, low, true);
    view.setUint32(56, high, true);
    return request;
  };
  const bit = (...bits: number[]): number => bits.reduce((sum, each) => sum + 2 ** (each % 32), 0);

  it("takes no-open or passthrough, never both", () => {
    const all = init(45, 0xffffffff, 0xffffffff);
    expect(answerInit(all, { passthrough: false }).handshake).toEqual(handshake);
    const { handshake: passing, reply } = answerInit(all, { passthrough: true });
    expect(passing).toEqual({ ...handshake, noOpen: false, passthrough: true });
    expect(new DataView(reply.buffer).getUint32(52, true)).toBe(1);
  });

  it("answers only what the kernel offers", () => {
    const { reply, handshake: agreed } = answerInit(init(31, bit(InitFlag.ASYNC_READ, InitFlag.MAX_PAGES), 0), { passthrough: true });
    const view = new DataView(reply.buffer);
    expect([view.getUint32(20, true), view.getUint32(28, true), view.getUint32(48, true)]).toEqual([
      31,
      bit(InitFlag.ASYNC_READ, InitFlag.MAX_PAGES),
      0,
    ]);
    expect(agreed).toEqual({ minor: 31, noOpen: false, noOpendir: false, passthrough: false, resend: false, idmap: false });
  });

  it("refuses old kernels and other requests", () => {
    expect(() => answerInit(init(27, 0, 0), { passthrough: false })).toThrow(/FUSE 7\.27/u);
    expect(() => answerInit(new Uint8Array(64), { passthrough: false })).toThrow(/not INIT/u);
  });
});

describe("names and tables", () => {
  it.each([
    ["0", 0],
    ["12", 12],
    ["012", undefined],
    ["1a", undefined],
    ["", undefined],
    ["12345678", undefined],
  ])("takes %j for layer %s", (text, number) => {
    expect(layerNumberOf(Buffer.from(text))).toBe(number);
  });

  it("reads mountinfo with escapes", () => {
    const line = "36 35 0:42 / /mnt/a\\040b ro,nosuid shared:1 - fuse.estargz estargz ro,user_id=0\n";
    expect(parseMountInfo(line)).toEqual([{ device: "0:42", mountPath: "/mnt/a b", type: "fuse.estargz" }]);
  });
});
