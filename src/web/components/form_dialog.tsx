import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { messageOf } from "../format";
import { Dialog } from "./dialog";

/** A form over the page. It stays, with what is wrong, while `onSubmit` throws; else it closes. */
export function FormDialog({
  title,
  submit,
  onSubmit,
  onClose,
  children,
}: {
  title: string;
  submit: string;
  onSubmit: (form: FormData) => Promise<unknown>;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<string>();
  const send = async (event: SubmitEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await onSubmit(new FormData(event.target as HTMLFormElement));
      onClose();
    } catch (failure) {
      setError(messageOf(failure));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form class="stack" onSubmit={send}>
        {children}
        <p class="error" role="alert">
          {error}
        </p>
        <div class="row end">
          <button type="button" onClick={onClose}>
            Leave it
          </button>
          <button type="submit" class="primary" disabled={isBusy}>
            {isBusy ? "One moment…" : submit}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** Boxes to check, of which `FormData.getAll(name)` tells those that are. */
export function Choices({
  legend,
  name,
  values,
  checked,
}: {
  legend: string;
  name: string;
  values: readonly (readonly [string, string])[];
  checked: readonly string[];
}) {
  return (
    <fieldset>
      <legend>{legend}</legend>
      {values.map(([value, text]) => (
        <label key={value} class="check">
          <input type="checkbox" name={name} value={value} defaultChecked={checked.includes(value)} /> {text}
        </label>
      ))}
    </fieldset>
  );
}
