import { existsSync, readFileSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { loadSystemCalls } from "../../src/dev-fuse/system-calls.ts";
import { createDevFuseDriver } from "../../src/index.ts";
import { callKeeper } from "../../src/keeper/keeper-call.ts";
import { makeDriverLayer } from "./driver-layer.ts";
import { cleanUp, testFolder, until } from "./mounts.ts";

afterEach(() => cleanUp());

it("ends the keeper it started when it unmounts, and only then", async () => {
  const folder = testFolder();
  await mkdir(join(folder, "m"), { recursive: true });
  const options = { mountRoot: join(folder, "m"), stateDirectory: join(folder, "s") };
  const socket = join(folder, "s", "keeper.sock");
  const pid = (): number | undefined => callKeeper(loadSystemCalls(), socket, { command: "hello" })?.reply.pid;

  const first = await createDevFuseDriver(options);
  const keeper = pid();
  await first.close({ unmount: false });
  expect(pid()).toBe(keeper);

  const second = await createDevFuseDriver(options);
  expect(pid()).toBe(keeper);
  await second.close({ unmount: true });
  await until("the keeper has ended", () => hasEnded(keeper));
});

it("goes on when the state folder is gone as long as a daemon is there, and ends by itself when both are", async () => {
  const folder = testFolder();
  const state = join(folder, "s");
  await mkdir(join(folder, "m"), { recursive: true });
  const driver = await createDevFuseDriver({
    mountRoot: join(folder, "m"),
    stateDirectory: state,
    keeper: { socketPath: join(state, "keeper.sock"), graceMs: 300 },
  });
  const path = await driver.attach(
    makeDriverLayer({ number: 1, entries: [{ path: "file", content: "x" }], directory: join(folder, "data") }),
  );
  const keeper = driver.keeperPid;
  await rm(state, { recursive: true });
  for (let i = 0; i < 20; i += 1) {
    expect(hasEnded(keeper)).toBe(false);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(await readdir(path)).toEqual(["file"]);
  await driver.close({ unmount: false });
  await until("the keeper has ended", () => hasEnded(keeper));
});

function hasEnded(pid: number | undefined): boolean {
  return !existsSync(`/proc/${pid}/stat`) || /\) [ZX] /u.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
}
