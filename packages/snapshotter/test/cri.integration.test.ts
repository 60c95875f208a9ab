import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { directory, file } from "@estargz/format";
import { type DockerRegistry, startDockerRegistry } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CriClient, connectCri } from "./cri-client.ts";
import { noise, type PushedImage, pushImage, smallSystem } from "./images.ts";
import { eventually, startNode, type TestNode } from "./node.ts";

// htpasswd -nbB user secret
const HTPASSWD = "user:$2y$05$NKAYSM0vuX9j2YHeofxkGej998th1LipT5BZ2J86IPJVnhgUR4Ed2\n";

let open: DockerRegistry;
let locked: DockerRegistry;
let node: TestNode;
let cri: CriClient;
let proxied: CriClient;
let pause: PushedImage;
let application: PushedImage;

beforeAll(async () => {
  open = await startDockerRegistry();
  locked = await startDockerRegistry({ htpasswd: HTPASSWD });
  pause = await pushImage({ reference: `${open.address}/pause:1`, layers: [smallSystem()], command: ["/bin/sleep", "infinity"] });
  application = await pushImage({
    reference: `${open.address}/application:1`,
    layers: [smallSystem(), [directory("app"), file("app/data", noise("cri", 500_000)), file("app/name", "from CRI\n")]],
  });
  // The socket that the kubelet would use for images: ours, in front of containerd's.
  node = await startNode({
    config: `cri_keychain.enable_keychain = true
cri_keychain.image_service_path = "FOLDER/c/containerd.sock"
cri_keychain.listen_path = "FOLDER/cri.sock"
cri_keychain.state_path = "FOLDER/credentials.json"`,
  });
  const criSettings = { snapshotter: "estargz", sandboxImage: pause.reference };
  await mkdir(join(node.folder, "c"));
  await node.startContainerd({ cri: criSettings, folder: join(node.folder, "c") });
  cri = connectCri(node.containerd.address);
  proxied = connectCri(join(node.folder, "cri.sock"));
});
afterAll(async () => {
  cri?.close();
  proxied?.close();
  await node?.stop();
  await open?.close();
  await locked?.close();
});

async function contentOf(image: PushedImage): Promise<string[]> {
  const content = (await node.containerd.ctr(["content", "ls", "-q"], { namespace: "k8s.io" })).stdout;
  return image.layers.map((layer) => layer.digest).filter((digest) => content.includes(digest));
}

const SANDBOX = {
  metadata: { name: "pod", uid: "uid-1", namespace: "default", attempt: 0 },
  logDirectory: "/tmp",
  linux: { cgroupParent: "", securityContext: { namespaceOptions: { network: 2, pid: 1, ipc: 0 } } },
};

describe("the CRI path", () => {
  it("pulls lazily through containerd's CRI plugin", async () => {
    const { imageRef } = await cri.images.pullImage({ image: { image: application.reference } });
    expect(imageRef).toMatch(/^sha256:/);
    expect(await contentOf(application)).toEqual([]);
    expect((await cri.images.imageStatus({ image: { image: application.reference } })).image?.repoTags).toEqual([application.reference]);
  });

  it("runs a pod whose sandbox and container are lazy, and executes in it", async () => {
    await cri.images.pullImage({ image: { image: pause.reference } });
    const { podSandboxId } = await cri.runtime.runPodSandbox({ config: SANDBOX });
    const { containerId } = await cri.runtime.createContainer({
      podSandboxId,
      sandboxConfig: SANDBOX,
      config: {
        metadata: { name: "container", attempt: 0 },
        image: { image: application.reference },
        command: ["/bin/sleep", "infinity"],
        linux: { securityContext: { namespaceOptions: { network: 2, pid: 1, ipc: 0 } } },
      },
    });
    await cri.runtime.startContainer({ containerId });
    const { stdout, exitCode } = await cri.runtime.execSync({ containerId, cmd: ["/bin/cat", "/app/name"], timeout: 60n });
    expect([exitCode, Buffer.from(stdout).toString()]).toEqual([0, "from CRI\n"]);
    await cri.runtime.stopContainer({ containerId, timeout: 0n });
    await cri.runtime.removeContainer({ containerId });
    await cri.runtime.stopPodSandbox({ podSandboxId });
    await cri.runtime.removePodSandbox({ podSandboxId });
  });

  it("takes the credentials of a pull from the image service that it stands in front of, and keeps them over a restart", async () => {
    const reference = `${locked.address}/private:1`;
    const image = await pushImage({
      reference,
      layers: [smallSystem(), [file("secret", "private\n"), file("data", noise("private", 9_000_000))]],
      username: "user",
      password: "secret",
      write: { chunkSizeBytes: 65_536 },
    });
    const auth = { username: "user", password: "secret" };
    await expect(proxied.images.pullImage({ image: { image: reference } })).rejects.toThrow();
    await proxied.images.pullImage({ image: { image: reference }, auth });
    expect(await contentOf(image)).toEqual([]);
    // A pull without credentials, or with wrong ones, takes nothing from those that containers run on.
    await proxied.images.pullImage({ image: { image: `${open.address}/application:1` } });
    await expect(
      proxied.images.pullImage({ image: { image: `${locked.address}/private:none` }, auth: { username: "user", password: "wrong" } }),
    ).rejects.toThrow();
    await node.restartDaemon("SIGKILL");
    const run = ["run", "--rm", "--snapshotter=estargz", reference, "private", "/bin/bash", "-c", "cat /secret; sha256sum < /data | wc -c"];
    expect((await node.containerd.ctr(run, { namespace: "k8s.io" })).stdout).toBe("private\n68\n");
  });

  it("removes an image and what it kept of it", async () => {
    for (const image of [application, pause]) await cri.images.removeImage({ image: { image: image.reference } });
    await eventually("the snapshots are gone", async () => {
      const { stdout } = await node.containerd.ctr(["snapshots", "--snapshotter=estargz", "ls"], { namespace: "k8s.io" });
      return !stdout.includes(application.diffIds[1] ?? "?");
    });
  });
});
