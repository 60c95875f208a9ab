import { readFile } from "node:fs/promises";
import { EstargzError, isEstargzError } from "@estargz/interface";
import { checkConfig, defaultConfigToml, notifySystemd, type SnapshotterConfig, startSnapshotter } from "@estargz/snapshotter";
import { Command } from "commander";
import { destination, pino } from "pino";
import { startTracing } from "./tracing.ts";

const DEFAULT_ADDRESS = "/run/estargz-snapshotter/estargz-snapshotter.sock";
const DEFAULT_ROOT = "/var/lib/estargz-snapshotter";
/** Why a snapshotter ends that has lost a thread. */
const FAILURE = "failure";
const DEFAULT_CONFIG = "/etc/estargz-snapshotter/config.toml";

interface ServeOptions {
  readonly address: string;
  readonly root: string;
  readonly config?: string;
  readonly logLevel?: string;
}

/** Reads a configuration file; a missing one is no error unless it was named. */
async function readConfig(path: string | undefined): Promise<string> {
  try {
    return await readFile(path ?? DEFAULT_CONFIG, "utf8");
  } catch (error) {
    if (path === undefined && (error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw new EstargzError("INVALID_CONFIG", `cannot read the configuration file ${path ?? DEFAULT_CONFIG}`, { cause: error });
  }
}

function describe(findings: ReturnType<typeof checkConfig>["findings"]): string[] {
  return findings.map(({ severity, path, message }) => `${severity}: ${path === "" ? "" : `${path}: `}${message}`);
}

async function loadConfig(path: string | undefined): Promise<{ config: SnapshotterConfig; notes: string[] }> {
  const { config, findings } = checkConfig(await readConfig(path));
  const notes = describe(findings);
  if (config === undefined) throw new EstargzError("INVALID_CONFIG", `${path ?? DEFAULT_CONFIG}: ${notes.join("; ")}`);
  return { config, notes };
}

async function serve(options: ServeOptions): Promise<void> {
  const { config, notes } = await loadConfig(options.config);
  const level = options.logLevel ?? (config.debug ? "debug" : config.log.level);
  const logger = pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination({ fd: 2, sync: true }));
  for (const note of notes) logger.warn({}, `configuration: ${note}`);
  const tracing = config.tracing.endpoint === "" ? undefined : await startTracing(config.tracing.endpoint);
  const { tracer } = tracing ?? {};
  // A signal that comes while it starts waits until it can be ended in order.
  let early: string | undefined;
  let stop = (reason: string): void => {
    early ??= reason;
  };
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => stop(signal));
  const daemon = await startSnapshotter({ address: options.address, root: options.root, config, logger, tracer });
  logger.info({ address: daemon.address, root: options.root, metrics: daemon.metricsAddress, pid: process.pid }, "serving snapshots");
  await notifySystemd("READY=1");
  let ending = false;
  const end = (reason: string, options: { readonly unmount?: boolean } = {}): void => {
    if (ending) return;
    ending = true;
    logger.info({ reason }, "ending");
    void notifySystemd("STOPPING=1")
      .then(() => daemon.close(options))
      .then(() => tracing?.close())
      .then(
        () => process.exit(reason === FAILURE ? 1 : 0),
        (error: unknown) => {
          logger.error({ err: error }, "could not end in order");
          process.exit(1);
        },
      );
  };
  stop = end;
  if (early !== undefined) end(early);
  // Whatever the configuration says, mounts stay for the next process, which systemd starts at once.
  void daemon.failed.then(() => end(FAILURE, { unmount: false }));
}

async function check(path: string | undefined): Promise<void> {
  const { config, findings } = checkConfig(await readConfig(path));
  for (const line of describe(findings)) process.stdout.write(`${line}\n`);
  if (config === undefined || findings.some((finding) => finding.severity === "error")) process.exitCode = 1;
  else process.stdout.write(`${path ?? DEFAULT_CONFIG}: ${findings.length === 0 ? "fine" : "usable"}\n`);
}

const program = new Command("estargz-snapshotter")
  .description("A containerd snapshotter that starts containers before their images are downloaded.")
  .option("--address <socket>", "unix socket to serve", DEFAULT_ADDRESS)
  .option("--root <dir>", "folder for everything that is kept", DEFAULT_ROOT)
  .option("--config <file>", `configuration (default: ${DEFAULT_CONFIG}, if it exists)`)
  .option("--log-level <level>", "debug, info, warn or error (default: the configuration's)")
  .action((options: ServeOptions) => serve(options));

const configCommand = program.command("config").description("look at configuration files");
configCommand.command("check").argument("[file]").description("say what is wrong with a file, and what has no effect").action(check);
configCommand
  .command("default")
  .description("print every key with its default")
  .action(() => {
    process.stdout.write(defaultConfigToml());
  });

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`estargz-snapshotter: ${isEstargzError(error) || error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
