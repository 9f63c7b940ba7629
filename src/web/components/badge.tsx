import type { ComponentChildren } from "preact";

export type Tone = "neutral" | "active" | "good" | "bad" | "warn";

export function Badge({ tone = "neutral", children }: { tone?: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}
