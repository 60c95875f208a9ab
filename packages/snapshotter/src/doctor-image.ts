import { MAX_FOOTER_BYTES, openLayer, parseFooter, TOC_DIGEST_ANNOTATION } from "@estargz/format";
import type { Descriptor, Platform } from "@estargz/interface";
import { isDigest, isEstargzError } from "@estargz/interface";
import { fetchExternalToc, type ImageStore } from "@estargz/registry";
import type { DiagnosisCheck } from "./doctor.ts";
import { adviceFor, type FallbackCode } from "./fallback.ts";

/** What was found about an image. */
export interface ImageFindings {
  readonly layers: number;
  readonly lazyLayers: number;
  readonly checks: readonly DiagnosisCheck[];
}

const LAYER_TYPE = /^application\/vnd\.(?:oci\.image\.layer\.v1\.tar|docker\.image\.rootfs\.diff\.tar)(?:\.|\+)?(gzip|zstd)?$/;
/** Layers that are looked at; the rest of a longer image is taken to be alike. */
const MAX_LAYERS = 200;

function failed(id: string, error: unknown, layer?: number): DiagnosisCheck {
  const code: FallbackCode = isEstargzError(error) ? error.code : "INTERNAL";
  const message = error instanceof Error ? error.message : String(error);
  const fix = adviceFor(code) ?? "look at the message; if it is no help, report it";
  return { id, status: "failed", message: `${code}: ${message}`, fix, ...(layer === undefined ? {} : { layer }) };
}

/** Checks an image and each of its layers. */
export async function checkImage(
  image: ImageStore,
  platform: Platform | undefined,
  signal: AbortSignal | undefined,
): Promise<ImageFindings> {
  let layers: readonly Descriptor[];
  const checks: DiagnosisCheck[] = [];
  try {
    const resolved = await image.resolve({ platform, signal });
    layers = resolved.manifest.layers;
    checks.push({ id: "image.resolve", status: "ok", message: `manifest ${resolved.descriptor.digest} with ${layers.length} layers` });
  } catch (error) {
    signal?.throwIfAborted();
    return { layers: 0, lazyLayers: 0, checks: [failed("image.resolve", error)] };
  }
  let lazyLayers = 0;
  for (const [index, descriptor] of layers.slice(0, MAX_LAYERS).entries()) {
    const found = await checkLayer(image, descriptor, index, signal);
    checks.push(...found);
    if (found.every((check) => check.status !== "failed")) lazyLayers += 1;
  }
  return { layers: layers.length, lazyLayers, checks };
}

async function checkLayer(
  image: ImageStore,
  descriptor: Descriptor,
  layer: number,
  signal: AbortSignal | undefined,
): Promise<DiagnosisCheck[]> {
  const checks: DiagnosisCheck[] = [];
  const type = LAYER_TYPE.exec(descriptor.mediaType);
  if (type?.[1] === undefined) {
    const fix = "convert the image: estargz convert SRC DST";
    checks.push({ id: "layer.media-type", status: "failed", message: `${descriptor.mediaType} is not a compressed layer`, fix, layer });
    return checks;
  }
  const annotation = descriptor.annotations?.[TOC_DIGEST_ANNOTATION];
  const blob = image.openBlob(descriptor);
  try {
    const tail = await blob.readTail(Math.min(MAX_FOOTER_BYTES, descriptor.size), { signal });
    const ranges = await checkRange(blob, descriptor, signal);
    if (ranges !== undefined) checks.push({ ...ranges, layer });
    const footer = parseFooter(tail.bytes, tail.size);
    if (annotation === undefined || !isDigest(annotation)) {
      const message = `the blob is ${footer.kind === "zstd" ? "zstd:chunked" : "eStargz"}, but its descriptor has no ${TOC_DIGEST_ANNOTATION}`;
      const fix = "the annotation was lost in a copy: copy with a tool that keeps annotations, or convert again";
      checks.push({ id: "layer.toc-digest", status: "failed", message, fix, layer });
      return checks;
    }
    const opened = await openLayer(blob, {
      annotations: descriptor.annotations,
      tocDigest: annotation,
      externalToc: () => fetchExternalToc(image, descriptor.digest, { signal }),
      signal,
    });
    const chunks = opened.chunks.length;
    const message = `${opened.format}, ${opened.entries.length} entries in ${chunks} chunks, TOC digest ${annotation.slice(0, 19)}… proven`;
    checks.push({ id: "layer.toc", status: "ok", message, layer });
  } catch (error) {
    signal?.throwIfAborted();
    const lost = isEstargzError(error, "NOT_ESTARGZ") && annotation !== undefined;
    checks.push(failed(lost ? "layer.footer" : "layer.open", error, layer));
  } finally {
    await blob.close?.();
  }
  return checks;
}

/** A byte out of the middle: what a container's read asks for. */
async function checkRange(
  blob: ReturnType<ImageStore["openBlob"]>,
  descriptor: Descriptor,
  signal: AbortSignal | undefined,
): Promise<DiagnosisCheck | undefined> {
  if (descriptor.size < 4096) return undefined;
  try {
    const bytes = await blob.readAt(Math.floor(descriptor.size / 2), 1, { signal });
    return { id: "registry.ranges", status: "ok", message: `a range of ${bytes.length} byte is answered` };
  } catch (error) {
    signal?.throwIfAborted();
    return failed("registry.ranges", error);
  }
}
