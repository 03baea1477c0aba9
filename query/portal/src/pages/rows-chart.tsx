// Rows of numbers as lines: two columns are y over x in the order logged; of more, one is x and the rest are lines.

import { useEffect, useMemo, useState } from "preact/hooks";
import type { RunRef } from "../api/gen/point_pb";
import { failureOf } from "../api/failure";
import { MOST_ELEMENTS, type MetricReads } from "../api/reads";
import type { View } from "../charts/draw";
import { BY_ROW, linesOf } from "../charts/rows";
import type { Range } from "../charts/scale";
import { xColumn } from "../data/axis";
import { tableOf, type Table } from "../data/elements";
import { count as counted } from "../data/numbers";
import type { Panel } from "../data/series";
import { Chart, useNear } from "./chart";
import { Legend, unplacedText, type Settings } from "./metric-chart";
import { Select } from "./parts";
import { palette } from "./theme";

/** The rows of a metric, read when near the screen and when there are more. */
export function useRows(reads: MetricReads, run: RunRef, metric: string, elements: number, near: boolean): { table: Table | undefined; note: string; loading: boolean } {
  const [state, setState] = useState<{ table?: Table; note: string; loading: boolean }>({ note: "", loading: true });
  useEffect(() => {
    if (!near) return;
    let wanted = true;
    setState((before) => ({ ...before, loading: true }));
    reads
      .read({ run, metric, buckets: 0, ranks: [] })
      .then(({ elements: chunks, cut }) => {
        if (!wanted) return;
        const note = cut ? `The first ${counted(MOST_ELEMENTS)} cells or so.` : "";
        setState({ table: tableOf(chunks.filter((chunk) => chunk.column !== "")), note, loading: false });
      })
      .catch((error: unknown) => wanted && setState((before) => ({ ...before, note: failureOf(error).text, loading: false })));
    return () => {
      wanted = false;
    };
  }, [reads, run, metric, elements, near]);
  return { table: state.table, note: state.note, loading: state.loading };
}

export function RowsChart({ panel, run, reads, settings }: { panel: Panel; run: RunRef; reads: MetricReads; settings: Settings }) {
  const [ref, near] = useNear<HTMLDivElement>();
  const { table, note, loading } = useRows(reads, run, panel.metric, panel.elements, near);
  const [zoom, setZoom] = useState<Range | null>(null);
  const [chosen, setChosen] = useState("");
  const order = table ? table.columns.filter((name) => panel.numeric.includes(name)) : panel.numeric;
  const natural = useMemo(() => (table ? xColumn(table, order) : undefined), [table]);
  const x = chosen || natural || BY_ROW;
  const lines = useMemo(() => (table ? linesOf(table, order, x, palette.value) : []), [table, x, palette.value]);
  const xName = x === BY_ROW ? "row" : x;
  const view: View = useMemo(
    () => ({ xKind: settings.logX ? "log" : "linear", yKind: settings.logY ? "log" : "linear", zoom, xLabel: xName, xWhole: x === BY_ROW }),
    [settings.logX, settings.logY, zoom, xName],
  );
  const others = order.filter((name) => name !== x);
  const figure = panel.kind === "xy" && others.length === 1 ? <span class="quiet">{`${others[0]} over ${xName}`}</span> : undefined;
  return (
    <div ref={ref} class="chart-slot">
      <Chart
        title={panel.metric} description={panel.description} figure={figure} lines={lines} view={view} onZoom={setZoom}
        loading={loading} note={[note, unplacedText(lines, view)].filter(Boolean).join(" ")}
        legend={lines.length > 1 ? <Legend lines={lines} /> : undefined}
        controls={
          panel.kind === "columns" ? (
            <Select label="x" value={x} options={[...order.map((name) => [name, name] as const), [BY_ROW, "row"] as const]} onChange={setChosen} />
          ) : undefined
        }
      />
    </div>
  );
}
