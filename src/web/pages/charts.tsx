import { useMemo } from "preact/hooks";
import type uPlot from "uplot";
import { Chart } from "../components/chart";
import { Empty, Failure, Loading } from "../components/empty";
import { Heading } from "../components/layout";
import { type Column, Table } from "../components/table";
import { Time } from "../components/time";
import { dateTime, rate } from "../format";
import { href, useRoute, useTitle } from "../router";
import { type ChartKind, kCharts, kRanges, pieces, type Range, type Series, summaryOf, useStats } from "../stats";
import { useIsDark } from "../theme";
import type { Point } from "../types";

/** A canvas knows no variables of a style sheet: what the colour of that name is now. */
function colourOf(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

const kDay = 86_400; // seconds
const kClock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const kClockSeconds = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const kDate = new Intl.DateTimeFormat("en", { day: "numeric", month: "short" });

/** Ticks that are so many seconds apart. */
function times(ticks: number[], apart: number): string[] {
  const format = apart >= kDay ? kDate : apart >= 60 ? kClock : kClockSeconds;
  return ticks.map((at) => format.format(at * 1000));
}

const kFont = "12px system-ui, sans-serif";

const shown = (value: number | null | undefined, isPercent?: boolean) =>
  value === null || value === undefined ? "–" : `${rate(value)}${isPercent ? " %" : ""}`;

function optionsOf({ series, isPercent }: ChartKind): Omit<uPlot.Options, "width" | "height"> {
  const axis = { stroke: colourOf("faint"), font: kFont, grid: { stroke: colourOf("line"), width: 1 }, ticks: { show: false } };
  return {
    cursor: { sync: { key: "charts" }, drag: { x: false, y: false } },
    scales: { y: { range: (_, __, max) => [0, isPercent ? 100 : Math.max(1, max * 1.1)] } },
    axes: [{ ...axis, space: 70, values: (_, ticks, __, ___, apart) => times(ticks, apart) }, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => shown(tick, isPercent)) }],
    series: [
      { value: (_, at) => (at === null ? "–" : dateTime(at)) },
      // Told apart also without colours.
      ...series.map(({ name, colour }, at) => ({
        label: name,
        stroke: colourOf(colour),
        width: 2,
        ...(at > 0 && { dash: [6, 4] }),
        value: (_: uPlot, value: number | null) => shown(value, isPercent),
      })),
    ],
  };
}

function Figures({ points, series, kind, range }: { points: Point[]; series: Series; kind: ChartKind; range: Range }) {
  const { last, mean, highest } = summaryOf(points, series, range);
  return (
    <p>
      <b>{series.name}</b>: {shown(last, kind.isPercent)} now, {shown(mean, kind.isPercent)} on average
      {highest && highest.value > 0 && `, at most ${shown(highest.value, kind.isPercent)} (${dateTime(highest.at)})`}.
    </p>
  );
}

function AsTable({ kind, points, range }: { kind: ChartKind; points: Point[]; range: Range }) {
  const columns: Column<ReturnType<typeof pieces>[number]>[] = [
    { title: "From", cell: ({ point }) => <Time at={point.at} /> },
    ...kind.series.map(({ name, value }) => ({
      title: name,
      isNumber: true,
      cell: ({ point, seconds }: { point: Point; seconds: number }) => shown(value(point, seconds), kind.isPercent),
    })),
  ];
  return (
    <details>
      <summary>As a table</summary>
      <Table
        caption={`${kind.title}, as a table`}
        columns={columns}
        rows={pieces(points, range)}
        rowKey={({ point }) => String(point.at)}
      />
    </details>
  );
}

function OneChart({ kind, points, range }: { kind: ChartKind; points: Point[]; range: Range }) {
  const isDark = useIsDark();
  const options = useMemo(() => optionsOf(kind), [kind, isDark]);
  const data = useMemo<uPlot.AlignedData>(
    () => [points.map(({ at }) => at), ...kind.series.map(({ value }) => points.map((point) => value(point, range.seconds(point))))],
    [points, kind],
  );
  return (
    <section class="card over-time" aria-label={kind.title}>
      <h2>{kind.title}</h2>
      <Chart label={`${kind.title} over ${range.title}; the text says the figures`} options={options} data={data} height={200} />
      <div class="stack faint">
        {kind.series.map((series) => (
          <Figures key={series.name} points={points} series={series} kind={kind} range={range} />
        ))}
        <AsTable kind={kind} points={points} range={range} />
      </div>
    </section>
  );
}

function Charts({ range }: { range: Range }) {
  const { points, error, reload } = useStats(range);
  if (error !== undefined) return <Failure message={error} retry={reload} />;
  if (!points) return <Loading />;
  if (points.length === 0) {
    return (
      <Empty title="Nothing was counted yet" command="penstock submit examples/quickstart.jsonl --watch">
        <p>The first point comes some seconds after the start. To see the lines move:</p>
      </Empty>
    );
  }
  return (
    <>
      {kCharts.map((kind) => (
        <OneChart key={kind.title} kind={kind} points={points} range={range} />
      ))}
    </>
  );
}

/** What the system did over time, live. */
export function ChartsPage() {
  useTitle("Charts");
  const asked = useRoute().query.get("range") ?? "hour";
  const rangeName = asked in kRanges ? asked : "hour";
  return (
    <>
      <Heading title="Charts" note="Over all workers, since the server was started." />
      <nav class="tabs" aria-label="How far back">
        {Object.entries(kRanges).map(([name, { title }]) => (
          <a key={name} href={href("charts", { range: name })} aria-current={name === rangeName ? "true" : undefined}>
            {title}
          </a>
        ))}
      </nav>
      <Charts key={rangeName} range={kRanges[rangeName]!} />
    </>
  );
}
