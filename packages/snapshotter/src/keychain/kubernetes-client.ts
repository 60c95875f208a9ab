import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { EstargzError } from "@estargz/interface";
import { Agent, request } from "undici";
import { parse } from "yaml";
import { z } from "zod";

/** How the Kubernetes API is reached. */
export interface ClusterAccess {
  readonly server: string;
  readonly ca: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly insecure: boolean;
  /** Read anew for each request: projected tokens rotate. */
  token(): Promise<string | undefined>;
}

const named = z.object({ name: z.string() });
const kubeconfigSchema = z.object({
  "current-context": z.string().default(""),
  contexts: z.array(named.extend({ context: z.object({ cluster: z.string(), user: z.string() }) })).default([]),
  clusters: z
    .array(
      named.extend({
        cluster: z.object({
          server: z.string(),
          "certificate-authority": z.string().optional(),
          "certificate-authority-data": z.string().optional(),
          "insecure-skip-tls-verify": z.boolean().default(false),
        }),
      }),
    )
    .default([]),
  users: z
    .array(
      named.extend({
        user: z.object({
          token: z.string().optional(),
          tokenFile: z.string().optional(),
          "client-certificate": z.string().optional(),
          "client-certificate-data": z.string().optional(),
          "client-key": z.string().optional(),
          "client-key-data": z.string().optional(),
          exec: z.unknown().optional(),
        }),
      }),
    )
    .default([]),
});

async function material(data: string | undefined, path: string | undefined, folder: string): Promise<string | undefined> {
  if (data !== undefined) return Buffer.from(data, "base64").toString("utf8");
  return path === undefined ? undefined : await readFile(resolve(folder, path), "utf8");
}

async function fromKubeconfig(path: string): Promise<ClusterAccess> {
  const parsed = kubeconfigSchema.safeParse(parse(await readFile(path, "utf8")));
  if (!parsed.success) throw new EstargzError("INVALID_CONFIG", `${path} is not a kubeconfig: ${parsed.error.message}`);
  const { contexts, clusters, users } = parsed.data;
  const context = contexts.find(({ name }) => name === parsed.data["current-context"]) ?? contexts[0];
  const cluster = clusters.find(({ name }) => name === context?.context.cluster)?.cluster;
  const user = users.find(({ name }) => name === context?.context.user)?.user;
  if (cluster === undefined || user === undefined) throw new EstargzError("INVALID_CONFIG", `${path} has no usable current context`);
  if (user.exec !== undefined) {
    throw new EstargzError(
      "UNSUPPORTED",
      `${path} gets its token from a program, which is not supported: use a service account's token or a certificate`,
    );
  }
  const folder = join(path, "..");
  return {
    server: cluster.server,
    ca: await material(cluster["certificate-authority-data"], cluster["certificate-authority"], folder),
    certificate: await material(user["client-certificate-data"], user["client-certificate"], folder),
    key: await material(user["client-key-data"], user["client-key"], folder),
    insecure: cluster["insecure-skip-tls-verify"],
    token: async () =>
      user.token ?? (user.tokenFile === undefined ? undefined : (await readFile(resolve(folder, user.tokenFile), "utf8")).trim()),
  };
}

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

async function fromServiceAccount(env: NodeJS.ProcessEnv): Promise<ClusterAccess> {
  const host = env["KUBERNETES_SERVICE_HOST"] ?? "";
  return {
    server: `https://${host.includes(":") ? `[${host}]` : host}:${env["KUBERNETES_SERVICE_PORT"] ?? "443"}`,
    ca: await readFile(join(SERVICE_ACCOUNT, "ca.crt"), "utf8"),
    certificate: undefined,
    key: undefined,
    insecure: false,
    token: async () => (await readFile(join(SERVICE_ACCOUNT, "token"), "utf8")).trim(),
  };
}

/** Finds the cluster: the given kubeconfig, `$KUBECONFIG`, the pod's service account, `~/.kube/config`. */
export async function findCluster(path: string, env: NodeJS.ProcessEnv = process.env): Promise<ClusterAccess> {
  const given = path !== "" ? path : (env["KUBECONFIG"]?.split(":", 1)[0] ?? "");
  if (given !== "") return await fromKubeconfig(given);
  if (env["KUBERNETES_SERVICE_HOST"] !== undefined) return await fromServiceAccount(env);
  return await fromKubeconfig(join(homedir(), ".kube", "config"));
}

const secretList = z.object({
  metadata: z.object({ continue: z.string().optional() }).default({}),
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string(), namespace: z.string() }),
      data: z.record(z.string(), z.string()).nullish(),
    }),
  ),
});

/** A pull secret. */
export interface PullSecret {
  readonly namespace: string;
  readonly name: string;
  /** Its `.dockerconfigjson`, decoded. */
  readonly dockerConfig: string;
}

const PAGE = 250;
const MAX_PAGES = 40;

async function page(
  cluster: ClusterAccess,
  dispatcher: Agent,
  path: string,
  signal: AbortSignal | undefined,
): Promise<z.infer<typeof secretList>> {
  const token = await cluster.token();
  const answer = await request(`${cluster.server}${path}`, {
    dispatcher,
    headers: { accept: "application/json", ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
    ...(signal === undefined ? {} : { signal }),
  });
  if (answer.statusCode !== 200) {
    await answer.body.dump();
    const what = answer.statusCode === 403 ? "FORBIDDEN" : answer.statusCode === 401 ? "UNAUTHORIZED" : "INVALID_RESPONSE";
    throw new EstargzError(
      what,
      `the Kubernetes API answered ${answer.statusCode} to a list of pull secrets: the account needs "list" on "secrets"`,
    );
  }
  return secretList.parse(await answer.body.json());
}

/** Lists the secrets of type `kubernetes.io/dockerconfigjson`, of one namespace or of all (`""`), sorted by namespace and name. */
export async function listPullSecrets(cluster: ClusterAccess, namespace: string, signal?: AbortSignal): Promise<PullSecret[]> {
  const connection = {
    ...(cluster.ca === undefined ? {} : { ca: cluster.ca }),
    ...(cluster.certificate === undefined ? {} : { cert: cluster.certificate }),
    ...(cluster.key === undefined ? {} : { key: cluster.key }),
    rejectUnauthorized: !cluster.insecure,
  };
  const dispatcher = new Agent({ connect: connection, headersTimeout: 30_000, bodyTimeout: 30_000 });
  const found: PullSecret[] = [];
  try {
    const base = namespace === "" ? "/api/v1/secrets" : `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`;
    let next = "";
    for (let count = 0; count < MAX_PAGES; count += 1) {
      const query = new URLSearchParams({
        fieldSelector: "type=kubernetes.io/dockerconfigjson",
        limit: String(PAGE),
        ...(next === "" ? {} : { continue: next }),
      });
      const list = await page(cluster, dispatcher, `${base}?${query}`, signal);
      for (const { metadata, data } of list.items) {
        const encoded = data?.[".dockerconfigjson"];
        if (encoded !== undefined) found.push({ ...metadata, dockerConfig: Buffer.from(encoded, "base64").toString("utf8") });
      }
      next = list.metadata.continue ?? "";
      if (next === "") break;
    }
  } finally {
    await dispatcher.close();
  }
  return found.sort((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1));
}
