import { useEffect, useRef } from "preact/hooks";
import type uPlot from "uplot";

/**
 * A chart of uPlot, as wide as its place. uPlot is loaded when the first one appears. A new `options` object draws the
 * chart anew, so keep it (useMemo); new `data` only moves the lines.
 */
export function Chart({
  label,
  options,
  data,
  height = 180,
}: {
  label: string;
  options: Omit<uPlot.Options, "width" | "height">;
  data: uPlot.AlignedData;
  height?: number;
}) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot>(null);
  const newest = useRef(data);
  newest.current = data;
  useEffect(() => {
    let isGone = false;
    const element = place.current!;
    const observer = new ResizeObserver(() => chart.current?.setSize({ width: element.clientWidth, height }));
    void import("uplot").then(({ default: Plot }) => {
      if (isGone) return;
      chart.current = new Plot({ ...options, width: element.clientWidth, height }, newest.current, element);
      observer.observe(element);
    });
    return () => {
      isGone = true;
      observer.disconnect();
      chart.current?.destroy();
      chart.current = null;
    };
  }, [options, height]);
  useEffect(() => chart.current?.setData(data), [data]);
  return <div ref={place} class="chart" role="img" aria-label={label} />;
}
