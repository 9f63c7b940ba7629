import { useState } from "preact/hooks";
import { compare, getBatch, listBatches } from "../api";
import { isFinal, nameOf } from "../batch";
import { Badge, type Tone } from "../components/badge";
import { Empty, Failure, Loading } from "../components/empty";
import { Heading } from "../components/layout";
import { QuerySelect } from "../components/query_select";
import { Stat, Stats } from "../components/stat";
import { type Column, More, Table } from "../components/table";
import { compareWords, type Piece } from "../diff";
import { count, dateTime } from "../format";
import { usePages } from "../list";
import { useLoaded } from "../loaded";
import { useRoute, useTitle } from "../router";
import type { Batch, Compared, ComparedLine, Comparison, Verdict } from "../types";

const kVerdicts: Record<Verdict, [string, Tone]> = {
  same: ["Same", "neutral"],
  different: ["Different", "active"],
  only_left: ["Only in the first", "warn"],
  only_right: ["Only in the second", "warn"],
};
const kShow = { all: "All lines", different: "Those that differ", only_one: "Those in one alone" };

function batchOptions(batches: Batch[]): [value: string, text: string][] {
  const text = (batch: Batch) => `${nameOf(batch) ?? batch.id} · ${batch.model ?? "–"} · ${dateTime(batch.created_at)}`;
  return [["", "Choose a batch…"], ...batches.map((batch): [string, string] => [batch.id, text(batch)])];
}

function Side({ line, pieces }: { line: ComparedLine | null; pieces: Piece[] | undefined }) {
  if (!line) return <span class="faint">–</span>;
  return (
    <div class={line.status === "failed" ? "compared error" : "compared"}>
      {pieces ? pieces.map(({ text, isOwn }, at) => (isOwn ? <mark key={at}>{text}</mark> : text)) : line.text}
      {line.usage && <small>{count(line.usage.output_tokens)} tokens</small>}
    </div>
  );
}

/** A row and its texts, compared once. */
interface Row extends Compared {
  words: [Piece[], Piece[]] | undefined;
}

const kColumns: Column<Row>[] = [
  { title: "custom_id", cell: ({ custom_id }) => <span class="mono">{custom_id}</span> },
  {
    title: "",
    cell: ({ verdict }) => {
      const [text, tone] = kVerdicts[verdict];
      return <Badge tone={tone}>{text}</Badge>;
    },
  },
  { title: "First", cell: ({ left, words }) => <Side line={left} pieces={words?.[0]} /> },
  { title: "Second", cell: ({ right, words }) => <Side line={right} pieces={words?.[1]} /> },
];

function withWords(row: Compared): Row {
  const { verdict, left, right } = row;
  return { ...row, words: verdict === "different" && left && right ? compareWords(left.text, right.text) : undefined };
}

function Lines({ left, right, show }: { left: string; right: string; show: string }) {
  const [totals, setTotals] = useState<Comparison["totals"]>();
  const { rows, error, hasMore, isLoading, more, reload } = usePages(async (after, signal) => {
    const page = await compare(left, { with: right, show, limit: 50, ...(after === undefined ? {} : { after }) }, signal);
    setTotals(page.totals);
    return { ...page, data: page.data.map(withWords) };
  }, JSON.stringify([left, right, show]));
  if (error !== undefined) return <Failure message={error} retry={reload} />;
  if (!rows || !totals) return <Loading />;
  return (
    <>
      <Stats>
        {(Object.keys(kVerdicts) as Verdict[]).map((verdict) => (
          <Stat key={verdict} name={kVerdicts[verdict][0]}>
            {count(totals[verdict])}
          </Stat>
        ))}
      </Stats>
      {rows.length > 0 ? (
        <Table caption="Lines of both batches" columns={kColumns} rows={rows} rowKey={({ custom_id }) => custom_id} />
      ) : (
        <Empty title="There are no such lines" />
      )}
      <More hasMore={hasMore} isLoading={isLoading} more={more} />
    </>
  );
}

/** Batches to choose from: those that were made last, and those that the place names. */
async function loadChoices(named: string[], signal: AbortSignal): Promise<Batch[]> {
  const batches = (await listBatches({ limit: 100 }, signal)).data.filter(
    (batch) => isFinal(batch) && batch.request_counts.total > 0,
  );
  const missing = named.filter((id) => !batches.some((batch) => batch.id === id));
  return [...batches, ...(await Promise.all(missing.map((id) => getBatch(id, signal))))];
}

/** The answers of two batches, line by line. */
export function ComparePage() {
  useTitle("Compare");
  const { query } = useRoute();
  const [left, right, show] = [query.get("left") ?? "", query.get("right") ?? "", query.get("show") ?? "all"];
  const named = [left, right].filter(Boolean);
  const choices = useLoaded((signal) => loadChoices(named, signal), "choices");
  if (choices.error !== undefined) return <Failure message={choices.error} retry={choices.reload} />;
  if (!choices.value) return <Loading />;
  return (
    <>
      <Heading title="Compare" note="The answers of two batches side by side, matched by custom_id: of two models, say, or of two prompts." />
      {choices.value.length < 2 ? (
        <Empty title="There are no two batches to compare yet" command="penstock submit requests.jsonl --watch">
          <p>
            Run the same file twice, as with another model or temperature: <a href="#/new">New batch</a>.
          </p>
        </Empty>
      ) : (
        <form class="filters" onSubmit={(event) => event.preventDefault()}>
          <QuerySelect label="First" name="left" value={left} options={batchOptions(choices.value)} />
          <QuerySelect label="Second" name="right" value={right} options={batchOptions(choices.value)} />
          <QuerySelect label="Show" name="show" value={show} options={Object.entries(kShow)} />
        </form>
      )}
      {left && right && <Lines key={`${left} ${right}`} left={left} right={right} show={show} />}
    </>
  );
}
