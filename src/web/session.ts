import { Store } from "./store";
import type { Principal, Scope } from "./types";

// The key stands in this tab's storage, or in this browser's when its owner wants to be remembered.
const kName = "penstock.key";

export function key(): string | null {
  return sessionStorage.getItem(kName) ?? localStorage.getItem(kName);
}

export function keep(value: string, remembered: boolean): void {
  forget();
  (remembered ? localStorage : sessionStorage).setItem(kName, value);
}

export function forget(): void {
  sessionStorage.removeItem(kName);
  localStorage.removeItem(kName);
}

export type Session =
  | { state: "unknown" }
  | { state: "unreachable"; why: string }
  /** A key is needed. `why`: what was wrong with the last one. */
  | { state: "locked"; why: string | null }
  | { state: "open"; principal: Principal };

export const session = new Store<Session>({ state: "unknown" });

export function lock(why: string | null): void {
  session.set({ state: "locked", why });
}

export function usePrincipal(): Principal {
  const now = session.use();
  if (now.state !== "open") throw new Error("a page is shown before the server said who asks");
  return now.principal;
}

/** Whether `principal` may do what needs that scope. */
export function may(principal: Principal, scope: Scope | undefined): boolean {
  if (!scope || principal.scopes.includes(scope)) return true;
  return scope === "monitor" && principal.scopes.includes("admin");
}
