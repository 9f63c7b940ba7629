import { messageOf } from "../format";
import { Store } from "../store";

interface Toast {
  id: number;
  text: string;
  isError: boolean;
}

const toasts = new Store<Toast[]>([]);
let lastId = 0;

function close(id: number): void {
  toasts.set(toasts.get().filter((one) => one.id !== id));
}

/** Says for some seconds that something was done, or until it is closed that it was not. */
export function toast(text: string, isError = false): void {
  const id = ++lastId;
  toasts.set([...toasts.get().slice(-3), { id, text, isError }]);
  if (!isError) setTimeout(() => close(id), 5_000);
}

/** Does it and says how that went; whether it went well. */
export async function attempt(action: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await action();
    if (done) toast(done);
    return true;
  } catch (failure) {
    toast(messageOf(failure), true);
    return false;
  }
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.use().map(({ id, text, isError }) => (
        <div key={id} class={isError ? "toast bad" : "toast"}>
          <span>{text}</span>
          <button type="button" class="plain" aria-label="Close this message" onClick={() => close(id)}>
            ✕
          </button>
        </div>
      ))}
    </div>
  );
}
