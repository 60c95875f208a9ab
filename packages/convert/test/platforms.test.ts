import type { Descriptor, Platform } from "@estargz/interface";
import { expect, test } from "vitest";
import { platformName, selectManifests } from "../src/platforms.ts";

function image(platform: Platform | undefined, annotations?: Record<string, string>): Descriptor {
  return {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: `sha256:${"0".repeat(64)}`,
    size: 1,
    platform,
    annotations,
  } as Descriptor;
}

const amd64 = image({ os: "linux", architecture: "amd64" });
const arm = image({ os: "linux", architecture: "arm", variant: "v7" });
const attestation = image({ os: "unknown", architecture: "unknown" }, { "vnd.docker.reference.type": "attestation-manifest" });

test("all images but no attestations", () => {
  expect(selectManifests([amd64, attestation, arm])).toEqual([amd64, arm]);
});

test("wanted platforms only; without a variant every variant fits", () => {
  expect(selectManifests([amd64, arm], [{ os: "linux", architecture: "arm" }])).toEqual([arm]);
  expect(selectManifests([amd64, arm], [{ os: "linux", architecture: "arm", variant: "v7" }])).toEqual([arm]);
});

test("says what there is instead", () => {
  expect(() => selectManifests([amd64, arm], [{ os: "linux", architecture: "s390x" }])).toThrow(
    "the image has no linux/s390x; it has linux/amd64, linux/arm/v7: choose another platform",
  );
});

test("names platforms", () => {
  expect(platformName({ os: "linux", architecture: "arm64", variant: "v8" })).toBe("linux/arm64/v8");
});
