import { deleteDelivery, listDeliveries, retryDelivery } from "../api_webhooks";
import { Badge } from "../components/badge";
import { ConfirmButton } from "../components/dialog";
import { Empty, Failure, Loading } from "../components/empty";
import { Heading } from "../components/layout";
import { kAll, QuerySelect } from "../components/query_select";
import { type Column, More, Table } from "../components/table";
import { Ago } from "../components/time";
import { attempt } from "../components/toast";
import { useTopics } from "../events";
import { bytes, count } from "../format";
import { usePages } from "../list";
import { useRoute, useTitle } from "../router";
import type { Delivery } from "../types";
import { kDeliveryTone } from "./batch/deliveries";

const kStatus: Record<Delivery["status"], string> = { pending: "To be delivered", delivered: "Delivered", dead: "Dead" };

/** The rows as they are now, with those that are new, less those that the filter does not mean any more. */
function refreshed(rows: Delivery[], newest: Delivery[], status: string): Delivery[] {
  const known = new Set(rows.map(({ id }) => id));
  const since = rows[0]?.created_at ?? 0;
  const fresh = newest.filter(({ id, created_at }) => !known.has(id) && created_at >= since);
  const all = [...fresh, ...rows.map((row) => newest.find(({ id }) => id === row.id) ?? row)];
  return status === "" ? all : all.filter((row) => row.status === status);
}

function columns(act: (action: () => Promise<unknown>, done: string) => void): Column<Delivery>[] {
  const what = ({ batch_id, event }: Delivery) => `${event} of ${batch_id}`;
  return [
    {
      title: "To",
      cell: ({ kind, url, sink, bytes_delivered }) => (
        <>
          <span class="break">{sink ?? url}</span>
          <small>
            {kind === "sink" ? "Sink" : "Webhook"}
            {bytes_delivered ? ` · ${bytes(bytes_delivered)} taken` : ""}
          </small>
        </>
      ),
    },
    {
      title: "State",
      cell: ({ status, last_error }) => (
        <>
          <Badge tone={kDeliveryTone[status]}>{kStatus[status]}</Badge>
          <small>{last_error}</small>
        </>
      ),
    },
    {
      title: "About",
      isWide: true,
      cell: ({ batch_id, event }) => (
        <>
          <a class="mono" href={`#/batches/${batch_id}`} title={batch_id}>
            {batch_id.slice(0, 14)}…
          </a>
          <small>{event}</small>
        </>
      ),
    },
    { title: "Attempts", isNumber: true, isWide: true, cell: ({ attempts }) => count(attempts) },
    { title: "Next", isNumber: true, isWide: true, cell: ({ next_attempt_at }) => <Ago at={next_attempt_at} /> },
    { title: "Created", isNumber: true, isWide: true, cell: ({ created_at }) => <Ago at={created_at} /> },
    {
      title: "Actions",
      cell: (delivery) => (
        <div class="row">
          {delivery.status !== "delivered" && (
            <button
              type="button"
              aria-label={`Try now: ${what(delivery)}`}
              onClick={() => act(() => retryDelivery(delivery.id), "It is attempted now.")}
            >
              Try now
            </button>
          )}
          <ConfirmButton
            label="Delete"
            about={what(delivery)}
            isDanger
            question="It leaves this list, and is not attempted any more."
            confirm="Delete it"
            onConfirm={() => act(() => deleteDelivery(delivery.id), "It is deleted.")}
          />
        </div>
      ),
    },
  ];
}

/** What the ends of batches bring to webhooks and sinks, live; the dead letters among them. */
export function DeliveriesPage() {
  useTitle("Deliveries");
  const status = useRoute().query.get("status") ?? "";
  const { deliveries } = useTopics(["deliveries"]);
  const { rows, error, hasMore, isLoading, more, reload } = usePages(
    (after, signal) => listDeliveries({ status, after, limit: 50 }, signal),
    status,
  );
  const act = async (action: () => Promise<unknown>, done: string) => (await attempt(action, done)) && reload();
  const shown = rows && refreshed(rows, deliveries?.data ?? [], status);
  return (
    <>
      <Heading title="Deliveries" note="What ends of batches bring to webhooks and sinks. Dead: it is not attempted any more by itself.">
        <QuerySelect label="Show" name="status" value={status} options={[kAll, ...Object.entries(kStatus)]} layout="row" />
      </Heading>
      {error !== undefined && <Failure message={error} retry={reload} />}
      {!shown && error === undefined && <Loading />}
      {shown?.length === 0 &&
        (status === "" ? (
          <Empty title="Nothing was delivered yet">
            <p>
              When a batch ends, its webhooks and sinks are told. <a href="#/webhooks">Add a webhook</a> for all batches.
            </p>
          </Empty>
        ) : (
          <Empty title={status === "dead" ? "No dead letters" : "None of these"}>
            <p>
              <a href="#/deliveries">See all deliveries</a>
            </p>
          </Empty>
        ))}
      {shown && shown.length > 0 && <Table caption="Deliveries" columns={columns(act)} rows={shown} rowKey={({ id }) => id} />}
      <More hasMore={hasMore} isLoading={isLoading} more={more} />
    </>
  );
}
