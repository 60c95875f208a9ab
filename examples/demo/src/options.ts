import { parseArgs } from "node:util";

/** What the demo was asked for. */
export interface DemoOptions {
  readonly small: boolean;
  readonly rounds: number;
  readonly withoutContainerd: boolean;
  readonly jsonFile: string | undefined;
  readonly chunkSizeBytes: number;
  readonly roundTripMs: number;
  readonly megabitsPerSecond: number;
  readonly help: boolean;
}

/** What `--help` prints. */
export const usage = `npm run demo -- [options]

Builds an image of a Node service from what is on this machine, pushes it to a registry behind a slow link, once as plain gzip and
once converted, and starts it both ways until its first line.

  --small               a small image and one round: under a minute
  --rounds N            rounds of each way; medians are shown (3)
  --without-containerd  through runc alone, also where containerd is installed
  --json FILE           write the figures to FILE too
  --chunk-size BYTES    largest chunk of the converted image (65536)
  --rtt MS              round trip of the link (20)
  --rate MBIT           rate of the link in Mbit/s (200)
  --help                this text
`;

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new Error(`--${name} ${text} must be a number above 0`);
  return value;
}

/** Reads the command line; throws with one line for a wrong one. */
export function parseOptions(args: readonly string[]): DemoOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      small: { type: "boolean", default: false },
      rounds: { type: "string" },
      "without-containerd": { type: "boolean", default: false },
      json: { type: "string" },
      "chunk-size": { type: "string", default: "65536" },
      rtt: { type: "string", default: "20" },
      rate: { type: "string", default: "200" },
      help: { type: "boolean", default: false },
    },
  });
  return {
    small: values.small,
    rounds: Math.ceil(positive("rounds", values.rounds ?? (values.small ? "1" : "3"))),
    withoutContainerd: values["without-containerd"],
    jsonFile: values.json,
    chunkSizeBytes: Math.ceil(positive("chunk-size", values["chunk-size"])),
    roundTripMs: positive("rtt", values.rtt),
    megabitsPerSecond: positive("rate", values.rate),
    help: values.help,
  };
}
