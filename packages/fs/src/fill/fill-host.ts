import type { Logger } from "@estargz/interface";
import type { OpenFiles } from "../store/open-files.ts";
import type { GivenBudget } from "./given-bytes.ts";
import type { LayerFill } from "./layer-fill.ts";
import type { FillSettings } from "./options.ts";
import type { TransferRun } from "./transfer-run.ts";

/** What a layer's fill asks of the scheduler. */
export interface FillHost {
  readonly settings: FillSettings;
  readonly logger: Logger;
  /** Files that the main thread has open. */
  readonly files: OpenFiles;
  /** Memory for chunks that the disk does not take, shared by all layers. */
  readonly given: GivenBudget;
  /** Something is queued. */
  pump(): void;
  /** Asks a decoder to hash chunks of an earlier process. */
  check(layer: LayerFill, chunks: readonly number[], urgent: boolean): void;
  /** Asks a decoder to copy a chunk from another layer, or to write zeros; false if no layer has it. */
  copy(layer: LayerFill, chunk: number): boolean;
  /** Whether joining a transfer is sooner than asking anew. */
  isWorthJoining(run: TransferRun, untilByte: number): boolean;
  /** A write to the store failed. */
  onStoreError(layer: LayerFill, code: string): void;
  /** All places stopped giving bytes, or one gives them again. */
  onSourceState(layer: LayerFill, reachable: boolean, code: string | undefined): void;
  onMiss(): void;
}
