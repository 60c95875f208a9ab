import { EstargzError } from "@estargz/interface";
import { z } from "zod";

/** What an image's configuration says about running it (OCI image-spec, config.md). */
export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  readonly environment: readonly string[];
  readonly workingDirectory: string;
  readonly user: string;
}

const strings = z.array(z.string()).nullish();
const schema = z.object({
  config: z
    .object({
      Entrypoint: strings,
      Cmd: strings,
      Env: strings,
      WorkingDir: z.string().nullish(),
      User: z.string().nullish(),
    })
    .nullish(),
});

/**
 * Reads what is needed to start a container from an image's configuration.
 *
 * @throws `INVALID_CONFIG` for something that is no image configuration.
 */
export function parseImageConfig(value: unknown): ImageConfig {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw new EstargzError("INVALID_CONFIG", "the image's configuration is not an OCI image configuration");
  const config = parsed.data.config ?? {};
  return {
    entrypoint: config.Entrypoint ?? [],
    command: config.Cmd ?? [],
    environment: config.Env ?? [],
    workingDirectory: config.WorkingDir || "/",
    user: config.User ?? "",
  };
}
