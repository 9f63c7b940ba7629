import { dateTime, fullDateTime, relative } from "../format";
import { Store } from "../store";

const seconds = new Store(Math.floor(Date.now() / 1000));
setInterval(() => document.hidden || seconds.set(Math.floor(Date.now() / 1000)), 1000);

/** In seconds, and again each second. */
export const useNow = () => seconds.use();

/** A moment as a date; the whole of it when the pointer rests there. */
export function Time({ at }: { at: number | null }) {
  if (at === null) return <span class="faint">–</span>;
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={fullDateTime(at)}>
      {dateTime(at)}
    </time>
  );
}

/** A moment by how far it is from now. */
export function Ago({ at }: { at: number | null }) {
  const now = useNow();
  if (at === null) return <span class="faint">–</span>;
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={fullDateTime(at)}>
      {relative(at, now)}
    </time>
  );
}
