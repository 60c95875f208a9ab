import type { Driver } from "@estargz/fs";

/** Shows nothing: for measuring the fill alone. */
export function nullDriver(): Driver {
  const nothing = async (): Promise<void> => undefined;
  return {
    name: "dev-fuse",
    attach: async (layer) => `/nowhere/${layer.number}`,
    ready: nothing,
    exactPath: () => undefined,
    detach: nothing,
    statistics: () => ({ requests: {}, misses: 0, errors: 0 }),
    close: nothing,
  };
}
