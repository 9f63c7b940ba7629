import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** Stands over the page until it is closed, by Escape too; the browser keeps the focus within it. */
export function Dialog({
  title,
  onClose,
  isWide,
  children,
}: {
  title: string;
  onClose: () => void;
  isWide?: boolean;
  children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => element.current?.showModal(), []);
  return (
    <dialog ref={element} class={isWide ? "wide" : undefined} aria-label={title} onClose={onClose}>
      <header>
        <h2>{title}</h2>
        <button type="button" class="plain" aria-label="Close" onClick={() => element.current?.close()}>
          ✕
        </button>
      </header>
      {children}
    </dialog>
  );
}

/** A button that asks once more before it acts. `about` tells it from others with its label, for those who hear it. */
export function ConfirmButton({
  label,
  about,
  question,
  confirm,
  isDanger,
  onConfirm,
}: {
  label: string;
  about?: string;
  question: string;
  confirm: string;
  isDanger?: boolean;
  onConfirm: () => void;
}) {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <button
        type="button"
        class={isDanger ? "danger" : undefined}
        aria-label={about && `${label} ${about}`}
        onClick={() => setOpen(true)}
      >
        {label}
      </button>
      {isOpen && (
        <Dialog title={label} onClose={() => setOpen(false)}>
          <p>{question}</p>
          <div class="row end">
            <button type="button" onClick={() => setOpen(false)}>
              Leave it
            </button>
            <button
              type="button"
              class={isDanger ? "danger" : "primary"}
              onClick={() => {
                setOpen(false);
                onConfirm();
              }}
            >
              {confirm}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
