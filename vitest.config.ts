import { defineConfig } from "vitest/config";
import { nodeFlags, sourceConditions } from "./vitest.shared.ts";

const resolve = { conditions: sourceConditions };
const ssr = { resolve: { conditions: sourceConditions } };
const shared = { pool: "forks" as const, execArgv: nodeFlags, exclude: ["**/node_modules/**", "**/dist/**"] };
const tests = ["packages/*/test", "examples/*/test"];

export default defineConfig({
  resolve,
  ssr,
  test: {
    projects: [
      {
        resolve,
        ssr,
        test: {
          ...shared,
          name: "unit",
          include: tests.map((folder) => `${folder}/**/*.test.ts`),
          exclude: [...shared.exclude, "**/*.integration.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        resolve,
        ssr,
        test: {
          ...shared,
          name: "integration",
          include: tests.map((folder) => `${folder}/**/*.integration.test.ts`),
          // Real mounts and real daemons, two cores: one file after the other.
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
