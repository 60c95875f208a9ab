import { type Command, Option } from "commander";

/** Options of every command that reads or writes images. */
export interface ImageOptions {
  readonly plainHttp?: boolean | undefined;
  readonly hostsDir?: string | undefined;
}

/** Adds them to a command. */
export function addImageOptions(command: Command): Command {
  return command
    .addOption(new Option("--plain-http", "talk to registries without TLS (127.0.0.1 and localhost need no option)"))
    .addOption(new Option("--hosts-dir <folder>", "folder of hosts.toml files: mirrors and certificates (containerd's certs.d)"));
}
