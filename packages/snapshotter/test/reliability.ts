// `npm run reliability` in examples/snapshotter: containers that read all the time while their snapshotter, containerd and the
// registry come and go. Writes docs/reliability.md.
import { writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { type FakeRegistry, startDockerRegistry, startFakeRegistry } from "@estargz/testing";
import { LinkSwitch } from "./link-switch.ts";
import { eventually, startNode, type TestNode } from "./node.ts";
import { pushReaderImage, Reader } from "./reader.ts";

const OUTAGE_SECONDS = 60;
const KILLS = 20;
const CONTAINERD_RESTARTS = 5;

interface Row {
  readonly what: string;
  readonly containers: number;
  readonly reads: number;
  readonly errors: number;
  readonly note: string;
}

const rows: Row[] = [];

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function finish(what: string, readers: readonly Reader[], note: string): Promise<void> {
  let reads = 0;
  let errors = 0;
  for (const reader of readers) {
    const complaints = await reader.complaints();
    errors += complaints.length;
    reads += await reader.reads();
    if (complaints.length > 0) say(complaints.slice(0, 5).join("\n"));
  }
  rows.push({ what, containers: readers.length, reads, errors, note });
  say(`${what}: ${reads} files read, ${errors} errors; ${note}`);
}

async function started(node: TestNode, reference: string, count: number, name: string): Promise<Reader[]> {
  const readers = Array.from({ length: count }, (_, index) => new Reader(node, reference, `${name}-${index}`));
  for (const reader of readers) await reader.start();
  for (const reader of readers) await reader.readsOn(1);
  return readers;
}

async function restarts(): Promise<void> {
  const registry = await startDockerRegistry();
  const node = await startNode({ withContainerd: true, config: 'fill.background = "off"' });
  try {
    const image = { reference: `${registry.address}/reader:1`, files: 60, fileBytes: 500_000 };
    await pushReaderImage(image);
    await node.pull(image.reference);
    const killed = await started(node, image.reference, 4, "killed");
    const downMs: number[] = [];
    for (let kill = 0; kill < KILLS; kill += 1) {
      await killed[kill % killed.length]?.readsOn(1);
      const before = performance.now();
      await node.daemon.end("SIGKILL");
      await node.daemon.start();
      downMs.push(performance.now() - before);
    }
    for (const reader of killed) await reader.readsAll();
    const median = downMs.toSorted((a, b) => a - b)[Math.floor(downMs.length / 2)] ?? 0;
    await finish(
      `${KILLS} times kill -9 of the snapshotter`,
      killed,
      `a new daemon serves ${(median / 1000).toFixed(1)} s after the kill (median)`,
    );

    const restarted = await started(node, image.reference, 2, "restarted");
    for (let restart = 0; restart < CONTAINERD_RESTARTS; restart += 1) {
      await node.containerd.restart(restart % 2 === 0 ? "SIGKILL" : "SIGTERM");
      await node.containerd.ctr(["tasks", "exec", "--exec-id", `e${restart}`, "restarted-0", "/bin/cat", "/sums/0"]);
    }
    for (const reader of restarted) await reader.readsOn(5);
    await finish(`${CONTAINERD_RESTARTS} restarts of containerd`, restarted, "exec works after each");

    await registry.close();
    await node.restartDaemon("SIGKILL");
    const output = await node.run(image.reference, "offline", ["/bin/bash", "-c", "cat /data/* | wc -c"]);
    rows.push({
      what: "A restart with the registry down, then a new container",
      containers: 1,
      reads: image.files,
      errors: Number(output) === image.files * image.fileBytes ? 0 : 1,
      note: "everything was local",
    });
  } finally {
    await node.stop();
    await registry.close();
  }
}

async function outage(how: "refusing" | "silent", boundSeconds: number): Promise<void> {
  const registry: FakeRegistry = await startFakeRegistry();
  const link = new LinkSwitch(registry.address);
  await link.start();
  const node = await startNode({ withContainerd: true, config: `fill.background = "off"\nblob.fetching_timeout_sec = ${boundSeconds}` });
  try {
    const image = { reference: `${link.address}/reader:1`, files: 60, fileBytes: 500_000 };
    await pushReaderImage(image);
    await node.pull(image.reference);
    const readers = await started(node, image.reference, 2, "outage");
    link.cut(how);
    const cutAt = performance.now();
    await new Promise((resolve) => setTimeout(resolve, OUTAGE_SECONDS * 1000));
    const failed = (await Promise.all(readers.map((reader) => reader.errors()))).flat().length;
    link.mend();
    const mendedAt = performance.now();
    for (const reader of readers) await reader.readsOn(1);
    const backSeconds = (performance.now() - mendedAt) / 1000;
    for (const reader of readers) await reader.readsAll();
    const away = ((mendedAt - cutAt) / 1000).toFixed(0);
    const kind = how === "refusing" ? "refuses connections" : "accepts them and never answers";
    const note = `reads may wait ${boundSeconds} s; ${failed} errors while it was away, reads go on ${backSeconds.toFixed(1)} s after it is back`;
    await finish(`The registry ${kind} for ${away} s`, readers, note);
  } finally {
    await node.stop();
    await link.close();
    await registry.close();
  }
}

async function credentials(): Promise<void> {
  const users: Record<string, string> = { user: "0" };
  const registry = await startFakeRegistry({ users, profile: "harbor" });
  const realm = `resolver.trusted_realms = [${JSON.stringify(registry.tokenAddress)}]`;
  const node = await startNode({
    withContainerd: true,
    config: `fill.background = "off"\n${realm}\ndocker_keychain.config_path = "FOLDER/docker.json"`,
  });
  const write = (password: string): void => {
    users["user"] = password;
    const auth = Buffer.from(`user:${password}`).toString("base64");
    writeFileSync(`${node.folder}/docker.json`, JSON.stringify({ auths: { [registry.address]: { auth } } }));
  };
  try {
    write("0");
    const image = { reference: `${registry.address}/reader:1`, files: 60, fileBytes: 500_000, username: "user", password: "0" };
    await pushReaderImage(image);
    await node.pull(image.reference, ["--user", "user:0"]);
    write("1");
    registry.expire("tokens");
    const readers = await started(node, image.reference, 2, "credentials");
    for (let change = 2; change < 12; change += 1) {
      write(String(change));
      registry.expire("tokens");
      await eventually("a file more is read", async () => (await readers[0]?.reads()) !== undefined);
      await readers[0]?.readsOn(1);
    }
    for (const reader of readers) await reader.readsAll();
    const refused = registry.requests.filter((request) => request.status === 401).length;
    await finish("Password and tokens change 11 times", readers, `${refused} requests were refused and asked again with new credentials`);
  } finally {
    await node.stop();
    await registry.close();
  }
}

function document(): string {
  const table = rows.map(({ what, containers, reads, errors, note }) => `| ${what} | ${containers} | ${reads} | ${errors} | ${note} |`);
  return `# Reliability

What running containers notice while the parts around them come and go. Written by \`npm run reliability\` in examples/snapshotter
(${new Date().toISOString().slice(0, 10)}, Linux ${release()}, Node ${process.version}, ${cpus().length} processors, Debian's containerd and runc): containers read all files
of a lazy image again and again, list its directories, and compare every file with its sum. Nothing is prefetched, so that reads need
the daemon and the registry as often as possible. An error is anything a container complains about: a failed read, wrong bytes, a failed listing.

| what happens | containers | files read | errors | |
|---|---|---|---|---|
${table.join("\n")}

The same scenarios, shorter, run with every \`npm test\`: \`packages/snapshotter/test/restart.integration.test.ts\` and \`outage.integration.test.ts\`. There, too, is the
other side of the bound: with \`[blob] fetching_timeout_sec = 1\` reads end with EIO while the registry is away, and go on by themselves when it is back.

## What is promised

- **The daemon ends in any way** (crash, kill -9, upgrade): mounts stay in the keeper, requests wait for the next daemon, which takes over
  from local state, without the registry. Linux 6.9 is needed for requests that the old daemon had already read; see [restart.md](restart.md).
- **containerd restarts**: not noticed.
- **The registry is away**: what is local is read as always. A read of something else waits up to \`[blob] fetching_timeout_sec\` (300 s unless
  configured), can be interrupted by signals, and ends with EIO after it. The next read tries again; nothing has to be remounted.
- **New pulls while the daemon is away** fail for the moment, and clients try again; with the \`.socket\` unit they wait.
- **unmount_on_exit** gives all of this up: it is for tests and for cleaning a machine.
`;
}

await restarts();
await outage("refusing", 300);
await outage("silent", 300);
await credentials();
writeFileSync(new URL("../../../docs/reliability.md", import.meta.url), document());
process.stdout.write(document());
