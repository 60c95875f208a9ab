/** Fields of a log line. Names are fixed: `digest`, `offset`, `bytes`, `durationMs`, `host`, `attempt`, `code`. */
export type LogFields = Readonly<Record<string, unknown>>;

/** A structured logger; a pino logger fits as it is. Libraries never print by themselves. */
export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
}

const nothing = (): void => {};

/** A logger that says nothing: the default everywhere. */
export const noLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };
