import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { directory, file, symlink, writeLayer } from "@estargz/format";
import { nodeFlags, startFakeRegistry } from "@estargz/testing";
import { expect, test } from "vitest";

const run = promisify(execFile);
const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));

test("lists every layer's files", async () => {
  const registry = await startFakeRegistry();
  try {
    const output = writeLayer([directory("etc"), file("etc/name", "hello\n"), symlink("link", "etc/name")]);
    const pieces: Uint8Array[] = [];
    for await (const piece of output.bytes) pieces.push(piece);
    const { annotations } = await output.result;
    registry.content.putImage("team/app", "v1", { layers: [{ bytes: Buffer.concat(pieces), annotations }] });
    const { stdout } = await run(process.execPath, [...nodeFlags, "--conditions=@estargz/source", main, `${registry.address}/team/app:v1`]);
    expect(
      stdout
        .replace(/sha256:[0-9a-f]+/, "DIGEST")
        .split("\n")
        .map((line) => line.replace(/ +/g, " ")),
    ).toEqual(expect.arrayContaining(["DIGEST estargz", "dir 0 etc", "reg 6 etc/name", "symlink 8 link"]));
  } finally {
    await registry.close();
  }
});
