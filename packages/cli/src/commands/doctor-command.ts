import { parsePlatform } from "@estargz/registry";
import type { Diagnosis, DiagnosisCheck } from "@estargz/snapshotter";
import type { Command } from "commander";
import { type CliContext, ExitWith } from "../cli-context.ts";
import { addImageOptions, type ImageOptions } from "../image-options.ts";
import { openStore } from "../open-image.ts";

interface DoctorOptions extends ImageOptions {
  readonly platform?: string;
  readonly node: boolean;
  readonly containerdConfig?: string;
  readonly snapshotter?: string;
  readonly json?: boolean;
}

const MARKS: Readonly<Record<DiagnosisCheck["status"], string>> = {
  ok: "ok     ",
  warning: "warning",
  failed: "FAILED ",
  skipped: "skipped",
};

function checkText(check: DiagnosisCheck): string {
  const layer = check.layer === undefined ? "" : `layer ${check.layer}: `;
  // A fix may be lines of a configuration file: they stay together below the check that they belong to.
  const fix = check.fix === undefined ? "" : `         fix: ${check.fix.replaceAll("\n", "\n              ")}\n`;
  return `${MARKS[check.status]}  ${layer}${check.message}\n${fix}`;
}

function verdict({ lazy, lazyLayers, layers, reference }: Diagnosis): string {
  if (lazy === "yes") return `${reference} will be lazy: ${layers} of ${layers} layers\n`;
  if (lazy === "partly") return `${reference} will be partly lazy: ${lazyLayers} of ${layers} layers; the others are pulled in full\n`;
  return `${reference} will not be lazy\n`;
}

/** `estargz doctor IMAGE` */
export function addDoctorCommand(program: Command, context: CliContext): void {
  const command = program
    .command("doctor")
    .description("say whether an image will be lazy on this machine, why not, and what to do")
    .argument("<image>")
    .option("--platform <os/arch>", "image of an index to take")
    .option("--no-node", "look at the image and its registry only, not at this machine")
    .option("--containerd-config <file>", "containerd's configuration (default: /etc/containerd/config.toml)")
    .option("--snapshotter <name>", "the snapshotter's name in that configuration")
    .option("--json", "for programs");
  addImageOptions(command).action(async (name: string, options: DoctorOptions) => {
    const store = openStore(name, options);
    try {
      // Loaded here: no other command needs containerd's services and what they bring along.
      const { diagnoseImage } = await import("@estargz/snapshotter");
      const diagnosis = await diagnoseImage({
        image: store,
        platform: options.platform === undefined ? undefined : parsePlatform(options.platform),
        node: options.node,
        containerdConfig: options.containerdConfig,
        snapshotterName: options.snapshotter,
        signal: context.signal,
      });
      if (options.json === true) context.stdout.write(`${JSON.stringify(diagnosis, null, 2)}\n`);
      else context.stdout.write(`${diagnosis.checks.map(checkText).join("")}\n${verdict(diagnosis)}`);
      if (diagnosis.lazy !== "yes") throw new ExitWith(1);
    } finally {
      await store.close();
    }
  });
}
