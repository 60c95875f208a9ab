/**
 * The whole tree of a layer in one packed buffer (DESIGN.md, "LayerIndex"). Placeholder for the shape that drivers use.
 */
export interface LayerIndex {
  /** The packed bytes: shared between threads without copies, stored on disk as they are. */
  readonly buffer: SharedArrayBuffer;
}
