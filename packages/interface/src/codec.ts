/** Options of {@link Codec.decode}. */
export interface DecodeOptions {
  /**
   * Bytes of output to let go by before the first one that is returned (`innerOffset` of a chunk that shares
   * its member with others). Default 0.
   */
  readonly skip?: number | undefined;
}

/** A decompressor that stops after the bytes asked for. Synchronous, pure, safe to use in a worker. */
export interface Codec {
  readonly name: "gzip" | "zstd";
  /**
   * Decompresses from the start of `bytes` and gives output bytes `skip` to `skip + length`. What follows in
   * `bytes` (the rest of the member, further members, other files) is left alone. Input may hold several
   * members or frames one after the other; they are read through as long as output is missing.
   * Never produces more than `skip + length` bytes plus one internal window.
   *
   * @throws `INVALID_COMPRESSION` for damaged or truncated input.
   */
  decode(bytes: Uint8Array, length: number, options?: DecodeOptions): Uint8Array;
}
