import type { ComponentChildren } from "preact";

export interface Column<T> {
  title: string;
  cell: (row: T) => ComponentChildren;
  /** Digits stand one below the other. */
  isNumber?: boolean;
  /** Left out where there is little room. */
  isWide?: boolean;
}

interface Props<T> {
  /** Read to those who do not see the table. */
  caption: string;
  columns: Column<T>[];
  rows: T[];
  rowKey: (row: T) => string;
  isSelected?: (row: T) => boolean;
}

/** The first cell of a row is its heading. */
export function Table<T>({ caption, columns, rows, rowKey, isSelected }: Props<T>) {
  const style = ({ isNumber, isWide }: Column<T>) => [isNumber && "number", isWide && "wide"].filter(Boolean).join(" ");
  return (
    <div class="table" role="region" aria-label={caption} tabIndex={0}>
      <table>
        <caption class="unseen">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.title} scope="col" class={style(column)}>
                {column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={rowKey(row)} class={isSelected?.(row) ? "selected" : undefined}>
              {columns.map((column, at) =>
                at === 0 ? (
                  <th key={column.title} scope="row" class={style(column)}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={column.title} class={style(column)}>
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Below a list that has further pages. */
export function More({ hasMore, isLoading, more }: { hasMore: boolean; isLoading: boolean; more: () => void }) {
  if (!hasMore) return null;
  return (
    <p class="more">
      <button type="button" disabled={isLoading} onClick={more}>
        {isLoading ? "Loading…" : "Show more"}
      </button>
    </p>
  );
}
