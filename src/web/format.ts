const kNumber = new Intl.NumberFormat("en");
const kShort = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const kDay = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const kFull = new Intl.DateTimeFormat("en", { dateStyle: "full", timeStyle: "long", hourCycle: "h23" });

/** 12,345 */
export const count = (value: number) => kNumber.format(value);

/** 12.3K */
export const short = (value: number) => kShort.format(value);

/** 0.04, 0.4, 12, 1,234: as many digits as say something. */
export function rate(value: number): string {
  if (value < 0.1) return String(Math.round(value * 100) / 100);
  return value < 10 ? String(Math.round(value * 10) / 10) : count(Math.round(value));
}

export function percent(part: number, whole: number): string {
  if (whole <= 0) return "0 %";
  const value = (100 * part) / whole;
  // What is not yet all is not called all.
  return value > 99 && part < whole ? `${(Math.floor(value * 10) / 10).toFixed(1)} %` : `${Math.round(value)} %`;
}

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const pair = (a: number, aUnit: string, b: number, bUnit: string) => `${a} ${aUnit}${b ? ` ${b} ${bUnit}` : ""}`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return pair(Math.floor(s / 60), "min", s < 600 ? s % 60 : 0, "s");
  if (s < 86400) return pair(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return pair(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

/** "3 min ago", "in 20 s"; `now` in seconds, as `at` is. */
export function relative(at: number, now: number): string {
  const difference = at - now;
  if (Math.abs(difference) < 1) return "now";
  return difference > 0 ? `in ${duration(difference)}` : `${duration(-difference)} ago`;
}

export const dateTime = (at: number) => kDay.format(at * 1000);
export const fullDateTime = (at: number) => kFull.format(at * 1000);

/** The message of whatever was thrown. */
export const messageOf = (failure: unknown) => (failure instanceof Error ? failure.message : String(failure));
