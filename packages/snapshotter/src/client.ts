import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { ErrorCode } from "@estargz/interface";
import { EstargzError } from "@estargz/interface";
import { type Info, Snapshots } from "./gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import type { CallOptions, SnapshotInfo, SnapshotKind, Snapshotter } from "./snapshot.ts";
import { unixTransport } from "./unix-transport.ts";

/** Options of {@link connectSnapshotter}. */
export interface ConnectSnapshotterOptions {
  /** Path of the unix socket: a snapshotter's own, or containerd's. */
  readonly address: string;
  /** Name of the snapshotter in containerd. Not needed for a snapshotter's own socket. */
  readonly snapshotter?: string | undefined;
  /** containerd's namespace. Default `default`. */
  readonly namespace?: string | undefined;
}

const KINDS: Readonly<Record<number, SnapshotKind>> = { 1: "view", 2: "active", 3: "committed" };

const CODES: Readonly<Partial<Record<Code, ErrorCode>>> = {
  [Code.NotFound]: "NOT_FOUND",
  [Code.AlreadyExists]: "ALREADY_EXISTS",
  [Code.FailedPrecondition]: "FAILED_PRECONDITION",
  [Code.InvalidArgument]: "INVALID_ARGUMENT",
  [Code.DeadlineExceeded]: "TIMEOUT",
  [Code.ResourceExhausted]: "LIMIT_EXCEEDED",
  [Code.Unavailable]: "UNAVAILABLE",
  [Code.Unimplemented]: "UNSUPPORTED",
};

function infoOf(info: Info | undefined): SnapshotInfo {
  if (info === undefined) throw new EstargzError("INVALID_RESPONSE", "the snapshotter's answer has no snapshot in it");
  return {
    name: info.name,
    parent: info.parent,
    kind: KINDS[info.kind] ?? "active",
    createdAtMs: info.createdAt === undefined ? 0 : timestampMs(info.createdAt),
    updatedAtMs: info.updatedAt === undefined ? 0 : timestampMs(info.updatedAt),
    labels: info.labels,
  };
}

function signalOf(options: CallOptions | undefined): { signal?: AbortSignal } {
  return options?.signal === undefined ? {} : { signal: options.signal };
}

async function translated<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    throw new EstargzError(CODES[error.code] ?? "IO_ERROR", error.rawMessage, { cause: error });
  }
}

/** Uses a snapshotter over gRPC: ours, containerd's own, or any other behind containerd. Connects at the first call. */
export function connectSnapshotter(options: ConnectSnapshotterOptions): Snapshotter {
  const connection = unixTransport(options.address, { namespace: options.namespace ?? "default" });
  const client = createClient(Snapshots, connection.transport);
  const snapshotter = options.snapshotter ?? "";
  return {
    prepare: async (request, call) => {
      const { key, parent, labels } = request;
      return (await translated(client.prepare({ snapshotter, key, parent, labels: { ...labels } }, signalOf(call)))).mounts;
    },
    view: async (request, call) => {
      const { key, parent, labels } = request;
      return (await translated(client.view({ snapshotter, key, parent, labels: { ...labels } }, signalOf(call)))).mounts;
    },
    mounts: async (key, call) => (await translated(client.mounts({ snapshotter, key }, signalOf(call)))).mounts,
    commit: async (request, call) => {
      const { name, key, labels, parent } = request;
      await translated(client.commit({ snapshotter, name, key, labels: { ...labels }, parent: parent ?? "" }, signalOf(call)));
    },
    remove: async (key, call) => {
      await translated(client.remove({ snapshotter, key }, signalOf(call)));
    },
    stat: async (key, call) => infoOf((await translated(client.stat({ snapshotter, key }, signalOf(call)))).info),
    update: async (info, paths, call) => {
      const wire = { name: info.name, labels: { ...info.labels } };
      const updateMask = paths === undefined ? undefined : { paths: [...paths] };
      const request = { snapshotter, info: wire, ...(updateMask === undefined ? {} : { updateMask }) };
      return infoOf((await translated(client.update(request, signalOf(call)))).info);
    },
    walk: async (filters, call) => {
      const found: SnapshotInfo[] = [];
      const collect = async (): Promise<void> => {
        for await (const message of client.list({ snapshotter, filters: [...(filters ?? [])] }, signalOf(call)))
          found.push(...message.info.map(infoOf));
      };
      await translated(collect());
      return found;
    },
    usage: async (key, call) => {
      const usage = await translated(client.usage({ snapshotter, key }, signalOf(call)));
      return { bytes: Number(usage.size), inodes: Number(usage.inodes) };
    },
    cleanup: async (call) => {
      await translated(client.cleanup({ snapshotter }, signalOf(call)));
    },
    close: async () => connection.close(),
  };
}
