import { convertImage, copyImage } from "@estargz/convert";
import { createRegistryClient, openImageStore } from "@estargz/registry";
import type { BuiltImage } from "./image/build-image.ts";
import { unlessInterrupted } from "./interruption.ts";
import type { DemoOptions } from "./options.ts";
import { estargz } from "./own-programs.ts";
import type { Progress } from "./progress.ts";
import type { Resources } from "./resources.ts";
import { lastWords } from "./run-program.ts";

/** An image in the registry, and how it is started. */
export interface PublishedImage {
  readonly name: string;
  readonly repository: string;
  /** `repository:tag`. */
  readonly path: string;
  readonly lazy: boolean;
  readonly compressedBytes: number;
}

/** What is published, and where. */
export interface PublishOptions {
  readonly image: BuiltImage;
  /** Address of the registry itself, without the link. */
  readonly registry: string;
  readonly options: DemoOptions;
  readonly progress: Progress;
  readonly resources: Resources;
  readonly signal: AbortSignal;
}

/** Pushes the image as it is, converted, and with a record of what a start reads. */
export async function publishImages(publish: PublishOptions): Promise<PublishedImage[]> {
  const { image, registry, options, progress, resources, signal } = publish;
  await using client = createRegistryClient({ proxy: "none" });
  const source = openImageStore(`oci:${image.directory}:latest`, { client });
  const compressedBytes = image.layers.reduce((sum, { size }) => sum + size, 0);

  progress.step("pushing the plain image");
  await copyImage(source, client.repository(`${registry}/demo/plain:latest`), { signal });
  progress.done();

  progress.step("converting and pushing it");
  let read = 0;
  const { images } = await convertImage(source, client.repository(`${registry}/demo/lazy:latest`), {
    chunkSizeBytes: options.chunkSizeBytes,
    signal,
    onEvent(event) {
      if (event.type !== "bytes") return;
      read += event.readBytes;
      progress.detail(`${Math.floor((read / compressedBytes) * 100)} %`);
    },
  });
  const converted = images.flatMap(({ layers }) => layers).reduce((sum, { to }) => sum + to.size, 0);
  progress.done(`${(converted / 1e6).toFixed(1)} MB`);
  progress.step("running it once to record what a start reads");
  const optimize = estargz(["optimize", `${registry}/demo/lazy:latest`, `${registry}/demo/optimized:latest`]);
  resources.add("the recording", () => optimize.stop());
  const code = await unlessInterrupted(signal, optimize.exited);
  if (code !== 0) throw new Error(`estargz optimize ended with ${code}: ${lastWords(optimize.errors())}`);
  progress.done(
    optimize
      .errors()
      .trim()
      .replace(/^estargz: /, ""),
  );
  return [
    { name: "full pull", repository: "demo/plain", path: "demo/plain:latest", lazy: false, compressedBytes },
    { name: "lazy", repository: "demo/lazy", path: "demo/lazy:latest", lazy: true, compressedBytes: converted },
    { name: "lazy, optimized", repository: "demo/optimized", path: "demo/optimized:latest", lazy: true, compressedBytes: converted },
  ];
}
