import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type FakeRegistry, startFakeRegistry } from "@estargz/testing";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LinkSwitch } from "./link-switch.ts";
import { eventually, startNode, type TestNode } from "./node.ts";
import { pushReaderImage, Reader } from "./reader.ts";

const users: Record<string, string> = { user: "first" };

let registry: FakeRegistry;
let link: LinkSwitch;
let node: TestNode | undefined;

beforeEach(async () => {
  users["user"] = "first";
  registry = await startFakeRegistry({ users, profile: "harbor" });
  link = new LinkSwitch(registry.address);
  await link.start();
});
afterEach(async () => {
  await node?.stop();
  node = undefined;
  await link.close();
  await registry.close();
});

async function writeCredentials(folder: string, password: string): Promise<void> {
  const auth = Buffer.from(`user:${password}`).toString("base64");
  await writeFile(join(folder, "docker.json"), JSON.stringify({ auths: { [link.address]: { auth } } }));
}

/** A node whose daemon has credentials, with a reader's image pulled. */
async function start(readBoundSeconds: number): Promise<{ node: TestNode; reader: Reader }> {
  const image = { reference: `${link.address}/reader:1`, files: 30, fileBytes: 500_000, username: "user", password: "first" };
  await pushReaderImage({ ...image, reference: `${registry.address}/reader:1` });
  // The registry's token service has another port than the link: a stranger, if nobody vouches for it.
  const realm = `resolver.trusted_realms = [${JSON.stringify(registry.tokenAddress)}]`;
  const config = [
    realm,
    'fill.background = "off"',
    `blob.fetching_timeout_sec = ${readBoundSeconds}`,
    'docker_keychain.config_path = "FOLDER/docker.json"',
  ];
  const started = await startNode({ withContainerd: true, config: config.join("\n") });
  node = started;
  await writeCredentials(started.folder, "first");
  await started.pull(image.reference, ["--user", "user:first"]);
  return { node: started, reader: new Reader(started, image.reference, "reader") };
}

describe("a registry that goes away", () => {
  it.each(["refusing", "silent"] as const)("delays reads and fails none while it is away (%s) for less than the bound", async (how) => {
    const { reader } = await start(300);
    await reader.start();
    await reader.readsOn(2);
    link.cut(how);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    link.mend();
    await reader.readsAll();
    expect(await reader.complaints()).toEqual([]);
  });

  it("ends reads with an error after the bound, and reads on when it is back, without a remount", async () => {
    const { reader } = await start(1);
    await reader.start();
    await reader.readsOn(2);
    link.cut("refusing");
    await eventually("a read ends", async () => (await reader.errors()).length > 0);
    link.mend();
    const before = (await reader.errors()).length;
    await reader.readsAll();
    await reader.readsAll();
    expect((await reader.complaints()).every((line) => line.startsWith("error") || line.includes("Input/output error"))).toBe(true);
    expect(before).toBeGreaterThan(0);
  });

  it("may change its credentials while a container runs", async () => {
    const { node: running, reader } = await start(300);
    // The first of these reads needs the new ones: pulling brought no file's bytes.
    for (const password of ["second", "third"]) {
      await writeCredentials(running.folder, password);
      users["user"] = password;
      registry.expire("tokens");
      registry.clear();
      if (password === "second") await reader.start();
      await reader.readsOn(3);
      if (password === "second") expect(registry.requests.map((request) => request.status)).toContain(401);
    }
    await reader.readsAll();
    expect(await reader.complaints()).toEqual([]);
  });
});
