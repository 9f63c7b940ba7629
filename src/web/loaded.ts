import { useEffect, useState } from "preact/hooks";
import { messageOf } from "./format";

/** What was asked for: none of them until it is there. `reload` asks again and keeps the old value meanwhile. */
export interface Loaded<T> {
  value: T | undefined;
  error: string | undefined;
  reload: () => void;
}

/** Asks when the component appears and whenever `key` changes; what is not wanted any more is aborted. */
export function useLoaded<T>(ask: (signal: AbortSignal) => Promise<T>, key: string): Loaded<T> {
  const [found, setFound] = useState<{ key: string; value?: T; error?: string }>({ key });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    ask(stop.signal).then(
      (value) => stop.signal.aborted || setFound({ key, value }),
      (failure) => stop.signal.aborted || setFound({ key, error: messageOf(failure) }),
    );
    return () => stop.abort();
  }, [key, turn]);
  const current = found.key === key ? found : undefined;
  return { value: current?.value, error: current?.error, reload: () => setTurn((before) => before + 1) };
}
