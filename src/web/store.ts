import { useEffect, useReducer } from "preact/hooks";

/** A value that several parts of the page show. Components that `use` it are drawn again when it changes. */
export class Store<T> {
  private readonly listeners = new Set<() => void>();

  constructor(private value: T) {}

  get(): T {
    return this.value;
  }

  set(value: T): void {
    if (value === this.value) return;
    this.value = value;
    for (const listener of this.listeners) listener();
  }

  use(): T {
    const [, draw] = useReducer((count: number) => count + 1, 0);
    const drawn = this.value;
    useEffect(() => {
      const listener = () => draw(undefined as never);
      this.listeners.add(listener);
      if (this.value !== drawn) listener();
      return () => void this.listeners.delete(listener);
    }, []);
    return drawn;
  }
}
