// What the kernel has told of a run, as the charts take it. The kernel's side is sdk/runstream/widgets/front.py.

import type { SeriesInfo } from "../api/gen/query_service_pb";
import type { ChildValues } from "../data/children";
import type { Table, Value } from "../data/elements";
import type { Line } from "../data/lines";

/** The part of anywidget's model that is used. */
export interface Model {
  get(key: string): unknown;
  on(event: string, callback: (...arguments_: never[]) => void): void;
  off(event: string, callback: (...arguments_: never[]) => void): void;
  send(content: unknown): void;
}

export interface Properties {
  run_id: string;
  experiment: string;
  run_number: number | null;
  name: string;
  status: string;
  created_utc: string | null;
  end_time_utc: string | null;
  tags: Record<string, string | null>;
  properties: Record<string, string | null>;
  parameters: Record<string, string | null>;
  script_name: string | null;
  error: string | null;
  portal_url: string;
}

export interface Child extends ChildValues {
  run_id: string;
  name: string;
  status: string;
}

interface SeriesMessage {
  metric: string;
  column: string;
  description: string;
  types: number[];
  count: number;
  has_steps: boolean;
  last: number | string | null;
}

/** Series as the query service lists them, so that the portal's rules say what is drawn as what. */
export function seriesOf(told: unknown): SeriesInfo[] {
  return ((told ?? []) as SeriesMessage[]).map((one) => ({
    series: { metric: one.metric, column: one.column, description: one.description },
    types: one.types,
    count: BigInt(one.count),
    hasSteps: one.has_steps,
    last: one.last === null ? undefined : numberOf(one.last),
  })) as unknown as SeriesInfo[];
}

/** JSON has no words for them: Python's are used. */
function numberOf(told: number | string): number {
  if (typeof told === "number") return told;
  return told === "inf" ? Infinity : told === "-inf" ? -Infinity : NaN;
}

export interface LineMessage {
  axis: "step" | "row";
  raw: boolean;
  x?: DataView;
  time?: DataView;
  y?: DataView;
  min?: DataView;
  max?: DataView;
  flags?: DataView;
}

export interface ChartMessage {
  metric: string;
  line?: LineMessage;
  rows?: { columns: { name: string; row: DataView; value: DataView }[] };
  /** The first values, where they are no numbers. */
  texts?: string[];
  /** The first rows, by column. */
  table?: { heads: string[]; columns: string[][] };
}

/** Little-endian doubles, wherever in a message they begin. */
export function doubles(view: DataView | undefined): Float64Array {
  const size = (view?.byteLength ?? 0) >> 3;
  const column = new Float64Array(size);
  for (let i = 0; i < size; i++) column[i] = view!.getFloat64(i * 8, true);
  return column;
}

export function lineOf(told: LineMessage): Line {
  const y = doubles(told.y);
  const flags = told.flags;
  return {
    axis: told.axis,
    x: doubles(told.x),
    time: doubles(told.time),
    y,
    min: told.raw ? y : doubles(told.min),
    max: told.raw ? y : doubles(told.max),
    flags: flags ? new Uint8Array(flags.buffer.slice(flags.byteOffset, flags.byteOffset + flags.byteLength)) : new Uint8Array(0),
    raw: told.raw,
  };
}

/** The numbers of a table. A cell that is no number, and one that is not there, is undefined. */
export function tableOf(told: NonNullable<ChartMessage["rows"]>): Table {
  const columns = told.columns.map((column) => ({ name: column.name, row: doubles(column.row), value: doubles(column.value) }));
  const rows = [...new Set(columns.flatMap((column) => [...column.row]))].sort((a, b) => a - b);
  const places = new Map(rows.map((row, place) => [row, place]));
  const cells = columns.map((column) => {
    const filled: (Value | undefined)[] = new Array<Value | undefined>(rows.length).fill(undefined);
    column.row.forEach((row, i) => (filled[places.get(row)!] = column.value[i]!));
    return filled;
  });
  return { columns: columns.map((column) => column.name), rows, cells };
}

/** What was told of the charts, by metric. */
export function chartsOf(model: Model): Map<string, ChartMessage> {
  const charts = new Map<string, ChartMessage>();
  for (let n = 0; ; n++) {
    const told = model.get(`chart_${n}`) as ChartMessage | null | undefined;
    if (told === undefined) return charts;
    if (told) charts.set(told.metric, told);
  }
}
