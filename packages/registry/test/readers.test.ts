import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Descriptor } from "@estargz/interface";
import type { RegistryProfileName } from "@estargz/testing";
import { readerAtSuite } from "@estargz/testing/suites";
import { digestOf, openOciLayout } from "../src/index.ts";
import { fakeRegistry, later, testClient, tlsHosts } from "./harness.ts";

function describeBytes(bytes: Uint8Array): Descriptor {
  return { mediaType: "application/octet-stream", digest: digestOf(bytes), size: bytes.length };
}

for (const profile of ["distribution", "ecr", "gcr", "cdn-with-referer"] satisfies RegistryProfileName[]) {
  for (const known of [true, false]) {
    readerAtSuite(`a blob of ${profile} of ${known ? "known" : "unknown"} size`, {
      async open(content) {
        const registry = await fakeRegistry({ profile });
        const descriptor = registry.content.putBlob("a/b", content);
        return testClient().openBlob({
          reference: `${registry.address}/a/b`,
          descriptor: known ? descriptor : { ...descriptor, size: -1 },
        });
      },
    });
  }
}

readerAtSuite("a blob over HTTP/2", {
  async open(content) {
    const registry = await fakeRegistry({ tls: true });
    const descriptor = registry.content.putBlob("a/b", content);
    return testClient({ hosts: tlsHosts() }).openBlob({ reference: `${registry.address}/a/b`, descriptor });
  },
});

async function layout(content: Uint8Array): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "estargz-readers-"));
  later(() => rm(root, { recursive: true, force: true }));
  await openOciLayout(join(root, "layout")).pushBlob(describeBytes(content), content);
  return root;
}

readerAtSuite("a blob of an OCI layout", {
  open: async (content) => openOciLayout(join(await layout(content), "layout")).openBlob(describeBytes(content)),
});

readerAtSuite("a blob of an OCI archive", {
  async open(content) {
    const root = await layout(content);
    execFileSync("tar", ["-cf", join(root, "archive.tar"), "-C", join(root, "layout"), "."]);
    return openOciLayout(join(root, "archive.tar"), { archive: true }).openBlob(describeBytes(content));
  },
});

readerAtSuite("a blob of a web folder without ranges", {
  async open(content) {
    const server = createServer((_, response) => response.end(content));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    later(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/folder`;
    return testClient().httpDirectory(url).openBlob(describeBytes(content));
  },
});
