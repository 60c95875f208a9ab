/** Flags of every Node process that loads estargz code: see docs/architecture.md, "Known defects of the runtime". */
export const nodeFlags: readonly string[] = ["--no-memory-protection-keys", "--wasm-wrapper-tiering-budget=1000000000"];
