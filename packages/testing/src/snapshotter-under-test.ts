/** A mount as a snapshotter describes it. */
export interface MountUnderTest {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** What is known of a snapshot. */
export interface SnapshotInfoUnderTest {
  readonly name: string;
  readonly parent: string;
  readonly kind: "active" | "view" | "committed";
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly labels: Readonly<Record<string, string>>;
}

type LabelsUnderTest = Readonly<Record<string, string>>;

interface CreateUnderTest {
  readonly key: string;
  readonly parent: string;
  readonly labels?: LabelsUnderTest | undefined;
}

/** The shape of a snapshotter that {@link snapshotterSuite} can run against; `Snapshotter` of `@estargz/snapshotter` has it. */
export interface SnapshotterUnderTest {
  prepare(request: CreateUnderTest): Promise<readonly MountUnderTest[]>;
  view(request: CreateUnderTest): Promise<readonly MountUnderTest[]>;
  mounts(key: string): Promise<readonly MountUnderTest[]>;
  commit(request: { readonly name: string; readonly key: string; readonly labels?: LabelsUnderTest | undefined }): Promise<void>;
  remove(key: string): Promise<void>;
  stat(key: string): Promise<SnapshotInfoUnderTest>;
  update(info: { readonly name: string; readonly labels: LabelsUnderTest }, paths?: readonly string[]): Promise<SnapshotInfoUnderTest>;
  walk(filters?: readonly string[]): Promise<readonly SnapshotInfoUnderTest[]>;
  usage(key: string): Promise<{ readonly bytes: number; readonly inodes: number }>;
  close(): Promise<void>;
}
