import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { unlessInterrupted } from "./interruption.ts";
import { estargz, programFlags } from "./own-programs.ts";
import { lastWords, type Program, startProgram } from "./run-program.ts";
import type { StartedImage, StartOptions } from "./started-image.ts";

function plainRun(args: readonly string[]): Program {
  return startProgram(process.execPath, [...programFlags, fileURLToPath(new URL("plain-run.ts", import.meta.url)), ...args]);
}

/**
 * Starts an image through runc alone, until the container's first line: by a full pull that is unpacked, or by `estargz run`.
 */
export async function startWithoutContainerd(options: StartOptions): Promise<StartedImage> {
  const { link, image, lazy, resources, signal } = options;
  const folder = await resources.make(
    "a folder",
    () => mkdtemp(join(options.folder, lazy ? "l" : "f")),
    (path) => rm(path, { recursive: true, force: true, maxRetries: 5 }),
  );
  const reference = `${link.address}/${image}`;
  const state = join(folder, "s");
  const before = await link.statistics();
  const startedAt = performance.now();
  const container = lazy ? estargz(["run", "--root", state, reference]) : plainRun([reference, folder]);
  resources.add("the container", () => container.stop());
  const firstLine = await unlessInterrupted(signal, container.line());
  const seconds = (performance.now() - startedAt) / 1000;
  const after = await link.statistics();
  const code = await unlessInterrupted(signal, container.exited);
  if (code !== 0) throw new Error(`the container ended with ${code}: ${lastWords(container.errors())}`);
  return {
    measurement: { seconds, pullSeconds: undefined, bytes: after.bytesDown - before.bytesDown, requests: after.requests - before.requests },
    firstLine,
    async mountTree() {
      if (!lazy) return join(folder, "rootfs");
      const path = join(folder, "tree");
      const mount = estargz(["mount", "--root", state, reference, path]);
      resources.add("a mount", () => mount.stop());
      await unlessInterrupted(signal, mount.line());
      return path;
    },
  };
}
