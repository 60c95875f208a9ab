// The Debian packages that tests and the demo use, and how they are installed without starting a service.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";

/** Package and what it is for. */
export const debianPackages = {
  attr: "getfattr: extended attributes, compared between trees",
  chromium: "a real browser for the browser tests",
  containerd: "the container daemon that the snapshotter serves",
  curl: "the peer of the registry benchmark",
  "docker-registry": "a real registry",
  fuse3: "fusermount3: mounts without root",
  gcc: "compiles the C peer of the file system benchmark",
  "libc6-dev": "headers for the C peer",
  libdeflate0: "quicker gzip for the file system's decoders",
  libfuse2: "what fuse-native is linked to",
  pigz: "the peer of the writer benchmark",
  runc: "runs containers",
  "stargz-snapshotter": "ctr-remote, the field's client and converter",
  zstd: "the zstd command, which checks our output",
};

/** Names of the packages that are not installed. */
export function missingPackages() {
  if (!existsSync("/var/lib/dpkg/status")) return Object.keys(debianPackages);
  const installed = new Set();
  for (const stanza of readFileSync("/var/lib/dpkg/status", "utf8").split("\n\n")) {
    const name = /^Package: (.+)$/m.exec(stanza)?.[1];
    if (name !== undefined && /^Status: .* installed$/m.test(stanza)) installed.add(name);
  }
  return Object.keys(debianPackages).filter((name) => !installed.has(name));
}

/** Installs packages; no service is started, now or at the next boot. */
export function installPackages(names) {
  const policy = "/usr/sbin/policy-rc.d";
  const preset = "/etc/systemd/system-preset/00-estargz-development.preset";
  const ownPolicy = !existsSync(policy);
  if (ownPolicy) writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    if (existsSync("/etc/systemd")) {
      spawnSync("mkdir", ["-p", "/etc/systemd/system-preset"]);
      writeFileSync(preset, ["docker-registry", "containerd", "stargz-snapshotter"].map((unit) => `disable ${unit}.service\n`).join(""));
    }
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const install = () =>
      spawnSync("apt-get", ["install", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", ...names], { env, encoding: "utf8" });
    let result = install();
    if (result.status !== 0) {
      spawnSync("apt-get", ["update"], { env, encoding: "utf8" });
      result = install();
    }
    if (result.status !== 0) {
      throw new Error(`apt-get could not install ${names.join(" ")}:\n${result.stdout}\n${result.stderr}`);
    }
  } finally {
    if (ownPolicy) rmSync(policy, { force: true });
  }
}
