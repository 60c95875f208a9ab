import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { loadSystemCalls } from "../../src/dev-fuse/system-calls.ts";
import { createDevFuseDriver } from "../../src/index.ts";
import { callKeeper } from "../../src/keeper/keeper-call.ts";
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
  await until(
    "the keeper has ended",
    () => !existsSync(`/proc/${keeper}/stat`) || /\) [ZX] /u.test(readFileSync(`/proc/${keeper}/stat`, "latin1")),
  );
});
