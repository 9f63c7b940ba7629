import { Store } from "./store";

export type Theme = "system" | "light" | "dark";
const kThemes: Theme[] = ["system", "light", "dark"];
const kName = "penstock.theme";

export const theme = new Store<Theme>(kThemes.find((one) => one === localStorage.getItem(kName)) ?? "system");

function show(): void {
  document.documentElement.dataset["theme"] = theme.get();
}

export function nextTheme(): void {
  theme.set(kThemes[(kThemes.indexOf(theme.get()) + 1) % kThemes.length]!);
  localStorage.setItem(kName, theme.get());
  show();
}

show();
