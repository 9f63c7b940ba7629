import { useEffect, useState } from "preact/hooks";
import { messageOf } from "./format";
import type { List } from "./types";

/** The pages of a list, one below the other. */
export interface Pages<T> {
  /** Undefined until the first page is there. */
  rows: T[] | undefined;
  error: string | undefined;
  hasMore: boolean;
  isLoading: boolean;
  /** Fetches the next page. */
  more: () => void;
  /** Begins again with the first one; the rows stay until it is there. */
  reload: () => void;
}

/** Asks for the first page when the component appears and whenever `key` changes. */
export function usePages<T>(ask: (after: string | undefined, signal: AbortSignal) => Promise<List<T>>, key: string): Pages<T> {
  const [wanted, setWanted] = useState<{ key: string; after?: string; turn: number }>({ key, turn: 0 });
  const [found, setFound] = useState<{ key: string; rows: T[]; lastId: string | null; hasMore: boolean }>();
  const [error, setError] = useState<string>();
  const [isLoading, setLoading] = useState(true);
  // Another list begins at its first page, also one that was looked at before.
  if (wanted.key !== key) setWanted({ key, turn: wanted.turn });
  const after = wanted.key === key ? wanted.after : undefined;
  useEffect(() => {
    const stop = new AbortController();
    setLoading(true);
    setError(undefined);
    ask(after, stop.signal).then(
      (page) => {
        if (stop.signal.aborted) return;
        setFound((before) => ({
          key,
          rows: after && before?.key === key ? [...before.rows, ...page.data] : page.data,
          lastId: page.last_id,
          hasMore: page.has_more,
        }));
        setLoading(false);
      },
      (failure) => {
        if (stop.signal.aborted) return;
        setError(messageOf(failure));
        setLoading(false);
      },
    );
    return () => stop.abort();
  }, [key, after, wanted.turn]);
  const current = found?.key === key ? found : undefined;
  return {
    rows: current?.rows,
    error,
    hasMore: current?.hasMore ?? false,
    isLoading,
    more: () => current?.lastId && setWanted({ key, after: current.lastId, turn: wanted.turn }),
    reload: () => setWanted({ key, turn: wanted.turn + 1 }),
  };
}
