import { join } from "node:path";
import { createDevFuseDriver } from "./dev-fuse/dev-fuse-driver.ts";
import { isDevFuseUsable } from "./dev-fuse/dev-fuse-options.ts";
import type { Driver } from "./driver.ts";
import { createFuseNativeDriver } from "./fuse-native/fuse-native-driver.ts";
import type { LayerFileSystemOptions } from "./layer-file-system-options.ts";

/** Makes the driver that options name. */
export async function createDriver(options: LayerFileSystemOptions, mountRoot: string): Promise<Driver> {
  const { driver } = options;
  if (typeof driver === "object") return driver;
  if (driver === "fuse-native" || (driver === undefined && !isDevFuseUsable())) return createFuseNativeDriver({ mountRoot });
  return createDevFuseDriver({ stateDirectory: join(options.root, "driver"), ...options.devFuse, mountRoot, logger: options.logger });
}
