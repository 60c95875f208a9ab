import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import type { SystemCalls } from "../src/dev-fuse/system-calls.ts";
import { encodeMessage } from "../src/keeper/keeper-protocol.ts";
import { KeeperServer } from "../src/keeper/keeper-server.ts";

const folder = mkdtempSync(join(tmpdir(), "ezk-"));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it("waits while no client can be taken because no descriptor is left, and goes on when there is one", () => {
  const EMFILE = 24;
  const begun = performance.now();
  let tries = 0;
  const systemCalls = {
    errno: () => EMFILE,
    epollCreate: () => 4,
    epollAdd: () => 0,
    epollWait: (_epoll: number, ready: number[]) => {
      ready.splice(0, ready.length, 5);
      return 1;
    },
    connect: () => -1,
    listen: (path: string) => {
      writeFileSync(path, "");
      return 5;
    },
    accept: () => {
      tries += 1;
      return performance.now() - begun < 300 ? -1 : 6;
    },
    receive: (_fd: number, buffer: Uint8Array) => {
      const message = encodeMessage({ command: "stop" });
      buffer.set(message);
      return message.length;
    },
    send: () => 1,
    close: () => 0,
  } as unknown as SystemCalls;
  KeeperServer.listen(systemCalls, join(folder, "keeper.sock")).run();
  expect(tries).toBeGreaterThan(1);
  expect(tries).toBeLessThan(50);
});
