import { once } from "node:events";
import type { OutputStream } from "./cli-context.ts";

/** Writes every piece, and waits when the reader at the other end is slower. */
export async function writeAll(stream: OutputStream, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const piece of pieces) {
    const more = stream.write(piece);
    if (more === false && "once" in stream) await once(stream as unknown as NodeJS.EventEmitter, "drain");
  }
}
