import { useEffect, useState } from "preact/hooks";
import { type BatchFilter, getTotals, listBatches } from "../api";
import { endedAt, kStatusNames, runTime } from "../batch";
import { BatchLink, BatchProgress, BatchStatusBadge } from "../components/batch_bits";
import { Empty, Failure, Loading } from "../components/empty";
import { Heading } from "../components/layout";
import { kAll, QuerySelect } from "../components/query_select";
import { Stat, Stats } from "../components/stat";
import { type Column, More, Table } from "../components/table";
import { Time, useNow } from "../components/time";
import { useTopics } from "../events";
import { count, duration, percent, short } from "../format";
import { usePages } from "../list";
import { useLoaded } from "../loaded";
import { href, setQuery, useRoute, useTitle } from "../router";
import type { Batch } from "../types";

const kDay = 86_400; // seconds
const kPause = 250; // ms of no typing before a search begins
const kStates = [kAll, ...Object.entries(kStatusNames).map(([status, [text]]) => [status, text] as const)];

/** The beginning of a day in this place, in seconds; `text` is what a field for dates says. */
function dayOf(text: string | null): number | undefined {
  return text ? new Date(`${text}T00:00`).getTime() / 1000 : undefined;
}

function filterOf(query: URLSearchParams): BatchFilter {
  const [from, to] = [dayOf(query.get("from")), dayOf(query.get("to"))];
  return {
    ...(query.get("status") && { status: query.get("status")! }),
    ...(query.get("model") && { model: query.get("model")! }),
    ...(query.get("search") && { search: query.get("search")! }),
    ...(from !== undefined && { created_after: from }),
    ...(to !== undefined && { created_before: to + kDay }),
  };
}

/** A field whose text becomes a parameter of the place when nothing more is typed. */
function Typed({ label, name, isDate }: { label: string; name: string; isDate?: boolean }) {
  const current = useRoute().query.get(name) ?? "";
  const [typed, setTyped] = useState(current);
  useEffect(() => {
    const timer = setTimeout(() => typed !== current && setQuery({ [name]: typed }), kPause);
    return () => clearTimeout(timer);
  }, [typed]);
  useEffect(() => setTyped(current), [current]);
  const field = { value: typed, onInput: (event: InputEvent) => setTyped((event.currentTarget as HTMLInputElement).value) };
  return (
    <label class="field">
      {label}
      {isDate ? <input type="date" {...field} /> : <input type="search" {...field} />}
    </label>
  );
}

function Filters({ status }: { status: string }) {
  return (
    <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
      <QuerySelect label="State" name="status" value={status} options={kStates} />
      <Typed label="Model" name="model" />
      <Typed label="From" name="from" isDate />
      <Typed label="To" name="to" isDate />
      <Typed label="Id or metadata contains" name="search" />
    </form>
  );
}

function columns(now: number, chosen: string[], choose: (id: string) => void): Column<Batch>[] {
  return [
    {
      title: "Batch",
      cell: (batch) => (
        <div class="chosen">
          <input
            type="checkbox"
            aria-label={`Choose ${batch.id} to compare`}
            checked={chosen.includes(batch.id)}
            onChange={() => choose(batch.id)}
          />
          <div>
            <BatchLink batch={batch} />
          </div>
        </div>
      ),
    },
    { title: "State", cell: (batch) => <BatchStatusBadge batch={batch} /> },
    { title: "Lines", cell: (batch) => <BatchProgress batch={batch} /> },
    { title: "Tokens in", isNumber: true, isWide: true, cell: ({ usage }) => short(usage.input_tokens) },
    { title: "Tokens out", isNumber: true, isWide: true, cell: ({ usage }) => short(usage.output_tokens) },
    {
      title: "Took",
      isNumber: true,
      isWide: true,
      cell: (batch) => {
        const time = runTime(batch, now);
        return time === null ? "–" : duration(time);
      },
    },
    { title: "Created", isNumber: true, isWide: true, cell: ({ created_at }) => <Time at={created_at} /> },
    { title: "Ended", isNumber: true, isWide: true, cell: (batch) => <Time at={endedAt(batch)} /> },
  ];
}

/** Over all batches that the filter lets through; `news` changes when there may be others. */
function Figures({ filter, news }: { filter: BatchFilter; news: string }) {
  const { value, reload } = useLoaded((signal) => getTotals(filter, signal), JSON.stringify(filter));
  useEffect(() => {
    if (value) reload();
  }, [news]);
  if (!value) return null;
  return (
    <Stats>
      <Stat name="Batches" note={value.total_jobs > 0 && `${percent(value.success_rate, 1)} of the ended completed`}>
        {count(value.total_jobs)}
      </Stat>
      <Stat name="Lines" note={value.failed_requests > 0 && `${count(value.failed_requests)} failed`}>
        {count(value.total_requests)}
      </Stat>
      <Stat name="Input tokens" note={`${percent(value.cached_tokens, value.input_tokens)} from the cache`}>
        {short(value.input_tokens)}
      </Stat>
      <Stat name="Output tokens">{short(value.output_tokens)}</Stat>
      <Stat name="Took on average">{value.avg_duration > 0 ? duration(value.avg_duration) : "–"}</Stat>
    </Stats>
  );
}

/** The rows as they are now; in a list of all, with those that are new. */
function refreshed(rows: Batch[], newest: Batch[], isFiltered: boolean): Batch[] {
  const known = new Set(rows.map(({ id }) => id));
  const since = rows[0]?.created_at ?? 0;
  const fresh = isFiltered ? [] : newest.filter(({ id, created_at }) => !known.has(id) && created_at >= since);
  return [...fresh, ...rows.map((row) => newest.find(({ id }) => id === row.id) ?? row)];
}

/** All batches, to be searched. */
export function HistoryPage() {
  useTitle("History");
  const { query } = useRoute();
  const now = useNow();
  const filter = filterOf(query);
  const isFiltered = Object.keys(filter).length > 0;
  const [chosen, setChosen] = useState<string[]>([]);
  const choose = (id: string) =>
    setChosen((before) => (before.includes(id) ? before.filter((one) => one !== id) : [...before, id].slice(-2)));
  const { batches } = useTopics(["batches"]);
  const { rows, error, hasMore, isLoading, more, reload } = usePages(
    (after, signal) => listBatches({ ...filter, limit: 50, ...(after !== undefined && { after }) }, signal),
    JSON.stringify(filter),
  );
  const shown = rows && refreshed(rows, batches?.data ?? [], isFiltered);
  return (
    <>
      <Heading title="History" note="All batches of the project, the newest first.">
        {chosen.length === 2 ? (
          <a class="button primary" href={href("compare", { left: chosen[1]!, right: chosen[0]! })}>
            Compare both
          </a>
        ) : (
          <span class="faint">Choose two to compare them.</span>
        )}
      </Heading>
      <Filters status={query.get("status") ?? ""} />
      <Figures filter={filter} news={JSON.stringify(batches?.data.map(({ id, status }) => [id, status]))} />
      {error !== undefined && <Failure message={error} retry={reload} />}
      {shown === undefined && error === undefined && <Loading />}
      {shown && shown.length === 0 && (
        <Empty title={isFiltered ? "No such batches" : "No batches yet"} {...(!isFiltered && { command: kExample })}>
          {isFiltered ? (
            <p>
              Choose others above, or <a href="#/history">see all</a>.
            </p>
          ) : (
            <p>
              Make the first by <a href="#/new">New batch</a>, or from a terminal:
            </p>
          )}
        </Empty>
      )}
      {shown && shown.length > 0 && (
        <Table
          caption="Batches"
          columns={columns(now, chosen, choose)}
          rows={shown}
          rowKey={({ id }) => id}
          isSelected={({ id }) => chosen.includes(id)}
        />
      )}
      <More hasMore={hasMore} isLoading={isLoading} more={more} />
    </>
  );
}

const kExample = "penstock submit examples/quickstart.jsonl --watch";
