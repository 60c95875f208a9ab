import { createHash } from "node:crypto";
import { type Descriptor, parseDigest } from "@estargz/interface";
import type { ImageStore } from "@estargz/registry";

/** Stores a JSON document as a blob. */
export async function pushJsonBlob(store: ImageStore, mediaType: string, document: unknown, signal: AbortSignal): Promise<Descriptor> {
  const bytes = Buffer.from(JSON.stringify(document));
  const digest = parseDigest(`sha256:${createHash("sha256").update(bytes).digest("hex")}`);
  const descriptor: Descriptor = { mediaType, digest, size: bytes.length };
  await store.pushBlob(descriptor, bytes, { signal });
  return descriptor;
}

/** Stores a JSON document as a manifest or index; the store's tag is set unless `untagged`. */
export async function pushJson(
  store: ImageStore,
  mediaType: string,
  document: unknown,
  options: { readonly untagged?: boolean; readonly tag?: string; readonly signal: AbortSignal },
): Promise<Descriptor> {
  const { digest, size } = await store.pushManifest(Buffer.from(JSON.stringify(document)), { mediaType, ...options });
  return { mediaType, digest, size };
}
