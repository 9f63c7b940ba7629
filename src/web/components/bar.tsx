import { count, percent } from "../format";
import type { Counts } from "../types";

/** How far the lines of a batch are, with those that failed in another colour. */
export function Bar({ counts, label }: { counts: Counts; label: string }) {
  const { total, completed, failed } = counts;
  const part = (value: number) => ({ width: `${total > 0 ? (100 * value) / total : 0}%` });
  return (
    <div
      class="bar"
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={total}
      aria-valuenow={completed + failed}
      aria-valuetext={`${percent(completed + failed, total)}, ${count(failed)} failed`}
    >
      <span class="good" style={part(completed)} />
      <span class="bad" style={part(failed)} />
    </div>
  );
}

/** How full something is. */
export function Meter({ value, max, label }: { value: number; max: number; label: string }) {
  return (
    <div class="bar" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={max} aria-valuenow={value}>
      <span class="good" style={{ width: `${max > 0 ? Math.min(100, (100 * value) / max) : 0}%` }} />
    </div>
  );
}
