import { count } from "../format";
import type { Batch, BatchError } from "../types";
import { type Column, Table } from "./table";

const kColumns: Column<BatchError>[] = [
  { title: "Line", isNumber: true, cell: ({ line }) => (line === null ? "–" : count(line)) },
  { title: "What is wrong", cell: ({ message }) => message },
  { title: "Where", isWide: true, cell: ({ param }) => param && <code>{param}</code> },
  { title: "Code", isWide: true, cell: ({ code }) => <code>{code}</code> },
];

/** Why a batch was refused, by line of its file. `texts`: those lines, where they are at hand. */
export function ErrorTable({ errors, texts }: { errors: NonNullable<Batch["errors"]>; texts?: Map<number, string> }) {
  const { data, total } = errors;
  const text: Column<BatchError> = {
    title: "The line",
    isWide: true,
    cell: ({ line }) => <code class="cut">{(line !== null && texts?.get(line)) || "–"}</code>,
  };
  return (
    <section class="stack" aria-labelledby="faults">
      <div class="notice bad">
        <h2 id="faults">
          {total === 1 ? "One fault was found" : `${count(total)} faults were found`}, so nothing was run
          {total > data.length && `. The first ${count(data.length)}:`}
        </h2>
      </div>
      <Table
        caption="Faults by line"
        columns={texts ? [...kColumns, text] : kColumns}
        rows={data}
        rowKey={(error) => `${error.line} ${error.code} ${error.param}`}
      />
      <p class="faint">Mend these lines in the file and bring it again; a batch is run whole or not at all.</p>
    </section>
  );
}
