import type { ComponentChildren } from "preact";
import { Command } from "./copy";
import { Dialog } from "./dialog";

/** What the server has said this once. */
export function SecretDialog({
  title,
  value,
  children,
  onClose,
}: {
  title: string;
  value: string;
  children: ComponentChildren;
  onClose: () => void;
}) {
  return (
    <Dialog title={title} onClose={onClose}>
      <Command text={value} />
      <p class="notice warn">Copy it now: it is not shown again.</p>
      {children}
      <div class="row end">
        <button type="button" class="primary" onClick={onClose}>
          I have it
        </button>
      </div>
    </Dialog>
  );
}
