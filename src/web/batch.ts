import type { Tone } from "./components/badge";
import { count } from "./format";
import type { Batch, BatchStatus, Counts, Engine, Queue } from "./types";

// What a batch's object says, in the words of the page.

export const kFinal: readonly BatchStatus[] = ["completed", "failed", "expired", "cancelled"];

export const isFinal = (batch: Batch) => kFinal.includes(batch.status);
export const doneLines = ({ completed, failed }: Counts) => completed + failed;

/** Its name, if its metadata tell one. */
export function nameOf(batch: Batch): string | undefined {
  const { name, title, description } = batch.metadata ?? {};
  return name ?? title ?? description;
}

export function endedAt(batch: Batch): number | null {
  return batch.completed_at ?? batch.failed_at ?? batch.expired_at ?? batch.cancelled_at;
}

/** How long it has run, in seconds; null when it has not begun. */
export function runTime(batch: Batch, now: number): number | null {
  return batch.in_progress_at === null ? null : (endedAt(batch) ?? now) - batch.in_progress_at;
}

export function expectedEnd(batch: Batch): number | null {
  return batch.estimated_completion_time === null ? null : Date.parse(batch.estimated_completion_time) / 1000;
}

export const kStatusNames: Record<BatchStatus, [string, Tone]> = {
  validating: ["Waiting", "neutral"],
  in_progress: ["Running", "active"],
  finalizing: ["Finishing", "active"],
  completed: ["Completed", "good"],
  failed: ["Failed", "bad"],
  expired: ["Expired", "bad"],
  cancelling: ["Cancelling", "warn"],
  cancelled: ["Cancelled", "warn"],
};

export function statusOf(batch: Batch): { text: string; tone: Tone } {
  if (batch.paused_at !== null && !isFinal(batch)) return { text: "Paused", tone: "warn" };
  if (batch.status === "validating" && batch.model === null) return { text: "Checking", tone: "neutral" };
  const [text, tone] = kStatusNames[batch.status];
  return { text, tone };
}

export const kPriorities = { 1: "High", 0: "Normal", [-1]: "Low" } as const;

/** Why lines of that model are not answered now; undefined when an engine is there. */
function whyNoEngine(model: string, engines: Engine[]): string | undefined {
  const own = engines.filter((engine) => engine.models.includes(model));
  const state = (wanted: Engine["state"]) => own.find((engine) => engine.state === wanted);
  if (own.length === 0) return `No engine serves ${model}.`;
  if (state("ready")) return undefined;
  if (state("starting")) return `The engine of ${model} is starting.`;
  if (state("standby")) return `Another model has the device; ${model} is loaded when its turn has come.`;
  return `The engine of ${model} is away: ${own[0]!.reason ?? own[0]!.state}.`;
}

/** Why a batch that has not ended does not get on, or what it is at. `engines`: where these may be seen. */
export function whyItWaits(batch: Batch, queue: Queue, engines: Engine[] | undefined): string {
  if (batch.status === "cancelling") return "Its lines under way come to their end.";
  if (batch.status === "finalizing") return "Its files are written.";
  if (batch.paused_at !== null) return "Paused: others pass it until it is resumed.";
  if (batch.model === null) return "The lines of its file are checked.";
  if (queue.worker.status === "offline") return "No worker is online.";
  const why = engines && whyNoEngine(batch.model, engines);
  if (why) return why;
  if (batch.status === "in_progress") return "Its lines are being answered.";
  const place = batch.queue_position ?? 1;
  if (place > 1) return `Behind ${count(place - 1)} ${place === 2 ? "batch" : "batches"} of its project.`;
  return "Next: it begins when a slot of its model is free.";
}
