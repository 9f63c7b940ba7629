import { useState } from "preact/hooks";
import { getBatch } from "../../api";
import { expectedEnd, isFinal, nameOf, runTime } from "../../batch";
import { BatchProgress, BatchStatusBadge } from "../../components/batch_bits";
import { CopyButton } from "../../components/copy";
import { Failure, Loading } from "../../components/empty";
import { ErrorTable } from "../../components/error_table";
import { Heading } from "../../components/layout";
import { Stat, Stats } from "../../components/stat";
import { Ago, Time, useNow } from "../../components/time";
import { useEvents } from "../../events";
import { count, duration, percent, rate, short } from "../../format";
import { useLoaded } from "../../loaded";
import { href, useRoute, useTitle } from "../../router";
import type { Batch } from "../../types";
import { Actions } from "./actions";
import { Details } from "./details";
import { Deliveries } from "./deliveries";
import { Lines } from "./lines";
import { Log } from "./log";

const kTabs = { lines: "Lines", log: "Live log", details: "Details", deliveries: "Deliveries" };
type Tab = keyof typeof kTabs;

function Figures({ batch }: { batch: Batch }) {
  const now = useNow();
  const { usage, lines_per_second, request_counts } = batch;
  const time = runTime(batch, now);
  const done = request_counts.completed + request_counts.failed;
  const speed = lines_per_second ?? (time && isFinal(batch) ? done / Math.max(1, time) : null);
  return (
    <Stats>
      <Stat name="Lines a second" note={isFinal(batch) ? "on average" : undefined}>
        {speed === null ? "–" : rate(speed)}
      </Stat>
      {isFinal(batch) ? (
        <Stat name="Took">{time === null ? "–" : duration(time)}</Stat>
      ) : (
        <Stat name="Ends" note={time !== null ? `runs for ${duration(time)}` : batch.queue_position && `place ${batch.queue_position} in the queue`}>
          <Ago at={expectedEnd(batch)} />
        </Stat>
      )}
      <Stat name="Failed lines" note={percent(request_counts.failed, Math.max(done, 1))}>
        {count(request_counts.failed)}
      </Stat>
      <Stat name="Input tokens" note={`${percent(usage.input_tokens_details.cached_tokens, usage.input_tokens)} from the cache`}>
        {short(usage.input_tokens)}
      </Stat>
      <Stat name="Output tokens" note={done > 0 ? `${rate(usage.output_tokens / done)} a line` : undefined}>
        {short(usage.output_tokens)}
      </Stat>
    </Stats>
  );
}

function Tabs({ batch, tab }: { batch: Batch; tab: Tab }) {
  return (
    <nav class="tabs" aria-label="Parts of the batch">
      {Object.entries(kTabs).map(([name, title]) => (
        <a key={name} href={href(`batches/${batch.id}/${name}`)} aria-current={name === tab ? "page" : undefined}>
          {title}
        </a>
      ))}
    </nav>
  );
}

/** One batch, followed until it has ended. */
function Followed({ first }: { first: Batch }) {
  const [batch, setBatch] = useState(first);
  const { path } = useRoute();
  const chosen = path[2] as Tab | undefined;
  const tab = chosen && chosen in kTabs ? chosen : "lines";
  useTitle(nameOf(batch) ?? batch.id);
  useEvents(isFinal(batch) ? null : `/v1/batches/${batch.id}/events`, (_, data) => {
    setBatch(data as Batch);
    return isFinal(data as Batch);
  });
  return (
    <>
      <Heading
        title={
          <>
            {nameOf(batch) ?? "Batch"}
            <span role="status">
              <BatchStatusBadge batch={batch} />
            </span>
          </>
        }
        note={
          <>
            <span class="mono">{batch.id}</span> <CopyButton text={batch.id} label="Copy id" /> · {batch.model ?? batch.endpoint}{" "}
            · created <Time at={batch.created_at} />
          </>
        }
      >
        <Actions batch={batch} onChange={setBatch} />
      </Heading>
      {batch.errors ? (
        <ErrorTable errors={batch.errors} />
      ) : (
        <>
          <BatchProgress batch={batch} />
          <Figures batch={batch} />
        </>
      )}
      <Tabs batch={batch} tab={tab} />
      {tab === "lines" && <Lines batch={batch} />}
      {tab === "log" && <Log batch={batch} />}
      {tab === "details" && <Details batch={batch} />}
      {tab === "deliveries" && <Deliveries batch={batch} />}
    </>
  );
}

export function BatchPage() {
  const id = useRoute().path[1] ?? "";
  const { value, error, reload } = useLoaded((signal) => getBatch(id, signal), id);
  if (error !== undefined) return <Failure message={error} retry={reload} />;
  return value ? <Followed key={id} first={value} /> : <Loading />;
}
