import { type FakeRegistry, type RegistryProfileName, registryProfiles } from "@estargz/testing";
import { expect, test } from "vitest";
import { digestOf, OCI_MANIFEST, type RegistryClient, staticKeychain } from "../src/index.ts";
import { fakeRegistry, pattern, testClient } from "./harness.ts";

const REPOSITORY = "team/app";
const blob = pattern(600_000, "layer");
const others = [1, 2, 3].map((seed) => pattern(50_000, seed));
/** The registry's wishes and answers, by profile and behaviour. */
const matrix = new Map<string, Map<string, string>>();

interface Scene {
  readonly registry: FakeRegistry;
  readonly client: RegistryClient;
  readonly reference: string;
  readonly layer: ReturnType<FakeRegistry["content"]["putBlob"]>;
}

type Behaviour = (scene: Scene) => Promise<string | undefined>;

function same(bytes: Uint8Array, offset: number): void {
  expect(Buffer.compare(bytes, blob.subarray(offset, offset + bytes.length))).toBe(0);
}

/** Each gives `undefined`, or a word that replaces the number of requests. */
const behaviours: Readonly<Record<string, Behaviour>> = {
  "resolve a tag": async ({ client, reference }) => {
    const { manifest } = await client.resolve(reference, { platform: { os: "linux", architecture: "amd64" } });
    expect(manifest.layers).toHaveLength(4);
    return undefined;
  },
  "end of a layer": async ({ client, reference, layer }) => {
    const { bytes, size } = await client.openBlob({ reference, descriptor: layer }).readTail(10_000);
    expect(size).toBe(blob.length);
    same(bytes, blob.length - 10_000);
    return undefined;
  },
  "a range again": async ({ client, reference, layer }) => {
    const bytes = await client.openBlob({ reference, descriptor: layer }).readAt(123_456, 7_890);
    same(bytes, 123_456);
    return undefined;
  },
  "size unknown": async ({ client, reference, layer }) => {
    const reader = client.openBlob({ reference, descriptor: { ...layer, size: -1 } });
    const { bytes, size } = await reader.readTail(5_000);
    expect([size, bytes.length]).toEqual([blob.length, 5_000]);
    same(bytes, blob.length - 5_000);
    return undefined;
  },
  "5 scattered ranges": async ({ client, reference, layer }) => {
    const ranges = [500, 100_000, 200_000, 300_000, 590_000].map((offset) => ({ offset, length: 1000 }));
    const parts = await client.openBlob({ reference, descriptor: layer }).readRanges(ranges);
    for (const [index, { offset, length }] of ranges.entries()) {
      expect(parts[index]).toHaveLength(length);
      same(parts[index] as Uint8Array, offset);
    }
    return undefined;
  },
  "the same again": async (scene) => behaviours["5 scattered ranges"]?.(scene),
  "3 more layers": async ({ client, reference, registry }) => {
    const layers = others.map((bytes) => registry.content.putBlob(REPOSITORY, bytes));
    for (const [index, descriptor] of layers.entries()) {
      const { bytes } = await client.openBlob({ reference, descriptor }).readTail(1000);
      expect(Buffer.compare(bytes, (others[index] as Buffer).subarray(-1000))).toBe(0);
    }
    return undefined;
  },
  "redirect ends": async ({ client, reference, layer, registry }) => {
    if (registry.profile.redirects === 0) return "–";
    registry.expire("redirects");
    same(await client.openBlob({ reference, descriptor: layer }).readAt(1, 1000), 1);
    return undefined;
  },
  "token ends": async ({ client, reference, layer, registry }) => {
    if (registry.profile.auth !== "bearer") return "–";
    registry.expire("tokens");
    registry.expire("redirects");
    same(await client.openBlob({ reference, descriptor: layer }).readAt(77, 1000), 77);
    return undefined;
  },
  push: async ({ client, registry }) => {
    const repository = client.repository(`${registry.address}/team/pushed:v1`);
    const bytes = pattern(10_000, "pushed");
    const layer = { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: digestOf(bytes), size: bytes.length };
    expect(await repository.pushBlob(layer, bytes)).toBe("uploaded");
    const config = Buffer.from("{}");
    const configDescriptor = { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(config), size: config.length };
    await repository.pushBlob(configDescriptor, config, { chunkBytes: 1 });
    const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: configDescriptor, layers: [layer] };
    await repository.pushManifest(Buffer.from(JSON.stringify(manifest)), { mediaType: OCI_MANIFEST });
    return undefined;
  },
  mount: async ({ client, registry, layer }) => {
    const outcome = await client.repository(`${registry.address}/team/mounted`).pushBlob(layer, blob, { mountFrom: [REPOSITORY] });
    return outcome === "mounted" ? undefined : outcome;
  },
  "list tags": async ({ client, registry, reference }) => {
    for (const tag of ["a", "b", "c", "d"]) registry.content.putManifest(REPOSITORY, Buffer.from("{}"), OCI_MANIFEST, tag);
    expect(await client.repository(reference).listTags()).toEqual(["a", "b", "c", "d", "latest"]);
    return undefined;
  },
  referrers: async ({ client, reference }) => {
    const repository = client.repository(reference);
    const image = await repository.resolve({ platform: { os: "linux", architecture: "amd64" } });
    const { config } = image.manifest;
    const signature = {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      artifactType: "application/x.signature",
      config,
      layers: [],
      subject: image.descriptor,
    };
    const pushed = await repository.pushManifest(Buffer.from(JSON.stringify(signature)), { mediaType: OCI_MANIFEST, untagged: true });
    const found = await repository.referrers(image.descriptor.digest, { artifactType: "application/x.signature" });
    expect(found.map(({ digest }) => digest)).toEqual([pushed.digest]);
    return undefined;
  },
  delete: async ({ client, registry }) => {
    const repository = client.repository(`${registry.address}/team/pushed:v1`);
    const { descriptor } = await repository.fetchManifest();
    try {
      await repository.deleteManifest(descriptor.digest);
      return undefined;
    } catch (error) {
      expect(error).toMatchObject({ code: "UNSUPPORTED" });
      return "off";
    }
  },
};

test.each(Object.keys(registryProfiles) as RegistryProfileName[])("%s: every behaviour gives the right bytes", async (name) => {
  const registry = await fakeRegistry({ profile: name, users: { me: "secret" } });
  const keychain = staticKeychain({ [registry.address]: { type: "basic", username: "me", password: "secret" } });
  const client = testClient({ keychain, trustedRealms: [registry.tokenAddress] });
  const reference = `${registry.address}/${REPOSITORY}:latest`;
  const { layers } = registry.content.putImage(REPOSITORY, "latest", { layers: [blob, ...others].map((bytes) => ({ bytes })) });
  const scene: Scene = { registry, client, reference, layer: layers[0] as Scene["layer"] };
  const row = new Map<string, string>();
  for (const [title, behaviour] of Object.entries(behaviours)) {
    registry.clear();
    const word = await behaviour(scene);
    row.set(title, word ?? String(registry.requests.length));
  }
  matrix.set(name, row);
});

test("writes docs/registries.md", async () => {
  const titles = Object.keys(behaviours);
  const rows = Object.entries(registryProfiles).map(
    ([name, { title }]) => `| ${title} | ${titles.map((column) => matrix.get(name)?.get(column) ?? "?").join(" | ")} |`,
  );
  const table = [`| behaves like | ${titles.join(" | ")} |`, `|---${"|--:".repeat(titles.length)}|`, ...rows].join("\n");
  await expect(document(table)).toMatchFileSnapshot("../../../docs/registries.md");
});

function document(table: string): string {
  return `# Registries

What \`@estargz/registry\` does with registries as they are, not as the specification wishes them. This page is written by
\`packages/registry/test/profiles.test.ts\`, which runs every behaviour below against every profile of the registry simulator
in \`@estargz/testing\`, compares each byte, and counts requests. The profiles show behaviour that documentation, users' reports and
the work-arounds of other clients tell of; they are no claim about a version of a product. \`vitest run -u\` writes the page anew.

## Requests of each behaviour

Numbers are HTTP requests to the registry, its token service and the store that it redirects to, all together, in the order of the
columns and by one client, so that later columns profit from what earlier ones learned (tokens, redirects, refusals).
"–": does not apply. A word: what came instead, without an error for the caller.

${table}

## What the profiles do

| behaves like | permission | token | blobs | several ranges | last n bytes | a signed URL that has ended | peculiar |
|---|---|---|---|---|---|---|---|
${Object.values(registryProfiles).map(describe).join("\n")}

## What the client does about it

| quirk | answer |
|---|---|
| a range is answered with the whole blob (200) | what was asked for is taken out of it, and the rest is not read; a length that is not the blob's is refused; up to \`maxSkipBytes\` |
| several ranges are refused (400, 416), answered with the first only, or with everything | each is asked for alone, in parallel, and that server is not asked for several again for an hour |
| the last n bytes cannot be asked for | the size is asked for first; not needed where the descriptor tells it |
| a size is hidden (a star for the total) | the descriptor's is used, or a HEAD |
| fewer bytes than asked for | the rest is asked for |
| HEAD has no redirect, or is refused | nothing depends on HEAD; a GET of one byte tells the size |
| a redirect has ended (400, 401, 403, 404, 410) | the registry is asked again, once for each answer; the end that a signed URL announces is respected before it comes |
| several redirects | followed, five at most; never from https to http, to this machine or to link-local addresses |
| a store that wants a Referer | it gets the registry's origin, never a path or a query |
| gzip is claimed for bytes that are sent as they are | believed not, if the total is the blob's size; otherwise refused |
| challenges in any case, in one field or several | parsed; Bearer is preferred to Basic |
| a token service elsewhere | gets credentials if it is in the same registrable domain by https, Docker Hub's, or in \`trustedRealms\` |
| tokens in \`token\` or \`access_token\`, with or without a life | both; a minute without one; renewed before they end |
| 429, or 503 with Retry-After | waited for, and the requests in flight to that server are halved, then grow again |
| no referrers API | the tag that stands for it, for reading and pushing |
| mounts refused | the bytes are sent |
| a least size of an upload's chunks | kept |
`;
}

function describe(profile: (typeof registryProfiles)[RegistryProfileName]): string {
  const { store } = profile;
  const peculiar = [
    store.wholeWhenCold === true ? "the first read of a blob gets all of it" : "",
    store.ignoresRanges === true ? "ignores ranges" : "",
    store.hidesTotal === true ? "hides totals" : "",
    store.omitsContentType === true ? "no Content-Type" : "",
    store.labelsGzip === true ? "claims gzip" : "",
    store.maxRangeBytes === undefined ? "" : `at most ${store.maxRangeBytes} bytes an answer`,
    profile.headWithoutLocation === true ? "HEAD without redirect" : "",
    profile.wantsReferer === true ? "wants a Referer" : "",
    profile.omitsDigestHeader === true ? "no digest header" : "",
    profile.oddHeaderCase === true ? "header names in capitals" : "",
    profile.minChunkBytes === undefined ? "" : `chunks of ${profile.minChunkBytes} bytes at least`,
    profile.refusesMounts === true ? "refuses mounts" : "",
    profile.referrersApi ? "" : "no referrers API",
  ].filter((text) => text !== "");
  const life = profile.tokenSeconds === 0 ? "no life told" : `${profile.tokenSeconds} s`;
  const token =
    profile.auth === "bearer" ? `${profile.tokenField}, ${life}${profile.separateTokenService === true ? ", elsewhere" : ""}` : "–";
  const blobs = profile.redirects === 0 ? "direct" : profile.redirects === 1 ? "redirect" : `${profile.redirects} redirects`;
  const ended = profile.redirects === 0 ? "–" : (profile.expiredStatus ?? 403);
  return `| ${profile.title} | ${profile.auth} | ${token} | ${blobs} | ${store.several} | ${store.suffix} | ${ended} | ${peculiar.join("; ") || "–"} |`;
}
