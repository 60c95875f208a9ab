import type { Shaper } from "@estargz/testing";
import type { StartMeasurement } from "./measurement.ts";
import type { Resources } from "./resources.ts";

/** What is started, and where. */
export interface StartOptions {
  readonly link: Shaper;
  /** `repository:tag` in the registry at the other end of the link. */
  readonly image: string;
  readonly lazy: boolean;
  /** Folder for everything; its path is short. */
  readonly folder: string;
  readonly resources: Resources;
  readonly signal: AbortSignal;
}

/** An image after a start of it was measured. */
export interface StartedImage {
  readonly measurement: StartMeasurement;
  readonly firstLine: string;
  /** Mounts the image's tree and gives its path; gone with `resources`. */
  mountTree(): Promise<string>;
}
