import { useEffect, useState } from "preact/hooks";
import { listLines } from "../../api";
import { answerText, failureText, messagesOf } from "../../answer";
import { isFinal } from "../../batch";
import { Empty, Failure, Loading } from "../../components/empty";
import { LineStatusBadge, LineView } from "../../components/line_view";
import { QuerySelect } from "../../components/query_select";
import { type Column, More, Table } from "../../components/table";
import { count } from "../../format";
import { usePages } from "../../list";
import { setQuery, useRoute } from "../../router";
import type { Batch, BatchLine } from "../../types";

const kShow = { all: "All", completed: "Answered", failed: "Failed", pending: "To do" };
const kPause = 250; // ms of no typing before a search begins

function Filters({ status, search }: { status: string; search: string }) {
  const [typed, setTyped] = useState(search);
  useEffect(() => {
    const timer = setTimeout(() => typed !== search && setQuery({ search: typed }), kPause);
    return () => clearTimeout(timer);
  }, [typed]);
  return (
    <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
      <QuerySelect label="Lines" name="status" value={status} options={Object.entries(kShow)} />
      <label class="field">
        custom_id contains
        <input type="search" value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />
      </label>
    </form>
  );
}

function columns(open: (line: BatchLine) => void): Column<BatchLine>[] {
  return [
    {
      title: "custom_id",
      cell: (line) => (
        <button type="button" class="link mono" onClick={() => open(line)}>
          {line.custom_id}
        </button>
      ),
    },
    { title: "State", cell: ({ status }) => <LineStatusBadge status={status} /> },
    {
      title: "Request",
      isWide: true,
      cell: ({ request }) => <span class="cut">{messagesOf(request?.body).at(-1)?.text}</span>,
    },
    {
      title: "Answer",
      cell: (line) => {
        const failure = failureText(line);
        return <span class={failure ? "cut error" : "cut"}>{failure ?? answerText(line.response?.body)}</span>;
      },
    },
    { title: "Line", isNumber: true, isWide: true, cell: ({ index }) => count(index + 1) },
  ];
}

/** The lines of a batch with their answers, to be searched. */
export function Lines({ batch }: { batch: Batch }) {
  const { query } = useRoute();
  const status = query.get("status") ?? "all";
  const search = query.get("search") ?? "";
  const [opened, setOpened] = useState<BatchLine>();
  const { rows, error, hasMore, isLoading, more, reload } = usePages(
    (after, signal) =>
      listLines(
        batch.id,
        { status, custom_id: search, limit: 50, ...(after === undefined ? {} : { after: Number(after) }) },
        signal,
      ),
    JSON.stringify([status, search]),
  );
  // What has been answered meanwhile is shown when the batch has ended, or when that is asked for.
  const isEnded = isFinal(batch);
  useEffect(() => {
    if (rows !== undefined) reload();
  }, [isEnded]);
  // A search looks through some lines at a time, and may have found none among those.
  const isSearching = rows?.length === 0 && hasMore && error === undefined;
  useEffect(() => {
    if (isSearching && !isLoading) more();
  }, [isSearching, isLoading]);
  const isFiltered = status !== "all" || search !== "";
  return (
    <section class="stack" aria-label="Lines">
      <div class="row">
        <Filters status={status} search={search} />
        <span class="spacer" />
        {!isEnded && (
          <button type="button" onClick={reload}>
            Look again
          </button>
        )}
      </div>
      {error !== undefined && <Failure message={error} retry={reload} />}
      {((rows === undefined && error === undefined) || isSearching) && <Loading />}
      {rows && rows.length === 0 && !isSearching && (
        <Empty title={isFiltered ? "No such lines" : "No lines"}>
          {isFiltered ? <p>Choose others above.</p> : <p>They are here when the file has been checked.</p>}
        </Empty>
      )}
      {rows && rows.length > 0 && (
        <Table caption="Lines of the batch" columns={columns(setOpened)} rows={rows} rowKey={({ index }) => String(index)} />
      )}
      <More hasMore={hasMore} isLoading={isLoading} more={more} />
      {opened && <LineView line={opened} onClose={() => setOpened(undefined)} />}
    </section>
  );
}
