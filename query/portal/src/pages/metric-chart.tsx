// The chart of one metric of one run, or of several runs: what is read for which zoom, and how it is drawn.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { RunRef } from "../api/gen/point_pb";
import { failureOf, type Failure } from "../api/failure";
import { MOST_ELEMENTS, type Answer, type MetricReads, type Wanted } from "../api/reads";
import { isBlank, type PlotLine, type View } from "../charts/draw";
import type { Linked } from "../charts/linked";
import { lineStyle } from "../charts/palette";
import type { Range } from "../charts/scale";
import { emptyLine, lineOfBuckets, lineOfElements, rankBand, type Line } from "../data/lines";
import { count as counted, plural } from "../data/numbers";
import { smoothed } from "../data/smoothing";
import { Chart, useNear } from "./chart";
import { Num } from "./parts";
import { palette } from "./theme";

export type XAxis = "step" | "relative" | "time";

export interface Settings {
  x: XAxis;
  logX: boolean;
  logY: boolean;
  smoothing: number;
}

export interface Source {
  run: RunRef;
  label: string;
  /** Number of its colour. */
  color: number;
  /** Elements that it has; when this changes it is read again. */
  count: number;
  hasSteps: boolean;
  /** Ranks that are lines of their own; empty: all together. */
  ranks?: readonly number[];
}

export interface RankView {
  /** "all": together; "each": one line a rank; "band": least, mean and greatest over the ranks. */
  mode: "all" | "each" | "band" | "one";
  ranks: readonly number[];
}

interface Read {
  label: string;
  color: number;
  line: Line;
  /** Time of the first value of the whole line, Unix milliseconds: where relative times begin. */
  start: number;
}

const FEW = 1200;
const CHUNK = 64;
/** Of more lines a bucket is two pixels wide: it takes half as long, and in a bundle of lines nobody sees it. */
const MANY_LINES = 20;

/** Reads the lines of a chart. What was read stays until the new is there. */
function useLines(
  reads: MetricReads,
  metric: string,
  sources: readonly Source[],
  ranks: RankView,
  buckets: number,
  zoom: Range | null,
  axis: XAxis,
  near: boolean,
): { read: readonly Read[]; failure: Failure | undefined; loading: boolean; cut: boolean } {
  const [state, setState] = useState<{ read: readonly Read[]; failure?: Failure | undefined; loading: boolean; cut: boolean }>({
    read: [],
    loading: true,
    cut: false,
  });
  const key = [
    metric, ranks.mode, ranks.ranks.join(), buckets, zoom?.min, zoom?.max, axis,
    ...sources.map((source) => `${source.run.run} ${source.count} ${source.color}`),
  ].join("\n");
  // Of each run the line as it was read without a zoom: it says whether there are steps, and which steps are at which times.
  const whole = useRef(new Map<string, Line>());
  useEffect(() => {
    if (!near || !buckets) return;
    let wanted = true;
    setState((before) => ({ ...before, loading: true }));
    const known = (source: Source): Source =>
      whole.current.get(source.run.run)?.axis === "row" ? { ...source, hasSteps: false } : source;
    const rangeOf = (source: Source): Range | null => {
      const line = whole.current.get(source.run.run);
      return zoom && axis !== "step" ? (line ? xRange(line, axis, zoom) : null) : zoom;
    };
    const timer = setTimeout(() => {
      Promise.all(sources.map((source) => readSource(reads, metric, known(source), ranks, buckets, rangeOf(source))))
        .then((parts) => {
          if (!wanted) return;
          parts.forEach((part, i) => {
            const id = sources[i]!.run.run;
            const first = part.read[0];
            if (!first) return;
            if (!zoom || !whole.current.has(id)) whole.current.set(id, first.line);
            const start = whole.current.get(id)!.time[0] ?? 0;
            for (const one of part.read) one.start = start;
          });
          setState({ read: parts.flatMap((part) => part.read), loading: false, cut: parts.some((part) => part.cut) });
        })
        .catch((error: unknown) => {
          if (wanted) setState((before) => ({ ...before, failure: failureOf(error), loading: false }));
        });
    }, zoom ? 90 : 0);
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [key, near, reads]);
  return { read: state.read, failure: state.failure, loading: state.loading, cut: state.cut };
}

async function readSource(
  reads: MetricReads,
  metric: string,
  source: Source,
  ranks: RankView,
  buckets: number,
  zoom: Range | null,
): Promise<{ read: Read[]; cut: boolean }> {
  const one = (chosen: readonly number[]): Promise<{ line: Line; cut: boolean }> =>
    readLine(reads, { run: source.run, metric, buckets, ranks: chosen }, source, zoom);
  if (ranks.mode === "all" || ranks.ranks.length === 0) {
    const { line, cut } = await one([]);
    return { read: [{ label: source.label, color: source.color, line, start: 0 }], cut };
  }
  const parts = await Promise.all(ranks.ranks.map((rank) => one([rank])));
  const cut = parts.some((part) => part.cut);
  if (ranks.mode === "band") {
    return { read: [{ label: source.label, color: source.color, line: rankBand(parts.map((part) => part.line)), start: 0 }], cut };
  }
  return { read: parts.map((part, i) => ({ label: `rank ${ranks.ranks[i]}`, color: ranks.ranks[i]!, line: part.line, start: 0 })), cut };
}

/** A line: the elements themselves where they are few, else buckets. */
async function readLine(
  reads: MetricReads,
  wanted: Wanted,
  source: Source,
  zoom: Range | null,
): Promise<{ line: Line; cut: boolean }> {
  if (source.count <= FEW) return elements(await reads.read({ ...wanted, buckets: 0 }));
  if (!zoom) return { line: merged(await reads.read(wanted)), cut: false };
  if (!source.hasSteps) {
    // Without steps there is no place to go to: what is drawn is cut out of all of it.
    if (source.count <= MOST_ELEMENTS) return elements(await reads.read({ ...wanted, buckets: 0 }));
    return { line: merged(await reads.read({ ...wanted, buckets: 20_000 })), cut: false };
  }
  const range = { minStep: floorBig(zoom.min), maxStep: ceilBig(zoom.max) };
  const reduced = merged(await reads.read({ ...wanted, ...range }));
  // Fewer buckets than asked for, or one a step: the elements themselves are few enough to look at.
  if (reduced.x.length > wanted.buckets * 0.9 && Number(range.maxStep - range.minStep) > wanted.buckets) {
    return { line: reduced, cut: false };
  }
  const raw = await reads.read({ ...wanted, ...range, buckets: 0 });
  return raw.cut ? { line: reduced, cut: false } : elements(raw);
}

const LIMIT = 2n ** 63n - 1n;
const bounded = (value: bigint): bigint => (value > LIMIT ? LIMIT : value < -LIMIT ? -LIMIT : value);
const floorBig = (value: number): bigint => bounded(BigInt(Math.floor(value)));
const ceilBig = (value: number): bigint => bounded(BigInt(Math.ceil(value)));

function elements(answer: Answer): { line: Line; cut: boolean } {
  return { line: lineOfElements(answer.elements.filter((chunk) => chunk.column === "")), cut: answer.cut };
}

function merged(answer: Answer): Line {
  const chunk = answer.buckets.find((one) => one.column === "");
  return chunk ? lineOfBuckets(chunk) : emptyLine();
}

/** The steps of a line between two times, and one more on each side. */
export function xRange(line: Line, axis: XAxis, range: Range): Range | null {
  const at = onAxis(line, axis, line.time[0] ?? 0);
  if (!at) return null;
  let from = -1;
  let to = -1;
  for (let i = 0; i < at.length; i++) {
    if (at[i]! < range.min || at[i]! > range.max) continue;
    if (from < 0) from = i;
    to = i;
  }
  if (from < 0) return null;
  return { min: line.x[Math.max(0, from - 1)]!, max: line.x[Math.min(at.length - 1, to + 1)]! };
}

/** A line in the units of the x axis. Null where the times are not known. */
export function onAxis(line: Line, x: XAxis, start: number): Float64Array | null {
  if (x === "step") return line.x;
  if (line.time.length !== line.x.length) return null;
  return x === "time" ? line.time : line.time.map((ms) => ms - start);
}

export function MetricChart({
  title,
  metric,
  description,
  sources,
  reads,
  ranks,
  settings,
  zoom,
  onZoom,
  linked,
  last,
  quietLegend = false,
}: {
  title: string;
  metric: string;
  description?: string;
  sources: readonly Source[];
  reads: MetricReads;
  ranks: RankView;
  settings: Settings;
  zoom: Range | null;
  onZoom: (range: Range | null) => void;
  linked: Linked;
  last?: number | undefined;
  /** The lines are named elsewhere on the page. */
  quietLegend?: boolean;
}) {
  const [ref, near] = useNear<HTMLDivElement>();
  const [width, setWidth] = useState(0);
  const wide = sources.length > MANY_LINES ? 2 : 1;
  const buckets = width ? Math.min(2048, Math.ceil(width / wide / CHUNK) * CHUNK) : 0;
  const { read, failure, loading, cut } = useLines(reads, metric, sources, ranks, buckets, zoom, settings.x, near);
  const axis = settings.x;
  const lines = useMemo(() => read.map((one) => toPlot(one, axis, settings.smoothing, palette.value)), [
    read, axis, settings.smoothing, palette.value,
  ]);
  const drawn = lines.filter((line) => line !== null);
  const rows = read.length > 0 && read.every((one) => one.line.axis === "row");
  const view: View = useMemo(
    () => ({
      xKind: axis === "time" ? "time" : axis === "relative" ? "duration" : settings.logX ? "log" : "linear",
      yKind: settings.logY ? "log" : "linear",
      zoom,
      xLabel: axis === "time" ? "time" : axis === "relative" ? "after" : rows ? "value" : "step",
      xWhole: axis === "step",
    }),
    [axis, settings.logX, settings.logY, zoom, rows],
  );
  const raw = zoom !== null && drawn.length > 0 && !isBlank(drawn, zoom) && read.every((one) => one.line.raw);
  return (
    <div ref={ref} class="chart-slot">
      {near || read.length ? (
        <Chart
          title={title}
          description={description ?? ""}
          figure={last === undefined ? undefined : <Num value={last} />}
          lines={drawn}
          view={view}
          onZoom={onZoom}
          onWidth={setWidth}
          linked={linked}
          loading={loading}
          note={noteOf(failure, cut, drawn, view, read.length > drawn.length)}
          legend={drawn.length > 1 && !quietLegend ? <Legend lines={drawn} /> : undefined}
          controls={raw ? <span class="badge" title="Each point is a value as it was logged">raw</span> : undefined}
        />
      ) : (
        <figure class="chart" data-chart={title}>
          <figcaption>{title}</figcaption>
          <div class="chart-canvas" />
        </figure>
      )}
    </div>
  );
}

function toPlot(one: Read, axis: XAxis, smoothing: number, colors: Parameters<typeof lineStyle>[0]): PlotLine | null {
  const { line } = one;
  const x = onAxis(line, axis, one.start);
  if (!x) return null;
  return {
    label: one.label,
    style: lineStyle(colors, one.color),
    x,
    y: line.y,
    min: line.min,
    max: line.max,
    flags: line.flags,
    smooth: smoothing > 0 ? smoothed(line.y, smoothing) : undefined,
  };
}

function noteOf(failure: Failure | undefined, cut: boolean, lines: readonly PlotLine[], view: View, timeless: boolean): string {
  const notes: string[] = [];
  if (failure && failure.kind !== "cancelled" && failure.kind !== "unreachable") notes.push(failure.text);
  if (cut) notes.push(`The first ${counted(MOST_ELEMENTS)} values; zoom in for the rest.`);
  if (timeless) notes.push("The times of this many values are not known; zoom in, or show steps.");
  return [...notes, unplacedText(lines, view)].filter(Boolean).join(" ");
}

/** What a log scale has no place for; empty when it has one for all. */
export function unplacedText(lines: readonly PlotLine[], view: View): string {
  const below = (values: (line: PlotLine) => Float64Array): number => lines.reduce((sum, line) => sum + values(line).reduce((n, value) => n + (value <= 0 ? 1 : 0), 0), 0);
  const axes = [
    ["y", view.yKind === "log" ? below((line) => line.min) : 0],
    ["x", view.xKind === "log" ? below((line) => line.x) : 0],
  ] as const;
  const told = axes.filter(([, points]) => points > 0).map(([name, points]) => `${plural(points, "point")} of ${name}`);
  return told.length ? `A log scale cannot show 0 and below: ${told.join(", ")}.` : "";
}

export function Legend({ lines }: { lines: readonly PlotLine[] }) {
  return (
    <ul class="legend">
      {lines.slice(0, 24).map((line, i) => (
        <li key={i}>
          <Swatch color={line.style.color} dash={line.style.dash.length > 0} />
          <bdi>{line.label}</bdi>
        </li>
      ))}
      {lines.length > 24 && <li class="quiet">and {lines.length - 24} more</li>}
    </ul>
  );
}

export function Swatch({ color, dash = false }: { color: string; dash?: boolean }) {
  return <i class={`swatch ${dash ? "swatch-dash" : ""}`} style={{ color }} aria-hidden="true" />;
}
