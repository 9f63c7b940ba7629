import { useEffect, useRef, useState } from "preact/hooks";
import { Command } from "../components/copy";
import { useTitle } from "../router";
import { keep } from "../session";

/** Asks for a key. `why`: what was wrong with the one before. */
export function LoginPage({ why, onKey }: { why: string | null; onKey: () => Promise<void> }) {
  useTitle("Sign in");
  const [isBusy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    keep(String(form.get("key")).trim(), form.has("remember"));
    setBusy(true);
    await onKey();
    setBusy(false);
  };
  return (
    <main class="login">
      <form class="card" onSubmit={submit}>
        <h1>
          <img src="favicon.svg" alt="" width="32" height="32" /> Penstock
        </h1>
        <p>This server asks for an API key.</p>
        <label class="field">
          API key
          <input
            ref={field}
            name="key"
            type="password"
            required
            autocomplete="current-password"
            placeholder="psk_…"
            aria-invalid={why !== null}
            aria-describedby="why"
          />
        </label>
        <p id="why" class="error" role="alert">
          {why}
        </p>
        <label class="check">
          <input name="remember" type="checkbox" /> Remember it in this browser
        </label>
        <button type="submit" class="primary" disabled={isBusy}>
          {isBusy ? "One moment…" : "Sign in"}
        </button>
        <details>
          <summary>You have no key?</summary>
          <p>Whoever runs the server makes one there:</p>
          <Command text="penstock keys create --name dashboard --scopes files,batches,admin" />
        </details>
      </form>
    </main>
  );
}
