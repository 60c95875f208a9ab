import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import type { Logger } from "@estargz/interface";
import { isEstargzError, noLogger } from "@estargz/interface";
import { type Context, propagation } from "@opentelemetry/api";
import { type Info, InfoSchema, Snapshots } from "./gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { MountSchema, type Mount as WireMount } from "./gen/containerd/types/mount_pb.ts";
import { toConnectError } from "./grpc-status.ts";
import type { Mount, SnapshotInfo, SnapshotKind, Snapshotter } from "./snapshot.ts";
import type { SnapshotterMetrics } from "./snapshotter-metrics.ts";
import { noTrace } from "./tracing.ts";

/** Options of {@link snapshotsRoutes}. */
export interface SnapshotsServiceOptions {
  readonly logger?: Logger | undefined;
  readonly metrics?: SnapshotterMetrics | undefined;
}

const KINDS: Readonly<Record<SnapshotKind, number>> = { view: 1, active: 2, committed: 3 };
/** Snapshots in one message of a list. */
const LIST_BATCH = 100;

function wireInfo(info: SnapshotInfo): Info {
  return create(InfoSchema, {
    name: info.name,
    parent: info.parent,
    kind: KINDS[info.kind],
    createdAt: timestampFromMs(info.createdAtMs),
    updatedAt: timestampFromMs(info.updatedAtMs),
    labels: { ...info.labels },
  });
}

function wireMounts(mounts: readonly Mount[]): WireMount[] {
  return mounts.map((mount) => create(MountSchema, { type: mount.type, source: mount.source, options: [...mount.options] }));
}

/** The trace that a caller says it is in: containerd does, when its own tracing is on. */
function traceOf({ requestHeader }: HandlerContext): Context {
  return propagation.extract(noTrace(), requestHeader, {
    get: (headers, key) => headers.get(key) ?? undefined,
    keys: (headers) => [...headers.keys()],
  });
}

/** Outcomes that are part of the protocol and not worth a log line. */
function isExpected(error: unknown): boolean {
  return isEstargzError(error, "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "INVALID_ARGUMENT");
}

/** Serves a snapshotter as containerd's `containerd.services.snapshots.v1.Snapshots`. */
export function snapshotsRoutes(snapshotter: Snapshotter, options: SnapshotsServiceOptions = {}): (router: ConnectRouter) => void {
  const logger = options.logger ?? noLogger;
  const call = async <T>(operation: string, key: string, context: HandlerContext, body: () => Promise<T>): Promise<T> => {
    const started = performance.now();
    let status = "OK";
    try {
      return await body();
    } catch (error) {
      status = isEstargzError(error) ? error.code : "INTERNAL";
      const fields = { operation, key, durationMs: performance.now() - started, code: status };
      if (isExpected(error) || context.signal.aborted) logger.debug(fields, `${operation} answered ${status}`);
      else logger.error({ ...fields, err: error }, `${operation} of ${key} failed`);
      throw toConnectError(error, context.signal);
    } finally {
      options.metrics?.operations.add(1, { operation, status });
      options.metrics?.operationSeconds.observe((performance.now() - started) / 1000, { operation });
    }
  };
  return (router) => {
    router.service(Snapshots, {
      prepare: (request, context) =>
        call("prepare", request.key, context, async () => ({
          mounts: wireMounts(await snapshotter.prepare(request, { signal: context.signal, trace: traceOf(context) })),
        })),
      view: (request, context) =>
        call("view", request.key, context, async () => ({
          mounts: wireMounts(await snapshotter.view(request, { signal: context.signal })),
        })),
      mounts: (request, context) =>
        call("mounts", request.key, context, async () => ({
          mounts: wireMounts(await snapshotter.mounts(request.key, { signal: context.signal })),
        })),
      commit: (request, context) =>
        call("commit", request.key, context, async () => {
          await snapshotter.commit(request, { signal: context.signal });
          return {};
        }),
      remove: (request, context) =>
        call("remove", request.key, context, async () => {
          await snapshotter.remove(request.key, { signal: context.signal });
          return {};
        }),
      stat: (request, context) =>
        call("stat", request.key, context, async () => ({
          info: wireInfo(await snapshotter.stat(request.key, { signal: context.signal })),
        })),
      update: (request, context) =>
        call("update", request.info?.name ?? "", context, async () => {
          const info = { name: request.info?.name ?? "", labels: request.info?.labels ?? {} };
          const updated = await snapshotter.update(info, request.updateMask?.paths ?? [], { signal: context.signal });
          return { info: wireInfo(updated) };
        }),
      async *list(request, context) {
        const found = await call("list", "", context, () => snapshotter.walk(request.filters, { signal: context.signal }));
        for (let at = 0; at < found.length; at += LIST_BATCH) {
          yield { info: found.slice(at, at + LIST_BATCH).map(wireInfo) };
        }
      },
      usage: (request, context) =>
        call("usage", request.key, context, async () => {
          const usage = await snapshotter.usage(request.key, { signal: context.signal });
          return { size: BigInt(usage.bytes), inodes: BigInt(usage.inodes) };
        }),
      cleanup: (_request, context) =>
        call("cleanup", "", context, async () => {
          await snapshotter.cleanup({ signal: context.signal });
          return {};
        }),
    });
  };
}
