import { Badge } from "../components/badge";
import { Meter } from "../components/bar";
import { Empty, Loading } from "../components/empty";
import { Heading } from "../components/layout";
import { type Column, Table } from "../components/table";
import { Ago } from "../components/time";
import { useTopics } from "../events";
import { count, rate } from "../format";
import { useTitle } from "../router";
import type { Worker } from "../types";

function State({ worker }: { worker: Worker }) {
  if (worker.draining) return <Badge tone="warn">Draining</Badge>;
  if (worker.disk_low) return <Badge tone="bad">Disk is full</Badge>;
  return <Badge tone="good">{worker.is_worker ? "Works" : "Serves"}</Badge>;
}

function why({ draining, disk_low, is_worker }: Worker): string {
  if (draining) return "Lines under way come to their end; it takes no more.";
  if (disk_low) return "It takes no lines until there is room again.";
  return is_worker ? "Sends lines to its engines." : "Answers requests, and sends no lines.";
}

const kColumns: Column<Worker>[] = [
  {
    title: "Process",
    cell: ({ id, host, pid }) => (
      <>
        <span title={id}>{host}</span>
        <small>process {pid}</small>
      </>
    ),
  },
  {
    title: "State",
    cell: (worker) => (
      <>
        <State worker={worker} />
        <small>{why(worker)}</small>
      </>
    ),
  },
  {
    title: "Slots busy",
    cell: ({ host, pid, slots, slots_busy }) => (
      <div class="progress">
        <Meter value={slots_busy} max={slots} label={`Busy slots of ${host}, process ${pid}`} />
        <small>
          {count(slots_busy)} of {count(slots)}
        </small>
      </div>
    ),
  },
  { title: "Engines", isNumber: true, isWide: true, cell: ({ engines }) => count(engines) },
  { title: "Lines/s", isNumber: true, isWide: true, cell: ({ lines_per_second }) => rate(lines_per_second) },
  { title: "Tokens/s", isNumber: true, isWide: true, cell: ({ tokens_per_second }) => rate(tokens_per_second) },
  { title: "Version", isWide: true, cell: ({ version }) => version },
  { title: "Started", isNumber: true, isWide: true, cell: ({ started_at }) => <Ago at={started_at} /> },
  { title: "Last seen", isNumber: true, cell: ({ last_seen_at }) => <Ago at={last_seen_at} /> },
];

/** The processes of the system, live. */
export function WorkersPage() {
  useTitle("Workers");
  const { workers } = useTopics(["workers"]);
  if (!workers) return <Loading />;
  return (
    <>
      <Heading title="Workers" note="The processes that share this database." />
      {workers.data.some(({ is_worker }) => is_worker) || (
        <Empty title="No worker is online" command="penstock worker">
          <p>Nothing is answered until one is. Start it with the server's configuration:</p>
        </Empty>
      )}
      {workers.data.length > 0 && <Table caption="Processes" columns={kColumns} rows={workers.data} rowKey={({ id }) => id} />}
    </>
  );
}
