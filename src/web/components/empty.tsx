import type { ComponentChildren } from "preact";
import { Command } from "./copy";

/** Stands where there is nothing yet, and says what to do next. */
export function Empty({ title, children, command }: { title: string; children?: ComponentChildren; command?: string }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
      {command && <Command text={command} />}
    </div>
  );
}

/** Stands where something could not be shown. */
export function Failure({ message, retry }: { message: string; retry?: () => void }) {
  return (
    <div class="notice bad" role="alert">
      <span>{message}</span>
      {retry && (
        <button type="button" class="small" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Stands where something is on its way. */
export function Loading() {
  return (
    <p class="loading" role="status">
      Loading…
    </p>
  );
}
