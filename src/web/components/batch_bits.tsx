import { nameOf, statusOf } from "../batch";
import { count, percent } from "../format";
import type { Batch } from "../types";
import { Badge } from "./badge";
import { Bar } from "./bar";

// What tables of batches have in common.

const kIdShown = 14; // characters, which tell the batches of a page apart

/** Its name and model. */
export function BatchLink({ batch }: { batch: Batch }) {
  const id = `${batch.id.slice(0, kIdShown)}…`;
  const name = nameOf(batch);
  return (
    <>
      <a class={name ? undefined : "mono"} href={`#/batches/${batch.id}`} title={batch.id}>
        {name ?? id}
      </a>
      <small>{[name && id, batch.model].filter(Boolean).join(" · ")}</small>
    </>
  );
}

export function BatchStatusBadge({ batch }: { batch: Batch }) {
  const { text, tone } = statusOf(batch);
  return <Badge tone={tone}>{text}</Badge>;
}

export function BatchProgress({ batch }: { batch: Batch }) {
  const { total, completed, failed } = batch.request_counts;
  return (
    <div class="progress">
      <Bar counts={batch.request_counts} label={`Progress of ${nameOf(batch) ?? batch.id}`} />
      <small>
        {count(completed + failed)} of {count(total)} · {percent(completed + failed, total)}
        {failed > 0 && <span class="error"> · {count(failed)} failed</span>}
      </small>
    </div>
  );
}
