import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "./api";
import { useTopics } from "./events";
import { messageOf } from "./format";
import type { Point } from "./types";

// What came over time, as the charts show it.

/** A span that is shown, in seconds, the step of its points, and in how many pieces its table tells it. */
export interface Range {
  title: string;
  span: number;
  step: number;
  pieces: number;
  /** How long a point stands for: `at` is its end, and the minute that is under way is the last one. */
  seconds: (point: Point) => number;
}

export const kRanges: Record<string, Range> = {
  hour: { title: "1 hour", span: 3_600, step: 5, pieces: 12, seconds: () => 5 },
  week: { title: "7 days", span: 7 * 86_400, step: 60, pieces: 14, seconds: ({ at }) => ((at - 1) % 60) + 1 },
};

const kLiveStep = 5; // of the points that come live
const kLateMax = 1.5; // steps after which a point must have been missed

/** `known`, with those from the first of `fresh` on as these say, from the moment `since` on. */
export function joined(known: Point[], fresh: Point[], since: number): Point[] {
  const begin = fresh[0]?.at ?? Infinity;
  return [...known.filter(({ at }) => at < begin), ...fresh].filter(({ at }) => at >= since);
}

/**
 * The points of a span: asked for once, and live from then on. A point that comes follows the last one, or tells that
 * there are more to ask for, with the last ones again, which may have grown: a minute is over, or the stream was broken.
 * It must be the same range as long as the component stands.
 */
export function useStats({ span, step }: Range): { points: Point[] | undefined; error: string | undefined; reload: () => void } {
  const newest = useTopics(["stats"]).stats?.points.at(-1);
  const [points, setPoints] = useState<Point[]>();
  const [error, setError] = useState<string>();
  const [turn, setTurn] = useState(0);
  const asking = useRef(false);
  const now = () => Math.floor(Date.now() / 1000);
  const ask = async (since: number) => {
    if (asking.current) return;
    asking.current = true;
    try {
      const { points: fresh } = await get<{ points: Point[] }>("/v1/stats", { since, step });
      setPoints((before = []) => joined(before, fresh, now() - span));
      setError(undefined);
    } catch (failure) {
      setError(messageOf(failure));
    }
    asking.current = false;
  };
  useEffect(() => void ask(now() - span), [turn]);
  useEffect(() => {
    const last = points?.at(-1)?.at;
    if (!newest || !points) return;
    if (last === undefined || newest.at >= last + kLateMax * step) void ask(last === undefined ? now() - span : last - 2 * step);
    else if (step === kLiveStep && newest.at > last) setPoints(joined(points, [newest], now() - span));
  }, [newest?.at]);
  return { points, error, reload: () => setTurn((before) => before + 1) };
}

/** One line of a chart. */
export interface Series {
  name: string;
  value: (point: Point, seconds: number) => number | null;
  /** The name of a colour of style/tokens.css. */
  colour: string;
}

export interface ChartKind {
  title: string;
  series: Series[];
  isPercent?: boolean;
}

export const kCharts: ChartKind[] = [
  {
    title: "Lines a second",
    series: [
      { name: "Answered", value: ({ lines, failed }, seconds) => (lines - failed) / seconds, colour: "accent" },
      { name: "Failed", value: ({ failed }, seconds) => failed / seconds, colour: "bad" },
    ],
  },
  {
    title: "Tokens a second",
    series: [
      { name: "Out", value: ({ output_tokens }, seconds) => output_tokens / seconds, colour: "accent" },
      { name: "In", value: ({ input_tokens }, seconds) => input_tokens / seconds, colour: "warn" },
    ],
  },
  {
    title: "Cache hit rate",
    isPercent: true,
    series: [
      {
        name: "Of the tokens in",
        value: ({ cached_tokens, input_tokens }) => (input_tokens > 0 ? (100 * cached_tokens) / input_tokens : null),
        colour: "accent",
      },
    ],
  },
  { title: "Lines in the queue", series: [{ name: "To do", value: ({ queued_lines }) => queued_lines, colour: "accent" }] },
  {
    title: "Slots",
    series: [
      { name: "Busy", value: ({ slots_busy }) => slots_busy, colour: "accent" },
      { name: "All", value: ({ slots }) => slots, colour: "warn" },
    ],
  },
];

/** What a line says, in figures: null where there was nothing to tell. */
export interface Summary {
  last: number | null;
  mean: number | null;
  highest: { value: number; at: number } | null;
}

export function summaryOf(points: Point[], { value }: Series, { seconds }: Range): Summary {
  let [total, known] = [0, 0];
  let highest: Summary["highest"] = null;
  for (const point of points) {
    const one = value(point, seconds(point));
    if (one === null) continue;
    total += one;
    known++;
    if (highest === null || one > highest.value) highest = { value: one, at: point.at };
  }
  const last = points.at(-1);
  return { last: last ? value(last, seconds(last)) : null, mean: known > 0 ? total / known : null, highest };
}

/** The span in its pieces, the newest first, each as one point: sums of what came, and the end of what stood. */
export function pieces(points: Point[], range: Range): { point: Point; seconds: number }[] {
  const length = range.span / range.pieces;
  const found = new Map<number, { point: Point; seconds: number }>();
  for (const point of points) {
    const at = Math.floor(point.at / length) * length;
    const before = found.get(at);
    const sum = (name: "lines" | "failed" | "input_tokens" | "cached_tokens" | "output_tokens") =>
      (before?.point[name] ?? 0) + point[name];
    found.set(at, {
      point: {
        ...point,
        at,
        lines: sum("lines"),
        failed: sum("failed"),
        input_tokens: sum("input_tokens"),
        cached_tokens: sum("cached_tokens"),
        output_tokens: sum("output_tokens"),
      },
      seconds: (before?.seconds ?? 0) + range.seconds(point),
    });
  }
  return [...found.values()].reverse();
}
