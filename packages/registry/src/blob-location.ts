import type { Clock } from "@estargz/interface";
import type { ConnectionSettings } from "./http/transport.ts";

/** Where a registry redirected a blob to. */
export interface BlobLocation {
  readonly url: URL;
  readonly connection: ConnectionSettings;
  readonly expiresAtMs: number;
}

const MAX_LOCATIONS = 8192;
const DEFAULT_LIFE_MS = 600_000;
/** A location is not used in the last moments of its life. */
const MARGIN_MS = 5_000;

/** `20261125T133000Z` as milliseconds. */
function parseBasicDate(text: string | null): number {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text ?? "");
  if (match === null) return Number.NaN;
  const [year = 0, month = 1, day = 1, hours = 0, minutes = 0, seconds = 0] = match.slice(1).map(Number);
  return Date.UTC(year, month - 1, day, hours, minutes, seconds);
}

/** When a signed URL ends, as S3, Google, Azure and CloudFront write it; `undefined` if it does not say. */
export function signedUrlExpiry(url: URL): number | undefined {
  const query = url.searchParams;
  for (const prefix of ["X-Amz", "X-Goog"]) {
    const date = parseBasicDate(query.get(`${prefix}-Date`));
    const seconds = Number(query.get(`${prefix}-Expires`) ?? Number.NaN);
    if (Number.isFinite(date) && Number.isFinite(seconds)) return date + seconds * 1000;
  }
  const azure = Date.parse(query.get("se") ?? "");
  if (Number.isFinite(azure)) return azure;
  const epoch = query.get("Expires") ?? query.get("expires");
  return epoch !== null && /^\d{9,11}$/.test(epoch) ? Number(epoch) * 1000 : undefined;
}

/** Remembers the targets of redirects while they are good, for all readers of a client. */
export class BlobLocations {
  readonly #clock: Clock;
  readonly #locations = new Map<string, BlobLocation>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get(key: string): BlobLocation | undefined {
    const location = this.#locations.get(key);
    if (location === undefined) return undefined;
    if (this.#clock.now() < location.expiresAtMs) return location;
    this.#locations.delete(key);
    return undefined;
  }

  set(key: string, url: URL, connection: ConnectionSettings): void {
    const now = this.#clock.now();
    const signed = signedUrlExpiry(url);
    // A clock that disagrees with the signer's: believe the answer, which was good a moment ago.
    const expiresAtMs = signed === undefined || signed - MARGIN_MS < now ? now + DEFAULT_LIFE_MS : signed - MARGIN_MS;
    this.#locations.delete(key);
    this.#locations.set(key, { url, connection, expiresAtMs });
    for (const oldest of this.#locations.keys()) {
      if (this.#locations.size <= MAX_LOCATIONS) break;
      this.#locations.delete(oldest);
    }
  }

  delete(key: string): void {
    this.#locations.delete(key);
  }
}
