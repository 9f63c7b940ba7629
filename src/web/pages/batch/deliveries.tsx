import { isFinal } from "../../batch";
import { Badge, type Tone } from "../../components/badge";
import { Empty } from "../../components/empty";
import { type Column, Table } from "../../components/table";
import { Ago } from "../../components/time";
import { useTopics } from "../../events";
import type { Batch, Delivery } from "../../types";

export const kDeliveryTone: Record<Delivery["status"], Tone> = { pending: "active", delivered: "good", dead: "bad" };

const kColumns: Column<Delivery>[] = [
  { title: "To", cell: ({ kind, url, sink }) => `${kind === "sink" ? "Sink" : "Webhook"} ${sink ?? url}` },
  { title: "State", cell: ({ status }) => <Badge tone={kDeliveryTone[status]}>{status}</Badge> },
  { title: "Event", isWide: true, cell: ({ event }) => <code>{event}</code> },
  { title: "Attempts", isNumber: true, isWide: true, cell: ({ attempts }) => attempts },
  { title: "Next", isWide: true, cell: ({ next_attempt_at }) => <Ago at={next_attempt_at} /> },
  { title: "Last error", cell: ({ last_error }) => last_error ?? "–" },
];

function Live({ deliveries }: { deliveries: Delivery[] }) {
  const { deliveries: newest } = useTopics(["deliveries"]);
  const rows = deliveries.map((one) => newest?.data.find(({ id }) => id === one.id) ?? one);
  return <Table caption="Deliveries of the batch" columns={kColumns} rows={rows} rowKey={({ id }) => id} />;
}

/** Who is told of the batch's end, and how that went. */
export function Deliveries({ batch }: { batch: Batch }) {
  if (batch.deliveries.length > 0) return <Live deliveries={batch.deliveries} />;
  const receivers = (batch.webhook ? 1 : 0) + (batch.sinks?.length ?? 0);
  if (isFinal(batch) || receivers === 0) {
    return (
      <Empty title="Nobody is told">
        <p>A batch can name a webhook or sinks when it is made; webhooks of the project hear of every batch.</p>
      </Empty>
    );
  }
  return (
    <Empty title="Not yet">
      <p>When the batch ends, {receivers === 1 ? "one receiver is" : `${receivers} receivers are`} told.</p>
    </Empty>
  );
}
