import type { WorkerOptions } from "node:worker_threads";

/** Where a worker's module is: beside the caller, as TypeScript in the sources and as JavaScript when built. */
export function workerUrl(name: string, importMetaUrl: string): URL {
  return new URL(importMetaUrl.endsWith(".ts") ? `${name}.ts` : `${name}.js`, importMetaUrl);
}

/** Options that let a worker started from sources find the other packages' sources, too. */
export function workerOptions(importMetaUrl: string): WorkerOptions {
  return importMetaUrl.endsWith(".ts") ? { execArgv: ["--conditions=@estargz/source"] } : {};
}
