// Columns of the table of runs: what they are called, what a run has in them, and which are worth showing.

import { AttributeKind } from "../api/gen/run_pb";
import type { MetricSummary, Run } from "../api/gen/query_service_pb";
import { statusWords } from "./status";
import { toMs } from "./times";

/** A column by its name in the filter language: `status`, `params.alpha`, `metrics.loss`, `metrics.loss.min`;
 * `spark.loss` is the line of a metric. */
export type Column = string;

export const FIXED: readonly Column[] = ["name", "status", "started", "duration"];

const KINDS: Record<string, AttributeKind> = {
  params: AttributeKind.PARAM,
  tags: AttributeKind.TAG,
  properties: AttributeKind.PROPERTY,
  system: AttributeKind.SYSTEM,
};
const FIGURES = ["last", "min", "max", "first", "count"] as const;
type Figure = (typeof FIGURES)[number];

export interface Parsed {
  kind: "field" | "attribute" | "metric" | "spark";
  space: string;
  name: string;
  figure: Figure;
}

/** Takes a column apart. Names may have dots; those with other signs stand in backticks. */
export function parsed(column: Column): Parsed {
  const dot = column.indexOf(".");
  if (dot < 0) return { kind: "field", space: "", name: column, figure: "last" };
  const space = column.slice(0, dot);
  let rest = column.slice(dot + 1);
  let figure: Figure = "last";
  if (space === "metrics") {
    const end = rest.lastIndexOf(".");
    const word = rest.slice(end + 1) as Figure;
    const closed = !rest.startsWith("`") || rest[end - 1] === "`";
    if (end > 0 && FIGURES.includes(word) && closed) {
      figure = word;
      rest = rest.slice(0, end);
    }
  }
  const name = unquoted(rest);
  if (space === "spark") return { kind: "spark", space, name, figure };
  return { kind: space === "metrics" ? "metric" : "attribute", space, name, figure };
}

/** A name as the filter language takes it. */
export function quoted(name: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !FIGURES.includes(name as Figure)) return name;
  return `\`${name.replaceAll("\\", "\\\\").replaceAll("`", "\\`")}\``;
}

function unquoted(text: string): string {
  if (!text.startsWith("`") || !text.endsWith("`") || text.length < 2) return text;
  return text.slice(1, -1).replace(/\\(.)/g, "$1");
}

/** What stands above a column. */
export function titleOf(column: Column): string {
  const { kind, name, figure } = parsed(column);
  if (kind === "field") return column === "started" ? "age" : column === "name" ? "run" : column;
  return figure === "last" ? name : `${name} ${figure}`;
}

/** What the server is asked for. */
export function wantedOf(columns: readonly Column[]): { columns: string[]; sparklines: string[] } {
  const wanted = new Set<string>();
  const sparklines: string[] = [];
  for (const column of columns) {
    const { kind, space, name } = parsed(column);
    if (kind === "metric") wanted.add(`metrics.${quoted(name)}`);
    else if (kind === "attribute") wanted.add(`${space}.${quoted(name)}`);
    else if (kind === "spark" && sparklines.length < 10) sparklines.push(name);
  }
  return { columns: [...wanted], sparklines };
}

export type Cell = number | string | undefined;

export function metricOf(run: Run, name: string, column = ""): MetricSummary | undefined {
  return run.metrics.find((one) => one.metric === name && one.column === column);
}

/** What a run has in a column: a number where it is one. */
export function cellOf(run: Run, column: Column): Cell {
  const { kind, space, name, figure } = parsed(column);
  if (kind === "metric") {
    const summary = metricOf(run, name);
    if (!summary) return undefined;
    return figure === "count" ? Number(summary.count) : summary[figure];
  }
  if (kind === "attribute") {
    const found = run.attributes.find((one) => one.kind === KINDS[space] && one.key === name);
    if (!found) return undefined;
    return numeric(found.value ?? "✓");
  }
  switch (column) {
    case "name":
      return run.displayName || run.ref?.run;
    case "status":
      return statusWords(run.status).word;
    case "started":
      return toMs(run.startedTimeNs) || undefined;
    case "duration":
      return run.startedTimeNs ? toMs(run.endedTimeNs || BigInt(Date.now()) * 1_000_000n) - toMs(run.startedTimeNs) : undefined;
    case "number":
      return Number(run.number);
    case "parent":
      return run.parent || undefined;
    default:
      return undefined;
  }
}

/** A text as the number that it is, if it is one. */
export function numeric(text: string): number | string {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim())) return text;
  const value = Number(text);
  return Number.isFinite(value) ? value : text;
}

/** A hash or the like: it tells things apart, and nothing to a reader. */
export function isId(cell: Cell): boolean {
  return typeof cell === "string" && /^(?=.*[0-9])[0-9a-f-]{16,}$/i.test(cell);
}

/** All columns that these runs could fill. */
export function columnsOf(runs: readonly Run[]): Column[] {
  const found = new Set<Column>();
  for (const run of runs) {
    for (const one of run.attributes) {
      const space = Object.keys(KINDS).find((name) => KINDS[name] === one.kind);
      if (space && one.kind !== AttributeKind.SYSTEM) found.add(`${space}.${quoted(one.key)}`);
    }
    for (const one of run.metrics) if (one.column === "" && one.last !== undefined) found.add(`metrics.${quoted(one.metric)}`);
  }
  return [...found];
}

/** What runs can be grouped by. */
export function groupsFor(runs: readonly Run[]): Column[] {
  return [...columnsOf(runs).filter((column) => /^(params|tags)\./.test(column)).sort((a, b) => titleOf(a).localeCompare(titleOf(b))), "parent"];
}

/** Whether a run begins a group: it has another value than the one before it. */
export function beginsGroup(before: Run | undefined, run: Run, group: Column): boolean {
  return !before || cellOf(before, group) !== cellOf(run, group);
}

const MOST = 8;

/** The columns to begin with: those in which the runs differ, the most telling first, and a line. */
export function defaultColumns(runs: readonly Run[]): Column[] {
  const scored = columnsOf(runs)
    .filter((column) => !parsed(column).name.startsWith("system/"))  // of the machine, and so always different
    .map((column) => ({ column, score: telling(runs, column) }))
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score || titleOf(a.column).localeCompare(titleOf(b.column)));
  const of = (space: string, most: number): Column[] =>
    scored.filter(({ column }) => column.startsWith(space)).slice(0, most).map(({ column }) => column);
  const chosen = [...of("params.", 3), ...of("metrics.", 5), ...of("tags.", 2), ...of("properties.", 1)].slice(0, MOST);
  const line = lineMetric(runs);
  return line === undefined ? chosen : [...chosen, `spark.${quoted(line)}`];
}

/** How much a column tells: how many have it, and how different the values are. 0: nothing. */
export function telling(runs: readonly Run[], column: Column): number {
  const values = runs.map((run) => cellOf(run, column));
  const present = values.filter((value) => value !== undefined);
  if (present.some(isId)) return 0;
  const different = new Set(present).size;
  if (different < 2 && present.length === runs.length) return runs.length === 1 ? 0.1 : 0;
  const spread = different / Math.max(1, present.length);
  // Texts that all differ are names or paths: they tell runs apart, and nothing else.
  const id = spread === 1 && present.length > 3 && typeof present[0] === "string" ? 0.3 : 1;
  // A figure that was logged once is a result; the last of a series is one moment of it.
  const { kind, name } = parsed(column);
  const result = kind === "metric" && runs.every((run) => (metricOf(run, name)?.count ?? 1n) === 1n) ? 1.2 : 1;
  return (present.length / runs.length) * (0.3 + spread) * id * result;
}

/** The metric whose line is shown: a series that most runs have, a loss before others. */
function lineMetric(runs: readonly Run[]): string | undefined {
  const score = new Map<string, number>();
  for (const run of runs) {
    for (const one of run.metrics) {
      if (one.column !== "" || one.count < 3n || one.metric.startsWith("system/")) continue;
      score.set(one.metric, (score.get(one.metric) ?? 0) + (/loss/i.test(one.metric) ? 1.5 : 1));
    }
  }
  return [...score].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]))[0]?.[0];
}

export interface Sort {
  field: string;
  descending: boolean;
}

export function sortOf(text: string): Sort | null {
  if (!text) return null;
  return text.startsWith("-") ? { field: text.slice(1), descending: true } : { field: text, descending: false };
}

export function sortText(sort: Sort | null): string {
  return sort ? (sort.descending ? "-" : "") + sort.field : "";
}
