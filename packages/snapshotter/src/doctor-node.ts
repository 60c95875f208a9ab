import { accessSync, constants, readFileSync } from "node:fs";
import { release } from "node:os";
import { connectSnapshotter } from "./client.ts";
import type { DiagnoseOptions, DiagnosisCheck } from "./doctor.ts";
import { checkContainerdConfig } from "./doctor-containerd.ts";

function kernelVersion(): readonly [number, number] {
  const match = /^(\d+)\.(\d+)/.exec(release());
  return [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
}

function atLeast(major: number, minor: number): boolean {
  const [ownMajor, ownMinor] = kernelVersion();
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}

function checkKernel(): DiagnosisCheck {
  const id = "node.kernel";
  if (process.platform !== "linux") {
    return { id, status: "failed", message: `${process.platform} cannot mount layers`, fix: "run containers on Linux" };
  }
  if (!atLeast(5, 11)) {
    return {
      id,
      status: "warning",
      message: `Linux ${release()}: no overlay in user namespaces`,
      fix: "use Linux 5.11 or newer for rootless containers",
    };
  }
  if (!atLeast(6, 9)) {
    const message = `Linux ${release()}: requests in flight at a crash of the snapshotter fail, and reads of big local files are not handed to the kernel`;
    return { id, status: "warning", message, fix: "use Linux 6.9 or newer" };
  }
  return { id, status: "ok", message: `Linux ${release()}` };
}

function checkFuse(): DiagnosisCheck {
  const id = "node.fuse";
  try {
    accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
    return { id, status: "ok", message: "/dev/fuse can be used" };
  } catch {
    return { id, status: "failed", message: "/dev/fuse is missing or not accessible", fix: "load the module (modprobe fuse), run as root" };
  }
}

function checkOverlay(): DiagnosisCheck {
  const id = "node.overlay";
  const known = readFileSync("/proc/filesystems", "utf8").includes("\toverlay");
  if (known) return { id, status: "ok", message: "overlayfs is available" };
  return { id, status: "warning", message: "overlayfs is not loaded", fix: "modprobe overlay; without it no container starts" };
}

async function checkSocket(address: string, signal: AbortSignal | undefined): Promise<DiagnosisCheck> {
  const id = "node.snapshotter";
  const client = connectSnapshotter({ address });
  try {
    const deadline = AbortSignal.timeout(5000);
    const found = await client.walk([], { signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]) });
    return { id, status: "ok", message: `the snapshotter on ${address} answers; it has ${found.length} snapshots` };
  } catch (error) {
    signal?.throwIfAborted();
    const message = `nothing answers on ${address}: ${error instanceof Error ? error.message : String(error)}`;
    return { id, status: "failed", message, fix: "start the snapshotter: systemctl start estargz-snapshotter" };
  } finally {
    await client.close();
  }
}

/** Checks this machine. */
export async function checkNode(options: DiagnoseOptions): Promise<DiagnosisCheck[]> {
  const checks = [checkKernel()];
  if (process.platform !== "linux") return checks;
  checks.push(checkFuse(), checkOverlay());
  const configuration = checkContainerdConfig(options.containerdConfig ?? "/etc/containerd/config.toml", options.snapshotterName);
  checks.push(...configuration.checks);
  if (configuration.address !== undefined) checks.push(await checkSocket(configuration.address, options.signal));
  return checks;
}
