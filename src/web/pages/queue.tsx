import { expectedEnd, kPriorities, whyItWaits } from "../batch";
import { Badge } from "../components/badge";
import { BatchLink, BatchProgress, BatchStatusBadge } from "../components/batch_bits";
import { Command } from "../components/copy";
import { Empty, Loading } from "../components/empty";
import { Heading } from "../components/layout";
import { Stat, Stats } from "../components/stat";
import { type Column, Table } from "../components/table";
import { Ago } from "../components/time";
import { useTopics } from "../events";
import { count, rate } from "../format";
import { useTitle } from "../router";
import { may, usePrincipal } from "../session";
import type { Batch, Engine, Queue } from "../types";

function columns(queue: Queue, engines: Engine[] | undefined): Column<Batch>[] {
  return [
    { title: "Batch", cell: (batch) => <BatchLink batch={batch} /> },
    {
      title: "State",
      cell: (batch) => (
        <>
          <BatchStatusBadge batch={batch} />
          <small>{whyItWaits(batch, queue, engines)}</small>
        </>
      ),
    },
    { title: "Progress", cell: (batch) => <BatchProgress batch={batch} /> },
    {
      title: "Lines/s",
      isNumber: true,
      isWide: true,
      cell: ({ lines_per_second }) => (lines_per_second === null ? "–" : rate(lines_per_second)),
    },
    { title: "Ends", isNumber: true, cell: (batch) => <Ago at={expectedEnd(batch)} /> },
    { title: "Position", isNumber: true, isWide: true, cell: ({ queue_position }) => queue_position ?? "–" },
    {
      title: "Priority",
      isWide: true,
      cell: ({ priority }) => <Badge tone={priority === 1 ? "active" : "neutral"}>{kPriorities[priority]}</Badge>,
    },
  ];
}

function Figures({ queue }: { queue: Queue }) {
  const { data, depth, max_depth, worker } = queue;
  const left = data.reduce((sum, { request_counts: { total, completed, failed } }) => sum + total - completed - failed, 0);
  const speed = data.reduce((sum, batch) => sum + (batch.lines_per_second ?? 0), 0);
  const ends = data.map(expectedEnd).filter((at) => at !== null);
  return (
    <Stats>
      <Stat name="Batches" note={max_depth === null ? undefined : `of at most ${count(max_depth)}`}>
        {count(depth)}
      </Stat>
      <Stat name="Lines to do">{count(left)}</Stat>
      <Stat name="Lines a second">{rate(speed)}</Stat>
      <Stat name="All done">{ends.length > 0 && ends.length === data.length ? <Ago at={Math.max(...ends)} /> : "–"}</Stat>
      <Stat name="Workers" note={worker.status === "offline" && worker.last_seen_at !== null ? <Ago at={worker.last_seen_at} /> : undefined}>
        <span role="status">{worker.status === "online" ? "Online" : "Offline"}</span>
      </Stat>
    </Stats>
  );
}

/** All batches that have not ended, live. */
export function QueuePage() {
  useTitle("Queue");
  const principal = usePrincipal();
  const { queue, engines } = useTopics(may(principal, "monitor") ? ["queue", "engines"] : ["queue"]);
  if (!queue) return <Loading />;
  return (
    <>
      <Heading title="Queue" note="What is under way and what waits, in the order in which it is served.">
        <a class="button primary" href="#/new">
          New batch
        </a>
      </Heading>
      {queue.worker.status === "offline" && (
        <div class="notice warn" role="alert">
          <span>No worker is online, so nothing is answered. Start one beside the server's database:</span>
          <Command text="penstock worker" />
        </div>
      )}
      <Figures queue={queue} />
      {queue.data.length > 0 ? (
        <Table
          caption="Batches that have not ended"
          columns={columns(queue, engines?.data)}
          rows={queue.data}
          rowKey={(batch) => batch.id}
        />
      ) : (
        <Empty title="Nothing waits and nothing runs" command={kExample}>
          <p>
            Bring a file of requests by <a href="#/new">New batch</a>, or from a terminal with any OpenAI client or:
          </p>
        </Empty>
      )}
    </>
  );
}

const kExample = "penstock submit examples/quickstart.jsonl --watch";
