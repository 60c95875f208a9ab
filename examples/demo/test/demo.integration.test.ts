import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { type DemoProcess, leftoversOf, startDemo } from "./demo-process.ts";

let demo: DemoProcess | undefined;

afterEach(async () => {
  if (demo?.child.exitCode === null && demo.child.signalCode === null) {
    demo.child.kill("SIGTERM");
    await demo.ended;
  }
  await demo?.remove();
  demo = undefined;
});

describe("the demo", () => {
  test.each([
    ["under containerd", []],
    ["without containerd", ["--without-containerd"]],
  ])("shows both ways and equal trees %s, and leaves nothing behind", async (_name, args) => {
    const folder = await mkdtemp(join(tmpdir(), "estargz-report-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const report = join(folder, "report.json");
    demo = await startDemo(["--small", "--json", report, ...args]);
    const code = await demo.ended;
    expect(demo.output()).toContain(": equal");
    expect(code).toBe(0);
    expect(await demo.leftovers()).toEqual([]);
    const { ways, treesEqual } = JSON.parse(await readFile(report, "utf8"));
    expect(treesEqual).toBe(true);
    expect(ways.map((way: { name: string }) => way.name).slice(0, 2)).toEqual(["full pull", "lazy"]);
    expect(ways[1].median.requests).toBeGreaterThan(0);
  });

  test.each([
    ["✓ building", "SIGINT", 130],
    ["✓ measuring", "SIGINT", 130],
    ["✓ round 1 of 1, full pull", "SIGINT", 130],
    ["✓ round 1 of 1, full pull", "SIGTERM", 143],
    ["✓ round 1 of 1, lazy", "SIGINT", 130],
  ] as const)("stopped after %j by %s it leaves nothing behind", async (text, signal, expected) => {
    demo = await startDemo(["--small"]);
    await demo.shows(text);
    demo.child.kill(signal);
    const code = await demo.ended;
    expect({ code, output: code === expected ? "" : demo.output() }).toEqual({ code: expected, output: "" });
    expect(await demo.leftovers()).toEqual([]);
  });

  test("killed outright, its own process still cleans up", async () => {
    demo = await startDemo(["--small"]);
    await demo.shows("✓ round 1 of 1, full pull");
    demo.child.kill("SIGKILL");
    await demo.ended;
    const { folder } = demo;
    await expect.poll(() => leftoversOf(folder), { timeout: 120_000, interval: 200 }).toEqual([]);
  });

  test("says in one line what is wrong with its options", async () => {
    demo = await startDemo(["--rounds", "none"]);
    expect(await demo.ended).toBe(1);
    expect(demo.output()).toBe("demo: --rounds none must be a number above 0\n");
  });
});
