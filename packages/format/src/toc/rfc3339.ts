/** A point in time, split because a double can't hold nanoseconds. */
export interface Timestamp {
  /** Whole seconds since 1970; may be negative. */
  readonly seconds: number;
  /** 0 to 999,999,999. */
  readonly nanoseconds: number;
}

const FORM = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))$/;
const EPOCH: Timestamp = { seconds: 0, nanoseconds: 0 };

/** Reads an RFC 3339 time. What can't be read is the epoch, as in the reference. */
export function parseRfc3339(text: string): Timestamp {
  const match = FORM.exec(text);
  if (match === null) return EPOCH;
  const [, year, month, day, hour, minute, second, fraction, sign, zoneHour, zoneMinute] = match;
  const date = new Date(0);
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  // A day that the month hasn't is one of the next month.
  if (date.getUTCMonth() !== Number(month) - 1 || Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return EPOCH;
  date.setUTCHours(Number(hour), Number(minute), Number(second));
  const zone = sign === undefined ? 0 : (sign === "-" ? -60 : 60) * (Number(zoneHour) * 60 + Number(zoneMinute));
  const nanoseconds = fraction === undefined ? 0 : Number(fraction.padEnd(9, "0"));
  return { seconds: date.getTime() / 1000 - zone, nanoseconds };
}

/** Largest and smallest second that RFC 3339 has a year of four digits for. */
export const MAX_RFC3339_SECONDS = 253_402_300_799;
export const MIN_RFC3339_SECONDS = -62_167_219_200;

/** Writes whole seconds since 1970 as RFC 3339, in UTC. Seconds outside of years 0 to 9999 give `undefined`. */
export function formatRfc3339(seconds: number): string | undefined {
  if (seconds > MAX_RFC3339_SECONDS || seconds < MIN_RFC3339_SECONDS) return undefined;
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
}
