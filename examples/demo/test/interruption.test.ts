import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { unlessInterrupted } from "../src/interruption.ts";

test("what fails after an interruption ends no process", async () => {
  const unhandled = vi.fn<() => void>();
  process.on("unhandledRejection", unhandled);
  onTestFinished(() => void process.off("unhandledRejection", unhandled));
  const reason = new Error("stopped");
  const fails = async (): Promise<void> => {
    await sleep(5);
    throw new Error("the program has ended");
  };
  await expect(unlessInterrupted(AbortSignal.abort(reason), fails())).rejects.toBe(reason);
  await sleep(50);
  expect(unhandled).not.toHaveBeenCalled();
});
