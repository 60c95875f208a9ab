import { describe, expect, it } from "vitest";
import { checkConfig, defaultConfigToml, parseConfig } from "../src/index.ts";

const REFERENCE = `
metrics_address = "127.0.0.1:8234"
http_cache_type = "memory"
noprefetch = true
allow_no_verification = true
[blob]
valid_interval = 60
fetching_timeout_sec = 120
[directory_cache]
direct = true
[kubeconfig_keychain]
enable_keychain = true
kubeconfig_path = "/etc/kubernetes/snapshotter/config.conf"
[cri_keychain]
enable_keychain = true
image_service_path = "/run/containerd/containerd.sock"
[[resolver.host."docker.io".mirrors]]
host = "mirror.example:5000"
insecure = true
header = { "x-a" = "1", "x-b" = ["2", "3"] }
[snapshotter]
allow_invalid_mounts_on_restart = true
[fuse_manager]
enable = true
`;

describe("the configuration", () => {
  it("accepts the reference implementation's file, and says what has no effect", () => {
    const { config, findings } = checkConfig(REFERENCE);
    expect(config).toMatchObject({ noprefetch: true, allow_no_verification: true, blob: { fetching_timeout_sec: 120 } });
    expect(config?.resolver.host["docker.io"]?.mirrors[0]).toMatchObject({ host: "mirror.example:5000", insecure: true });
    expect(findings.map(({ severity, path }) => `${severity} ${path}`)).toEqual([
      "warning http_cache_type",
      "warning blob.valid_interval",
      "warning directory_cache.direct",
      "warning snapshotter.allow_invalid_mounts_on_restart",
      "warning fuse_manager.enable",
    ]);
  });

  it.each([
    ["metrics_addres = ''", "metrics_addres", "metrics_address"],
    ["unmount_on_exit = true", "unmount_on_exit", "snapshotter.unmount_on_exit"],
    ["[snapshotter]\natach_timeout_sec = 3", "snapshotter.atach_timeout_sec", "snapshotter.attach_timeout_sec"],
    ["[resolvr]\nx = 1", "resolvr", "resolver"],
  ])("names the nearest known key: %s", (toml, path, known) => {
    expect(checkConfig(toml).findings).toContainEqual({
      severity: "error",
      path,
      message: `unknown key; the nearest known one is ${known}`,
    });
    // A daemon starts nevertheless: the file may be of a newer version.
    expect(parseConfig(toml).log.level).toBe("info");
  });

  it.each([
    ["syntax", "a = ", "INVALID_CONFIG"],
    ["a type", "noprefetch = 1", "INVALID_CONFIG"],
    ["a bound", "[snapshotter]\nattach_timeout_sec = 0", "INVALID_CONFIG"],
    ["a size", '[cache]\nmax_bytes = "3 bananas"', "INVALID_CONFIG"],
    ["a choice", '[fill]\nbackground = "sometimes"', "INVALID_CONFIG"],
  ])("refuses a wrong value: %s", (_name, toml, code) => {
    expect(() => parseConfig(toml)).toThrow(expect.objectContaining({ code }));
  });

  it("prints every default, and reads it back without a finding", () => {
    const toml = defaultConfigToml();
    expect(checkConfig(toml)).toEqual({ config: parseConfig(""), findings: [] });
    expect(toml).toContain("unmount_on_exit = false");
  });

  it("reads sizes with units", () => {
    expect(parseConfig('[cache]\nmax_bytes = "1.5 GiB"').cache.max_bytes).toBe(1.5 * 2 ** 30);
    expect(parseConfig("[cache]\nmax_bytes = 7").cache.max_bytes).toBe(7);
  });

  it("warns of what takes safety away", () => {
    expect(checkConfig("disable_verification = true").findings[0]).toMatchObject({ severity: "warning", path: "disable_verification" });
  });
});
