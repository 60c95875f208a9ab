import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { directory, file } from "@estargz/format";
import { noise, type PushedImage, pushImage, smallSystem } from "./images.ts";
import { eventually, type TestNode } from "./node.ts";

/** An image of files with noise and their sums, and the programs to compare them. */
export interface ReaderImage {
  readonly reference: string;
  readonly files: number;
  readonly fileBytes: number;
  readonly username?: string;
  readonly password?: string;
}

function content(image: ReaderImage, index: number): Uint8Array {
  return noise(`${image.reference.replace(/^[^/]*/, "")} ${index}`, image.fileBytes);
}

/** The sum of one file. */
export function sumOf(image: ReaderImage, index: number): string {
  return createHash("sha256").update(content(image, index)).digest("hex");
}

/** Pushes a reader's image: 64 KiB chunks, so that reads miss often. */
export function pushReaderImage(image: ReaderImage): Promise<PushedImage> {
  const numbers = Array.from({ length: image.files }, (_, index) => index);
  const { username, password } = image;
  return pushImage({
    reference: image.reference,
    layers: [
      smallSystem(),
      [directory("data"), ...numbers.map((index) => file(`data/${index}`, content(image, index)))],
      [directory("sums"), ...numbers.map((index) => file(`sums/${index}`, sumOf(image, index)))],
    ],
    write: { chunkSizeBytes: 65_536 },
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  });
}

/** Reads every file, again and again until /tmp/stop is there; a line for each file and round, and one for each failure. */
const SCRIPT = `
round=0
while [ ! -e /tmp/stop ]; do
  for f in /data/*; do
    [ -e /tmp/stop ] && break
    sum=$(sha256sum < $f) || echo "error reading $f"
    [ "$sum" = "$(cat /sums/\${f##*/})  -" ] || echo "error wrong bytes in $f: $sum"
    find /data -name nothing || echo "error listing"
    echo "read $f"
  done
  round=$((round + 1))
  echo "round $round"
done
echo "ended"
`;

/** A container that reads all the time and complains about anything that is not as it should be. */
export class Reader {
  readonly name: string;
  readonly #node: TestNode;
  readonly #reference: string;
  readonly #log: string;

  constructor(node: TestNode, reference: string, name: string) {
    this.#node = node;
    this.#reference = reference;
    this.name = name;
    this.#log = join(node.folder, `${name}.log`);
  }

  async start(): Promise<void> {
    await writeFile(this.#log, "");
    const logged = ["--log-uri", `file://${this.#log}`];
    await this.#node.containerd.ctr([
      "run",
      "-d",
      "--snapshotter=estargz",
      ...logged,
      this.#reference,
      this.name,
      "/bin/bash",
      "-c",
      SCRIPT,
    ]);
  }

  async lines(): Promise<string[]> {
    return (await readFile(this.#log, "utf8")).split("\n").filter(Boolean);
  }

  async #count(prefix: string): Promise<number> {
    return (await this.lines()).filter((line) => line.startsWith(prefix)).length;
  }

  /** Files read so far. */
  reads(): Promise<number> {
    return this.#count("read ");
  }

  /** What went wrong so far. */
  async errors(): Promise<string[]> {
    return (await this.lines()).filter((line) => !/^(?:read |round |ended$)/.test(line));
  }

  /** Waits until it has read some files more. */
  async readsOn(files = 1): Promise<void> {
    const before = await this.reads();
    await eventually(`${this.name} reads on`, async () => (await this.reads()) >= before + files, 240_000);
  }

  /** Waits until it has read everything once more. */
  async readsAll(): Promise<void> {
    const before = await this.#count("round ");
    await eventually(`${this.name} reads everything once more`, async () => (await this.#count("round ")) > before + 1, 240_000);
  }

  /** Ends it in order and gives everything it complained about. */
  async complaints(): Promise<string[]> {
    const touch = ["tasks", "exec", "--exec-id", `stop-${Date.now()}`, this.name, "/bin/touch", "/tmp/stop"];
    // May be killed with the container, which ends as soon as it sees the file. What counts is that it says so.
    await this.#node.containerd.ctr(touch, { allowFailure: true });
    await eventually(`${this.name} ends`, async () => (await this.lines()).includes("ended"));
    return await this.errors();
  }
}
