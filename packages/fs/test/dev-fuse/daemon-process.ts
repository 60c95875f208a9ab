import { createDevFuseDriver, type DevFuseDriverOptions } from "../../src/index.ts";
import { openPrepared, type PreparedOptions } from "./prepared-layer.ts";

/** What a daemon of a test is started with, as JSON in its first argument. */
export interface DaemonStart {
  readonly driver: DevFuseDriverOptions;
  readonly layers: readonly { readonly folder: string; readonly number: number; readonly options: PreparedOptions }[];
}

const start = JSON.parse(process.argv[2] ?? "") as DaemonStart;
const driver = await createDevFuseDriver(start.driver);
const paths: string[] = [];
for (const { folder, number, options } of start.layers) paths.push(await driver.attach(openPrepared(folder, number, options)));
await driver.ready();
process.send?.({ paths, connections: driver.connections, keeperPid: driver.keeperPid });
process.on("message", (message) => {
  if (message === "statistics") process.send?.({ statistics: driver.statistics() });
  if (message === "detach") void driver.detach(start.layers[0]?.number ?? 0);
  if (message === "stop") void driver.close({ unmount: false }).then(() => process.disconnect());
  if (message === "unmount") void driver.close({ unmount: true }).then(() => process.disconnect());
});
