// What of a run's series is drawn as what.

import { ValueType } from "../api/gen/point_pb";
import type { SeriesInfo } from "../api/gen/query_service_pb";

/** A place on the page for one metric.
 *
 * - `line`: numbers one after the other
 * - `tile`: a single value
 * - `xy`: rows with two numeric columns
 * - `columns`: rows with more numeric columns: one is x, the others are lines
 * - `table`: rows, or texts one after the other
 * - `empty`: declared, and nothing in it
 */
export type PanelKind = "line" | "tile" | "xy" | "columns" | "table" | "empty";

export interface Panel {
  kind: PanelKind;
  metric: string;
  /** Columns of rows; [""] for values. */
  columns: string[];
  numeric: string[];
  /** Elements of the longest column. */
  count: number;
  /** Elements of all columns. */
  elements: number;
  hasSteps: boolean;
  description: string;
  /** Last number of the first column. */
  last: number | undefined;
  types: ValueType[];
}

const NUMBERS = new Set<ValueType>([ValueType.DOUBLE, ValueType.INT64, ValueType.BOOL]);
const DECLARATIONS = new Set<ValueType>([ValueType.DECLARATION, ValueType.TABLE_DECLARATION]);

export function panelsOf(series: readonly SeriesInfo[]): Panel[] {
  const metrics = new Map<string, { values: SeriesInfo[]; rows: SeriesInfo[] }>();
  for (const info of series) {
    const name = info.series?.metric ?? "";
    const group = metrics.get(name) ?? { values: [], rows: [] };
    metrics.set(name, group);
    (info.series?.column ? group.rows : group.values).push(info);
  }
  const panels: Panel[] = [];
  for (const [metric, { values, rows }] of metrics) {
    const filled = values.filter((info) => info.count > 0n);
    if (filled.length) panels.push(panelOf(metric, filled));
    const columns = rows.filter((info) => info.count > 0n);
    if (columns.length) panels.push(panelOf(metric, columns));
    if (!filled.length && !columns.length) panels.push({ ...panelOf(metric, [...values, ...rows]), kind: "empty" });
  }
  return panels;
}

function panelOf(metric: string, infos: readonly SeriesInfo[]): Panel {
  const numeric = infos.filter(isNumeric).map((info) => info.series?.column ?? "");
  const count = infos.reduce((most, info) => Math.max(most, Number(info.count)), 0);
  return {
    kind: kindOf(infos, numeric, count),
    metric,
    columns: infos.map((info) => info.series?.column ?? ""),
    numeric,
    count,
    elements: infos.reduce((sum, info) => sum + Number(info.count), 0),
    hasSteps: infos.every((info) => info.hasSteps),
    description: infos.find((info) => info.series?.description)?.series?.description ?? "",
    last: infos[0]?.last,
    types: [...new Set(infos.flatMap((info) => info.types))],
  };
}

function isNumeric(info: SeriesInfo): boolean {
  const types = info.types.filter((type) => !DECLARATIONS.has(type));
  return types.length > 0 && types.every((type) => NUMBERS.has(type) || type === ValueType.NONE) && types.some((type) => NUMBERS.has(type));
}

function kindOf(infos: readonly SeriesInfo[], numeric: readonly string[], count: number): PanelKind {
  const plain = infos[0]?.series?.column === "";
  if (plain) {
    const numbers = infos[0]!.types.some((type) => NUMBERS.has(type));
    if (count === 1) return "tile";
    return numbers && infos[0]!.types.every((type) => NUMBERS.has(type) || DECLARATIONS.has(type) || type === ValueType.NONE)
      ? "line"
      : "table";
  }
  if (count < 2) return "table";
  if (infos.length === 2 && numeric.length === 2) return "xy";
  return numeric.length >= 2 ? "columns" : "table";
}

/** Drawn among the metrics: as a tile or as a chart. Texts, and what is empty, are under the tables. */
export function isDrawn(panel: Panel): boolean {
  return panel.kind === "tile" ? panel.last !== undefined : panel.kind !== "table" && panel.kind !== "empty";
}

/** Whether it is under the tables: rows also where they are drawn. */
export function isTabled(panel: Panel): boolean {
  return !isDrawn(panel) || panel.columns.some(Boolean);
}

/** Figures of the machine have a tab of their own. */
export function isSystem(panel: Panel): boolean {
  return panel.metric.startsWith("system/");
}

/** The last value as a word where all are true or false. */
export function wordOf(panel: Panel): string | undefined {
  const types = panel.types.filter((type) => !DECLARATIONS.has(type));
  return types.length === 1 && types[0] === ValueType.BOOL && panel.last !== undefined ? (panel.last ? "true" : "false") : undefined;
}

export interface Group {
  /** What the names begin with, up to the last slash; empty for those without one. */
  prefix: string;
  panels: Panel[];
}

/** Groups by what comes before the first slash of the name; groups of one join those without. */
export function groupsOf(panels: readonly Panel[]): Group[] {
  const groups = new Map<string, Panel[]>();
  for (const panel of panels) {
    const slash = panel.metric.indexOf("/");
    const prefix = slash > 0 ? panel.metric.slice(0, slash) : "";
    groups.set(prefix, [...(groups.get(prefix) ?? []), panel]);
  }
  return [...groups]
    .map(([prefix, members]) => ({ prefix, panels: members }))
    .sort((a, b) => (a.prefix === "" ? -1 : b.prefix === "" ? 1 : a.prefix.localeCompare(b.prefix)));
}

/** Keeps panels whose name has all words of the query, in any order and case. */
export function matching(panels: readonly Panel[], wanted: string): Panel[] {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  return panels.filter((panel) => {
    const name = panel.metric.toLowerCase();
    return words.every((word) => name.includes(word));
  });
}
