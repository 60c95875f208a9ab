/** Workspace sources are used instead of `dist`, so no test ever sees a stale build. */
export const sourceConditions: string[] = ["@estargz/source", "node", "import", "module", "default"];

/** Flags of every Node process that loads our code: see docs/architecture.md, "Known defects of the runtime". */
export const nodeFlags: string[] = ["--no-memory-protection-keys", "--wasm-wrapper-tiering-budget=1000000000"];
