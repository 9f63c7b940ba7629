import type { ComponentChildren } from "preact";
import { download } from "../../api";
import { Json } from "../../components/code";
import { Time } from "../../components/time";
import { attempt } from "../../components/toast";
import type { Batch } from "../../types";

function FileLink({ id }: { id: string | null }) {
  if (id === null) return <>–</>;
  return (
    <button type="button" class="link mono" onClick={() => attempt(() => download(id, `${id}.jsonl`))}>
      {id}
    </button>
  );
}

/** Everything that the batch's object says. */
export function Details({ batch }: { batch: Batch }) {
  const times: [string, number | null][] = [
    ["Created", batch.created_at],
    ["Begun", batch.in_progress_at],
    ["Paused", batch.paused_at],
    ["Cancelled", batch.cancelling_at],
    ["Files begun", batch.finalizing_at],
    ["Completed", batch.completed_at],
    ["Failed", batch.failed_at],
    ["Expired", batch.expired_at],
    ["Cancelling ended", batch.cancelled_at],
    ["To end by", batch.expires_at],
  ];
  const facts: [string, ComponentChildren][] = [
    ["Model", batch.model ?? "–"],
    ["Endpoint", <code>{batch.endpoint}</code>],
    ["Completion window", batch.completion_window],
    ["Input file", <FileLink id={batch.input_file_id} />],
    ["Output file", <FileLink id={batch.output_file_id} />],
    ["Error file", <FileLink id={batch.error_file_id} />],
    ["Retry of", batch.retry_of ? <a href={`#/batches/${batch.retry_of}`}>{batch.retry_of}</a> : "–"],
    ["Like requests sent once", batch.dedupe ? "Yes" : "No"],
    ["Metadata", batch.metadata ? Object.entries(batch.metadata).map(([name, value]) => <div key={name}>{`${name}: ${value}`}</div>) : "–"],
    ...times.filter(([, at]) => at !== null).map(([name, at]): [string, ComponentChildren] => [name, <Time at={at} />]),
  ];
  return (
    <section class="stack" aria-label="Details">
      <dl class="facts card">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <details>
        <summary>The batch object</summary>
        <Json value={batch} label="The batch object" />
      </details>
    </section>
  );
}
