import { expect, test } from "vitest";
import { readToItsEnd } from "../src/read-to-its-end.ts";

async function* stream(log: string[], failure?: Error): AsyncGenerator<Uint8Array> {
  try {
    for (const byte of [1, 2, 3]) yield Uint8Array.of(byte);
    if (failure !== undefined) throw failure;
    log.push("end");
  } finally {
    log.push("closed");
  }
}

test("a reader may leave early; the rest is read afterwards", async () => {
  const log: string[] = [];
  const whole = readToItsEnd(stream(log));
  for await (const piece of whole.bytes) if (piece[0] === 1) break;
  expect(log).toEqual([]);
  await whole.finish();
  expect(log).toEqual(["end", "closed"]);
  await whole.close();
});

test("an error at the end is told even when the reader has swallowed it", async () => {
  const whole = readToItsEnd(stream([], new Error("wrong digest")));
  const read = async (): Promise<void> => {
    for await (const piece of whole.bytes) expect(piece).toHaveLength(1);
  };
  await expect(read()).rejects.toThrow("wrong digest");
  await expect(whole.finish()).rejects.toThrow("wrong digest");
});

test("closing ends the stream wherever it is", async () => {
  const log: string[] = [];
  const whole = readToItsEnd(stream(log));
  for await (const _piece of whole.bytes) break;
  await whole.close();
  expect(log).toEqual(["closed"]);
});
