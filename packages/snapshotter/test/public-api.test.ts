import { expect, it } from "vitest";
import * as api from "../src/index.ts";

it("exports these names and no others", () => {
  expect(Object.keys(api).toSorted()).toEqual([
    "SnapshotterTracing",
    "checkConfig",
    "connectSnapshotter",
    "createCriKeychain",
    "createOverlaySnapshotter",
    "createPrometheusMetrics",
    "defaultConfigToml",
    "diagnoseImage",
    "imageServiceProxy",
    "kubeletKeychain",
    "kubernetesKeychain",
    "notifySystemd",
    "openSqliteStore",
    "parseConfig",
    "recordAccess",
    "serveGrpc",
    "snapshotsRoutes",
    "startSnapshotter",
  ]);
});
