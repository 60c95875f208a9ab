import { expect, test } from "vitest";
import { createProgressLine } from "../src/progress.ts";

function stream(isTTY: boolean): { isTTY: boolean; columns: number; text: string; write(text: string): void } {
  return {
    isTTY,
    columns: 60,
    text: "",
    write(text) {
      this.text += text;
    },
  };
}

test("draws a line on a terminal, at most ten times a second, and takes it away", () => {
  let time = 0;
  const out = stream(true);
  const line = createProgressLine(out, "converting", () => time);
  line.total(1000);
  time += 50;
  line.add(100);
  time += 100;
  line.add(400);
  expect(out.text).toBe(
    "\r\x1b[Kconverting ░░░░░░░░░░░░░░░░░░░░░░░░ 0 % 0 B of 1.0 kB\r\x1b[Kconverting ████████████░░░░░░░░░░░░ 50 % 500 B of 1.0 kB",
  );
  line.clear();
  line.clear();
  expect(out.text.endsWith("of 1.0 kB\r\x1b[K")).toBe(true);
});

test("writes nothing elsewhere", () => {
  const out = stream(false);
  const line = createProgressLine(out, "converting");
  line.total(10);
  line.add(10);
  line.clear();
  expect(out.text).toBe("");
});
