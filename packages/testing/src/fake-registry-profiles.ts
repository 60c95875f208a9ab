/** What a server does with a request for several ranges. */
export type SeveralRanges = "multipart" | "first-only" | "whole" | "refuse-400" | "refuse-416";

/** How the server that has the blobs' bytes behaves: the registry itself, or the store that it redirects to. */
export interface StoreBehaviour {
  readonly several: SeveralRanges;
  /** Serves `bytes=-n`. */
  readonly suffix: "yes" | "whole" | "refuse-416";
  /** Answers the first request for each blob with all of it (proxy caches that have to fetch it themselves). */
  readonly wholeWhenCold?: boolean;
  /** Never serves ranges. */
  readonly ignoresRanges?: boolean;
  /** Writes a star for the total in Content-Range. */
  readonly hidesTotal?: boolean;
  readonly omitsContentType?: boolean;
  /** Labels blobs as gzip-encoded though it sends them as they are. */
  readonly labelsGzip?: boolean;
  /** Sends fewer bytes than asked for, at most this many (a limit on an answer's size). */
  readonly maxRangeBytes?: number;
}

/** Behaviour of one kind of registry. */
export interface RegistryProfile {
  readonly title: string;
  readonly auth: "none" | "basic" | "bearer";
  /** How the challenge is written; `$realm`, `$service` and `$scope` are replaced. Several strings are several fields. */
  readonly challenge?: readonly string[];
  /** Token service at an address of its own. */
  readonly separateTokenService?: boolean;
  readonly tokenField?: "token" | "access_token" | "both";
  /** Life that tokens announce, in seconds; 0: not announced. */
  readonly tokenSeconds?: number;
  /** Blobs are redirected to a store with signed URLs, through this many hops. 0: served directly. */
  readonly redirects: number;
  /** HEAD is answered without a redirect. */
  readonly headWithoutLocation?: boolean;
  /** What the store answers to a signed URL that has ended. */
  readonly expiredStatus?: number;
  /** The store wants to know who sent the client. */
  readonly wantsReferer?: boolean;
  readonly store: StoreBehaviour;
  readonly referrersApi: boolean;
  readonly deletes: boolean;
  readonly omitsDigestHeader?: boolean;
  readonly oddHeaderCase?: boolean;
  /** Tags of one page. */
  readonly tagsPerPage?: number;
  /** Fewest bytes of an upload's chunk. */
  readonly minChunkBytes?: number;
  /** Cross-repository mounts are answered with 202 always. */
  readonly refusesMounts?: boolean;
}

/** Name of a profile. */
export type RegistryProfileName =
  | "distribution"
  | "docker-hub"
  | "ecr"
  | "ecr-ignoring-ranges"
  | "gcr"
  | "artifact-registry"
  | "ghcr"
  | "acr"
  | "harbor"
  | "harbor-proxy"
  | "artifactory"
  | "nexus"
  | "gitlab"
  | "quay"
  | "zot"
  | "cdn-with-referer";

const BEARER = ['Bearer realm="$realm",service="$service",scope="$scope"'];
const S3: StoreBehaviour = { several: "whole", suffix: "yes" };
const PLAIN: StoreBehaviour = { several: "multipart", suffix: "yes" };

/**
 * Behaviour of registries as their documentation, their users' reports and the clients that work around them describe it.
 * Not a claim about any version: a bed of quirks under familiar names.
 */
export const registryProfiles: Readonly<Record<RegistryProfileName, RegistryProfile>> = {
  distribution: { title: "CNCF Distribution", auth: "none", redirects: 0, store: PLAIN, referrersApi: false, deletes: true },
  "docker-hub": {
    title: "Docker Hub",
    auth: "bearer",
    challenge: BEARER,
    separateTokenService: true,
    tokenField: "both",
    tokenSeconds: 300,
    redirects: 1,
    expiredStatus: 403,
    store: { several: "multipart", suffix: "yes" },
    referrersApi: true,
    deletes: false,
    tagsPerPage: 2,
  },
  ecr: {
    title: "Amazon ECR",
    auth: "basic",
    challenge: ['Basic realm="$realm",service="ecr.amazonaws.com"'],
    redirects: 1,
    expiredStatus: 403,
    store: S3,
    referrersApi: true,
    deletes: true,
    tagsPerPage: 3,
    refusesMounts: true,
  },
  "ecr-ignoring-ranges": {
    title: "Amazon ECR, a region that ignores ranges",
    auth: "basic",
    challenge: ['Basic realm="$realm",service="ecr.amazonaws.com"'],
    redirects: 1,
    expiredStatus: 403,
    store: { several: "whole", suffix: "whole", ignoresRanges: true },
    referrersApi: false,
    deletes: true,
  },
  gcr: {
    title: "Google Container Registry",
    auth: "bearer",
    challenge: BEARER,
    tokenField: "token",
    tokenSeconds: 0,
    redirects: 1,
    headWithoutLocation: true,
    expiredStatus: 400,
    store: { several: "refuse-400", suffix: "yes", labelsGzip: true },
    referrersApi: false,
    deletes: true,
  },
  "artifact-registry": {
    title: "Google Artifact Registry",
    auth: "bearer",
    challenge: BEARER,
    tokenField: "both",
    tokenSeconds: 3600,
    redirects: 2,
    expiredStatus: 400,
    store: { several: "refuse-400", suffix: "yes" },
    referrersApi: true,
    deletes: true,
  },
  ghcr: {
    title: "GitHub Container Registry",
    auth: "bearer",
    challenge: BEARER,
    tokenField: "token",
    tokenSeconds: 0,
    redirects: 1,
    headWithoutLocation: true,
    expiredStatus: 401,
    store: { several: "first-only", suffix: "whole" },
    referrersApi: false,
    deletes: false,
  },
  acr: {
    title: "Azure Container Registry",
    auth: "bearer",
    challenge: ['Bearer realm="$realm",service="$service",scope="$scope"', 'Basic realm="$service"'],
    tokenField: "access_token",
    tokenSeconds: 4500,
    redirects: 1,
    expiredStatus: 403,
    store: { several: "first-only", suffix: "whole" },
    referrersApi: true,
    deletes: true,
  },
  harbor: {
    title: "Harbor",
    auth: "bearer",
    challenge: BEARER,
    tokenField: "both",
    tokenSeconds: 1800,
    redirects: 0,
    store: PLAIN,
    referrersApi: true,
    deletes: true,
  },
  "harbor-proxy": {
    title: "Harbor proxy cache",
    auth: "bearer",
    challenge: BEARER,
    tokenField: "both",
    tokenSeconds: 1800,
    redirects: 0,
    store: { several: "multipart", suffix: "yes", wholeWhenCold: true },
    referrersApi: false,
    deletes: false,
  },
  artifactory: {
    title: "JFrog Artifactory",
    auth: "bearer",
    challenge: ['Basic realm="Artifactory Realm", Bearer realm="$realm", service="$service"'],
    tokenField: "both",
    tokenSeconds: 3600,
    redirects: 1,
    expiredStatus: 404,
    store: { several: "refuse-416", suffix: "yes" },
    referrersApi: true,
    deletes: true,
    omitsDigestHeader: true,
  },
  nexus: {
    title: "Sonatype Nexus",
    auth: "basic",
    challenge: ['BASIC realm="Sonatype Nexus Repository Manager"'],
    redirects: 0,
    store: { several: "refuse-400", suffix: "refuse-416", omitsContentType: true },
    referrersApi: false,
    deletes: true,
    oddHeaderCase: true,
  },
  gitlab: {
    title: "GitLab",
    auth: "bearer",
    challenge: BEARER,
    separateTokenService: true,
    tokenField: "token",
    tokenSeconds: 300,
    redirects: 1,
    headWithoutLocation: true,
    expiredStatus: 400,
    store: { several: "whole", suffix: "yes", omitsContentType: true },
    referrersApi: true,
    deletes: true,
    tagsPerPage: 2,
  },
  quay: {
    title: "Quay",
    auth: "bearer",
    challenge: BEARER,
    tokenField: "token",
    tokenSeconds: 3600,
    redirects: 2,
    expiredStatus: 403,
    store: { several: "multipart", suffix: "yes" },
    referrersApi: true,
    deletes: true,
  },
  zot: {
    title: "Zot",
    auth: "basic",
    challenge: ['Basic realm="Authorization Required"'],
    redirects: 0,
    store: { several: "refuse-416", suffix: "yes" },
    referrersApi: true,
    deletes: true,
    minChunkBytes: 1024,
  },
  "cdn-with-referer": {
    title: "A registry behind a CDN that wants a Referer",
    auth: "none",
    redirects: 1,
    expiredStatus: 410,
    wantsReferer: true,
    store: { several: "first-only", suffix: "yes", hidesTotal: true, maxRangeBytes: 100_000 },
    referrersApi: false,
    deletes: true,
  },
};
