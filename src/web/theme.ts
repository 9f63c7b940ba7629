import { Store } from "./store";

export type Theme = "system" | "light" | "dark";
const kThemes: Theme[] = ["system", "light", "dark"];
const kName = "penstock.theme";

export const theme = new Store<Theme>(kThemes.find((one) => one === localStorage.getItem(kName)) ?? "system");

function show(wanted: Theme): void {
  document.documentElement.dataset["theme"] = wanted;
}

const system = matchMedia("(prefers-color-scheme: dark)");
const isSystemDark = new Store(system.matches);
system.addEventListener("change", () => isSystemDark.set(system.matches));

/** Whether the page is dark now, whoever said so. */
export function useIsDark(): boolean {
  const [chosen, dark] = [theme.use(), isSystemDark.use()];
  return chosen === "system" ? dark : chosen === "dark";
}

export function nextTheme(): void {
  const next = kThemes[(kThemes.indexOf(theme.get()) + 1) % kThemes.length]!;
  localStorage.setItem(kName, next);
  show(next);
  theme.set(next);
}

show(theme.get());
