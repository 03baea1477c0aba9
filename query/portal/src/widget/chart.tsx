// A chart of the widget: drawn by the portal's chart package, from what the kernel pushes; a zoom asks the kernel
// for a closer look, and shows what is there until it comes.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { extentX, extentY, type PlotLine, type View } from "../charts/draw";
import type { Linked } from "../charts/linked";
import { lineStyle, type Palette } from "../charts/palette";
import { LinePlot } from "../charts/plot";
import { BY_ROW, linesOf } from "../charts/rows";
import type { Range } from "../charts/scale";
import { xColumn } from "../data/axis";
import { short } from "../data/numbers";
import type { Line } from "../data/lines";
import type { Panel } from "../data/series";
import { Choice } from "./choice";
import { lineOf, tableOf, type ChartMessage, type LineMessage } from "./state";
import type { Wishes } from "./wishes";

const SLOW_MS = 1500;

interface PlotProps {
  title: string;
  figure?: ComponentChildren;
  lines: readonly PlotLine[];
  view: View;
  palette: Palette;
  linked?: Linked | undefined;
  onZoom: (range: Range | null) => void;
  note?: string;
  controls?: ComponentChildren;
  tall?: boolean;
}

export function Figure({ title, figure, lines, view, palette, linked, onZoom, note, controls }: PlotProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<LinePlot | null>(null);
  const zoomed = useRef(onZoom);
  zoomed.current = onZoom;
  useEffect(() => {
    const made: LinePlot = new LinePlot(host.current!, palette, {
      onZoom: (range) => zoomed.current(range),
      onCursor: (x) => linked?.tell(made, x),
    });
    plot.current = made;
    const leave = linked?.add(made);
    return () => {
      leave?.();
      made.destroy();
      plot.current = null;
    };
  }, [linked]);
  useEffect(() => plot.current?.setPalette(palette), [palette]);
  useEffect(() => plot.current?.set(lines, view), [lines, view]);
  return (
    <figure class="chart" data-chart={title}>
      <figcaption>
        <span class="text chart-title" title={title}>{title}</span>
        {figure !== undefined && <span class="chart-figure">{figure}</span>}
        {controls}
        {view.zoom && <button type="button" class="plain small" onClick={() => onZoom(null)} title="Show all (double-click)">reset</button>}
      </figcaption>
      <div class="chart-canvas" ref={host} role="img" aria-label={said(title, lines, view)} tabIndex={0} />
      {lines.length > 1 && <Legend lines={lines} />}
      {note && <p class="chart-note" role="status">{note}</p>}
    </figure>
  );
}

function Legend({ lines }: { lines: readonly PlotLine[] }) {
  return (
    <ul class="legend">
      {lines.slice(0, 16).map((line) => (
        <li key={line.label}>
          <i class={`swatch ${line.style.dash.length ? "swatch-dash" : ""}`} style={{ color: line.style.color }} aria-hidden="true" />
          <bdi>{line.label}</bdi>
        </li>
      ))}
    </ul>
  );
}

/** What a chart says, for those who do not see it. */
function said(title: string, lines: readonly PlotLine[], view: View): string {
  if (!lines.some((line) => line.x.length)) return `${title}: no values to draw`;
  const [low, high] = extentY(lines, extentX(lines, "linear") ?? { min: 0, max: 0 }, "linear");
  const span = low <= high ? `, from ${low} to ${high}` : "";
  return `${title}: ${lines.length === 1 ? "a line" : `${lines.length} lines`} over ${view.xLabel}${span}`;
}

/** Numbers one after the other. */
export function LineChart({ panel, told, wishes, palette, linked }: {
  panel: Panel; told: ChartMessage | undefined; wishes: Wishes; palette: Palette; linked: Linked;
}) {
  const [zoom, setZoom] = useState<Range | null>(null);
  const whole = useMemo(() => (told?.line ? lineOf(told.line) : undefined), [told]);
  const { closer, note } = useCloser(panel.metric, whole, zoom, wishes);
  const line = (zoom && closer) || whole;
  const lines = useMemo(() => (line ? [plotOf(panel.metric, line, palette)] : []), [line, palette, panel.metric]);
  const view: View = useMemo(
    () => ({ xKind: "linear", yKind: "linear", zoom, xLabel: whole?.axis === "row" ? "value" : "step" }),
    [zoom, whole?.axis],
  );
  const raw = zoom && line?.raw ? <span class="badge" title="Each point is a value as it was logged">raw</span> : undefined;
  return (
    <Figure
      title={panel.metric} figure={panel.last === undefined ? undefined : short(panel.last)} lines={lines} view={view} palette={palette}
      linked={linked} onZoom={setZoom} note={note} controls={raw}
    />
  );
}

/** The part of a line that is zoomed to, when the kernel has answered. */
function useCloser(metric: string, whole: Line | undefined, zoom: Range | null, wishes: Wishes): { closer: Line | undefined; note: string } {
  const [state, setState] = useState<{ closer?: Line | undefined; note: string }>({ note: "" });
  const needed = zoom !== null && whole !== undefined && !whole.raw;
  useEffect(() => {
    if (!needed || !zoom) {
      setState({ note: "" });
      return;
    }
    let wanted = true;
    const slow = setTimeout(() => setState((now) => ({ ...now, note: "A closer look comes when the kernel is free." })), SLOW_MS);
    wishes
      .ask("line", { metric, buckets: 1024, low: String(Math.floor(zoom.min)), high: String(Math.ceil(zoom.max)) })
      .then((answer) => wanted && setState({ closer: lineOf(answer as unknown as LineMessage), note: "" }))
      .catch((error: Error) => wanted && setState({ note: error.message }))
      .finally(() => clearTimeout(slow));
    return () => {
      wanted = false;
      clearTimeout(slow);
    };
  }, [needed, zoom?.min, zoom?.max, metric, wishes]);
  return { closer: state.closer, note: state.note };
}

function plotOf(label: string, line: Line, palette: Palette): PlotLine {
  return { label, style: lineStyle(palette, 0), x: line.x, y: line.y, min: line.min, max: line.max, flags: line.flags };
}

/** Rows: two columns are y over x, of more one is x and the rest are lines. */
export function RowsChart({ panel, told, palette }: { panel: Panel; told: ChartMessage | undefined; palette: Palette }) {
  const [zoom, setZoom] = useState<Range | null>(null);
  const [chosen, setChosen] = useState("");
  const table = useMemo(() => (told?.rows ? tableOf(told.rows) : undefined), [told]);
  const order = table ? table.columns.filter((name) => panel.numeric.includes(name)) : panel.numeric;
  const natural = useMemo(() => (table ? xColumn(table, order) : undefined), [table]);
  const x = chosen || natural || BY_ROW;
  const lines = useMemo(() => (table ? linesOf(table, order, x, palette) : []), [table, x, palette]);
  const xName = x === BY_ROW ? "row" : x;
  const view: View = useMemo(() => ({ xKind: "linear", yKind: "linear", zoom, xLabel: xName }), [zoom, xName]);
  const others = order.filter((name) => name !== x);
  return (
    <Figure
      title={panel.metric} figure={panel.kind === "xy" && others.length === 1 ? `${others[0]} over ${xName}` : undefined}
      lines={lines} view={view} palette={palette} onZoom={setZoom}
      controls={
        panel.kind === "columns" ? (
          <Choice label="x" value={x} options={[...order.map((name) => [name, name] as const), [BY_ROW, "row"]]} onChange={setChosen} />
        ) : undefined
      }
    />
  );
}
