const MAX_LINE_BYTES = 16 * 1024;

function malformed(): Error {
  return Object.assign(new Error("malformed answer: a chunk"), { code: "ERR_MALFORMED_ANSWER" });
}

/** Decodes the chunked transfer coding (RFC 9112, 7.1) as it arrives. */
export class ChunkedDecoder {
  #line = "";
  #left = 0;
  /** What comes next: a chunk's size, its bytes, the line end after them, or the trailer. */
  #state: "size" | "bytes" | "end" | "trailer" | "done" = "size";

  get done(): boolean {
    return this.#state === "done";
  }

  /** Hands the bytes of the body on; gives how much of `bytes` belongs to the answer. */
  write(bytes: Buffer, body: (piece: Buffer) => void): number {
    let at = 0;
    while (at < bytes.length && this.#state !== "done") {
      if (this.#state === "bytes") {
        const take = Math.min(this.#left, bytes.length - at);
        body(bytes.subarray(at, at + take));
        at += take;
        this.#left -= take;
        if (this.#left === 0) this.#state = "end";
        continue;
      }
      const end = bytes.indexOf(0x0a, at);
      this.#line += bytes.toString("latin1", at, end < 0 ? bytes.length : end);
      if (this.#line.length > MAX_LINE_BYTES) throw malformed();
      if (end < 0) return bytes.length;
      at = end + 1;
      this.#endLine(this.#line.replace(/\r$/, ""));
      this.#line = "";
    }
    return at;
  }

  #endLine(line: string): void {
    if (this.#state === "end") {
      if (line !== "") throw malformed();
      this.#state = "size";
    } else if (this.#state === "trailer") {
      if (line === "") this.#state = "done";
    } else {
      const size = /^([0-9a-fA-F]{1,13})[ \t]*(?:;.*)?$/.exec(line)?.[1];
      if (size === undefined) throw malformed();
      this.#left = Number.parseInt(size, 16);
      this.#state = this.#left === 0 ? "trailer" : "bytes";
    }
  }
}
