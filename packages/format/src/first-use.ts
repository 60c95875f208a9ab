import { EstargzError } from "@estargz/interface";

/**
 * Annotation of a layer's descriptor: the chunks that a start of the image read, in the order of first use. With the prefix
 * `containerd.io/snapshot/` containerd hands it on to snapshotters as a label. Who doesn't know it loses nothing.
 */
export const FIRST_USE_ANNOTATION = "containerd.io/snapshot/estargz.first-use";

/** containerd allows 4,096 bytes for a label's key and value. */
const MAX_TEXT_BYTES = 4000;
const VERSION = 1;

function writeNumber(bytes: number[], value: number): void {
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) + 0x80);
  bytes.push(rest);
}

/** Runs of neighbouring chunks, in the order in which the first of each was used. */
function runsOf(chunks: readonly number[], gap: number): { start: number; length: number }[] {
  const order = new Map<number, number>();
  for (const chunk of chunks) if (!order.has(chunk)) order.set(chunk, order.size);
  const sorted = [...order.keys()].sort((a, b) => a - b);
  const runs: { start: number; length: number; first: number }[] = [];
  for (const chunk of sorted) {
    const last = runs.at(-1);
    const first = order.get(chunk) ?? 0;
    if (last === undefined || chunk - (last.start + last.length) > gap) {
      runs.push({ start: chunk, length: 1, first });
      continue;
    }
    last.length = chunk - last.start + 1;
    last.first = Math.min(last.first, first);
  }
  return runs.sort((a, b) => a.first - b.first);
}

function encodeRuns(runs: readonly { readonly start: number; readonly length: number }[], maxBytes: number): number[] {
  const bytes = [VERSION];
  let before = 0;
  for (const { start, length } of runs) {
    const delta = start - before;
    const run: number[] = [];
    writeNumber(run, delta >= 0 ? delta * 2 : -delta * 2 - 1);
    writeNumber(run, length);
    if (bytes.length + run.length > maxBytes) break;
    bytes.push(...run);
    before = start + length;
  }
  return bytes;
}

/**
 * Writes a record of first use so that it fits into a label. What is used first is kept exactly as long as that fits; a record with
 * too many runs takes small gaps along, and one that is still too long loses its end.
 *
 * @param chunks - Numbers of chunks as in `Layer.chunks`, in order of first use.
 */
export function encodeFirstUse(chunks: readonly number[]): string {
  const maxBytes = Math.floor((MAX_TEXT_BYTES * 3) / 4) - 3;
  for (const gap of [0, 1, 2, 4]) {
    const runs = runsOf(chunks, gap);
    const bytes = encodeRuns(runs, Number.POSITIVE_INFINITY);
    if (bytes.length <= maxBytes) return toBase64(bytes);
  }
  return toBase64(encodeRuns(runsOf(chunks, 4), maxBytes));
}

function toBase64(bytes: readonly number[]): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/**
 * Reads a record of first use.
 *
 * @param chunkCount - Chunks of the layer: numbers above are left out.
 * @returns Numbers of chunks in order of first use, each once.
 * @throws {@link EstargzError} `INVALID_ARGUMENT` for a malformed text, `UNSUPPORTED` for one of a later version.
 */
export function decodeFirstUse(text: string, chunkCount: number): number[] {
  const bytes = fromBase64(text);
  if (bytes[0] !== VERSION)
    throw new EstargzError("UNSUPPORTED", `a record of first use of version ${bytes[0] ?? "none"} is not understood`);
  const chunks = new Set<number>();
  let at = 1;
  const read = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = bytes[at];
      if (byte === undefined || factor > 2 ** 42) throw malformed();
      at += 1;
      value += (byte % 0x80) * factor;
      if (byte < 0x80) return value;
    }
  };
  for (let before = 0; at < bytes.length; ) {
    const delta = read();
    const start = before + (delta % 2 === 0 ? delta / 2 : -(delta + 1) / 2);
    const length = read();
    if (start < 0 || length === 0) throw malformed();
    before = start + length;
    for (let chunk = start; chunk < Math.min(before, chunkCount); chunk++) chunks.add(chunk);
  }
  return [...chunks];
}

function malformed(): EstargzError {
  return new EstargzError("INVALID_ARGUMENT", "the record of first use is malformed");
}

function fromBase64(text: string): Uint8Array {
  if (text.length > MAX_TEXT_BYTES) throw malformed();
  try {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  } catch {
    throw malformed();
  }
}
