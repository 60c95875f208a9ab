import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Passthrough } from "../../src/dev-fuse/passthrough.ts";
import { DeviceIoctl, RESENT_HIGH } from "../../src/dev-fuse/protocol.ts";
import type { MissRequest } from "../../src/dev-fuse/request-handler.ts";
import type { SystemCalls } from "../../src/dev-fuse/system-calls.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ezp-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A kernel that numbers backing files as Linux does: upwards, none twice. */
class Kernel {
  readonly backing = new Set<number>();
  refused = 0;
  #last = 0;

  readonly systemCalls = {
    open: () => 99,
    close: () => 0,
    ioctl: (_fd: number, request: number, argument: Uint8Array) => {
      if (request === DeviceIoctl.BACKING_OPEN) {
        this.backing.add(++this.#last);
        return this.#last;
      }
      expect(request).toBe(DeviceIoctl.BACKING_CLOSE);
      if (this.backing.delete(new DataView(argument.buffer).getUint32(0, true))) return 0;
      this.refused += 1;
      return -1;
    },
  } as unknown as SystemCalls;
}

let lastUnique = 1;
const request = (layer: number, inode: number, unique = ++lastUnique, resent = false): MissRequest => ({
  uniqueLow: unique,
  uniqueHigh: resent ? RESENT_HIGH : 0,
  layer,
  inode,
  offset: 0,
  length: 0,
  pid: 0,
  direct: false,
  attempt: 0,
});
const local = (): string => "/data";
const absent = (): undefined => undefined;

describe("passthrough", () => {
  it.each([true, false])("lets the kernel close a backing file after the last release (on record: %s)", (onRecord) => {
    const kernel = new Kernel();
    const passthrough = new Passthrough(kernel.systemCalls, 3, {
      recordPath: onRecord ? join(folder, "record") : undefined,
      resume: false,
    });
    const id = passthrough.open(request(1, 5), local);
    expect(passthrough.open(request(1, 5), local)).toBe(id);
    passthrough.release(request(1, 5));
    expect([...kernel.backing]).toEqual([id]);
    passthrough.release(request(1, 5));
    expect(kernel.backing.size).toBe(0);
    // Decided anew at the next open.
    expect(passthrough.open(request(1, 5), absent)).toBe(0);
    expect(passthrough.open(request(1, 5), local)).toBe(0);
    for (let i = 0; i < 2; i += 1) passthrough.release(request(1, 5));
    expect(passthrough.open(request(1, 5), local)).toBeGreaterThan(0);
  });

  it("closes what a layer that is removed has left", () => {
    const kernel = new Kernel();
    const passthrough = new Passthrough(kernel.systemCalls, 3, { recordPath: join(folder, "record"), resume: false });
    passthrough.open(request(1, 5), local);
    passthrough.open(request(11, 5), local);
    passthrough.removeLayer(1);
    expect(kernel.backing.size).toBe(1);
    const next = new Passthrough(kernel.systemCalls, 3, { recordPath: join(folder, "record"), resume: true });
    next.release(request(11, 5));
    expect(kernel.backing.size).toBe(0);
    expect(kernel.refused).toBeLessThanOrEqual(1);
  });

  it("goes on with what was open, also for requests that are sent again", () => {
    const kernel = new Kernel();
    const recordPath = join(folder, "record");
    const first = new Passthrough(kernel.systemCalls, 3, { recordPath, resume: false });
    const opened = request(1, 5);
    const id = first.open(opened, local);
    first.open(request(1, 5), local);
    const released = request(1, 5);
    first.release(released);
    first.release(request(2, 7));
    const second = new Passthrough(kernel.systemCalls, 3, { recordPath, resume: true });
    expect(second.open(request(1, 5, opened.uniqueLow, true), local)).toBe(id);
    second.release(request(1, 5, released.uniqueLow, true));
    expect([...kernel.backing]).toEqual([id]);
    const third = new Passthrough(kernel.systemCalls, 3, { recordPath, resume: true });
    third.release(request(1, 5, released.uniqueLow, true));
    third.release(request(1, 5));
    expect(kernel.backing.size).toBe(0);
  });

  it("closes what a process killed after the last release had not closed yet", () => {
    const kernel = new Kernel();
    const recordPath = join(folder, "record");
    const first = new Passthrough(kernel.systemCalls, 3, { recordPath, resume: false });
    const id = first.open(request(1, 5), local);
    appendFileSync(recordPath, `r 1/5 ${id} 0.77\n`);
    const second = new Passthrough(kernel.systemCalls, 3, { recordPath, resume: true });
    expect(kernel.backing.size).toBe(0);
    second.open(request(1, 5), local);
    expect(kernel.backing.size).toBe(1);
  });

  it("keeps the record short", () => {
    const kernel = new Kernel();
    const recordPath = join(folder, "record");
    const passthrough = new Passthrough(kernel.systemCalls, 3, { recordPath, resume: false, surplusLines: 50 });
    const held = passthrough.open(request(1, 1), local);
    for (let i = 0; i < 6000; i += 1) {
      passthrough.open(request(1, 2 + (i % 100)), local);
      passthrough.release(request(1, 2 + (i % 100)));
    }
    expect([...kernel.backing]).toEqual([held]);
    // The last 4,096 requests stay known.
    expect(readFileSync(recordPath, "utf8").split("\n").length).toBeLessThan(4096 + 100);
    const next = new Passthrough(kernel.systemCalls, 3, { recordPath, resume: true });
    expect(next.open(request(1, 1), absent)).toBe(held);
  });

  it("closes nothing that the record could still call open, on a disk that takes no more", () => {
    const kernel = new Kernel();
    const recordPath = join(folder, "record");
    const passthrough = new Passthrough(kernel.systemCalls, 3, { recordPath, resume: false });
    passthrough.open(request(1, 5), local);
    // Directories in the way: neither the record nor a new one can be written.
    rmSync(recordPath);
    mkdirSync(recordPath);
    mkdirSync(`${recordPath}.new`);
    passthrough.release(request(1, 5));
    expect(kernel.backing.size).toBe(1);
    const id = passthrough.open(request(1, 6), local);
    expect(id).toBeGreaterThan(0);
    rmSync(recordPath, { recursive: true });
    rmSync(`${recordPath}.new`, { recursive: true });
    passthrough.open(request(1, 6), local);
    expect([...kernel.backing]).toEqual([id]);
    const next = new Passthrough(kernel.systemCalls, 3, { recordPath, resume: true });
    next.release(request(1, 6));
    expect([...kernel.backing]).toEqual([id]);
    next.release(request(1, 6));
    expect(kernel.backing.size).toBe(0);
    next.forget();
    expect(existsSync(recordPath)).toBe(false);
  });
});
