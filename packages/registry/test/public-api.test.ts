import { expect, test } from "vitest";
import * as api from "../src/index.ts";

test("exports these names and no others", () => {
  expect(Object.keys(api).toSorted((a, b) => a.localeCompare(b))).toEqual([
    "anonymousKeychain",
    "asLayerSource",
    "chainKeychain",
    "choosePlatform",
    "createRegistryClient",
    "digestOf",
    "directHosts",
    "DOCKER_INDEX",
    "DOCKER_MANIFEST",
    "dockerConfigKeychain",
    "environmentKeychain",
    "externalTocTag",
    "fetchExternalToc",
    "formatReference",
    "hostPlatform",
    "hostsDirectory",
    "isIndexMediaType",
    "kubernetesFileKeychain",
    "kubernetesKeychain",
    "mirrorHosts",
    "OCI_CONFIG",
    "OCI_INDEX",
    "OCI_MANIFEST",
    "openImageStore",
    "openOciLayout",
    "parseConfig",
    "parseManifest",
    "parsePlatform",
    "parseReference",
    "podmanKeychain",
    "RegistryError",
    "staticKeychain",
  ]);
});
