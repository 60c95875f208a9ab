import { describe, expect, it } from "vitest";
import { isForeignLayer, isLayerMediaType, ociMediaType } from "../src/media-types.ts";

describe("media types", () => {
  it.each([
    ["application/vnd.oci.image.layer.v1.tar", true],
    ["application/vnd.oci.image.layer.v1.tar+gzip", true],
    ["application/vnd.oci.image.layer.v1.tar+zstd", true],
    ["application/vnd.docker.image.rootfs.diff.tar.gzip", true],
    ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true],
    ["application/vnd.in-toto+json", false],
    ["application/vnd.oci.image.config.v1+json", false],
  ])("%s is a layer: %s", (mediaType, expected) => {
    expect(isLayerMediaType(mediaType)).toBe(expected);
  });

  it.each([
    ["application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar+gzip"],
    ["application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"],
    ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"],
    ["application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json"],
    ["application/x-own", "application/x-own"],
  ])("%s becomes %s", (from, to) => {
    expect(ociMediaType(from)).toBe(to);
  });

  it("knows layers that may not be pushed elsewhere", () => {
    expect(isForeignLayer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")).toBe(true);
    expect(isForeignLayer("application/vnd.oci.image.layer.v1.tar+gzip")).toBe(false);
  });
});
