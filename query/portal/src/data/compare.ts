// What differs between runs.

import { AttributeKind } from "../api/gen/run_pb";
import type { Run } from "../api/gen/query_service_pb";
import { isId, numeric, quoted, type Cell } from "./columns";
import { isFinal } from "./status";
import { toMs } from "./times";

export interface Difference {
  kind: "parameter" | "metric" | "tag" | "property" | "environment";
  name: string;
  /** By run, in their order; undefined where a run has none. */
  cells: Cell[];
  differs: boolean;
}

const KINDS: Partial<Record<AttributeKind, Difference["kind"]>> = {
  [AttributeKind.PARAM]: "parameter",
  [AttributeKind.TAG]: "tag",
  [AttributeKind.PROPERTY]: "property",
  [AttributeKind.SYSTEM]: "environment",
};
const ORDER: readonly Difference["kind"][] = ["parameter", "metric", "tag", "property", "environment"];

const SOON_MS = 3000;
const LATER_MS = 15_000;
const FRESH_MS = 30_000;

/** When to ask again: soon while something of the runs is on its way, as it is for a moment after they have ended. */
export function againMs(runs: readonly Run[], nowMs: number): number {
  const moves = (run: Run): boolean => !isFinal(run.status) || run.settling || nowMs - toMs(run.endedTimeNs) < FRESH_MS;
  return runs.some(moves) ? SOON_MS : LATER_MS;
}

/** All that the runs have, by kind and name. */
export function differences(runs: readonly Run[]): Difference[] {
  const found = new Map<string, Difference>();
  const put = (kind: Difference["kind"], name: string, at: number, cell: Cell): void => {
    const key = `${kind}\n${name}`;
    const row = found.get(key) ?? { kind, name, cells: runs.map(() => undefined), differs: false };
    found.set(key, row);
    row.cells[at] = cell;
  };
  runs.forEach((run, at) => {
    for (const one of run.attributes) {
      const kind = KINDS[one.kind];
      if (kind) put(kind, one.key, at, numeric(one.value ?? "✓"));
    }
    for (const one of run.metrics) if (one.column === "" && one.last !== undefined) put("metric", one.metric, at, one.last);
  });
  for (const row of found.values()) row.differs = new Set(row.cells).size > 1;
  return [...found.values()].sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || a.name.localeCompare(b.name));
}

/** Names that are numbers in most runs, so that they can be an axis; or short texts of which there are few. */
export function axesOf(rows: readonly Difference[]): Difference[] {
  const able = rows.filter((row) => {
    if (!row.differs || row.kind === "environment") return false;
    const present = row.cells.filter((cell) => cell !== undefined);
    if (present.length < 2) return false;
    if (present.every((cell) => typeof cell === "number")) return present.some((cell) => Number.isFinite(cell));
    return new Set(present).size <= 12 && !present.some(isId);
  });
  // What was chosen stands to the left, what came of it to the right.
  return [...able.filter((row) => row.kind !== "metric"), ...able.filter((row) => row.kind === "metric")];
}

/** What is best: the least or the greatest of a metric. */
export interface Best {
  metric: string;
  greatest: boolean;
}

/** Index of the best; −1 when none has a finite number. */
export function bestOf(cells: readonly Cell[], greatest: boolean): number {
  let best = -1;
  cells.forEach((cell, i) => {
    if (typeof cell !== "number" || !Number.isFinite(cell)) return;
    const held = best < 0 ? undefined : (cells[best] as number);
    if (held === undefined || (greatest ? cell > held : cell < held)) best = i;
  });
  return best;
}

/** The experiment's choice, as it stands in its tag: "min loss". */
export function bestFrom(text: string | undefined): Best | null {
  const match = /^(min|max) (.+)$/s.exec(text ?? "");
  return match ? { metric: match[2]!, greatest: match[1] === "max" } : null;
}

export function bestText(best: Best): string {
  return `${best.greatest ? "max" : "min"} ${best.metric}`;
}

export const BEST_TAG = "runstream.best";

/** The experiment's choice; null when it has none. */
export function bestOfExperiment(experiment: { attributes: readonly { kind: AttributeKind; key: string; value?: string | undefined }[] } | undefined): Best | null {
  return bestFrom(experiment?.attributes.find((one) => one.kind === AttributeKind.TAG && one.key === BEST_TAG)?.value);
}

/** The filter that leaves runs with a finite last number of the metric. */
export function finiteFilter(filter: string, metric: string): string {
  const field = `metrics.${quoted(metric)}`;
  const finite = `${field} > -inf and ${field} < inf`;
  return filter.trim() ? `(${filter}) and ${finite}` : finite;
}

/** Metrics that are lines in some of these runs; what most of them have stands first, for it can be compared. */
export function sharedFirst(runs: readonly Run[]): string[] {
  const having = new Map<string, number>();
  for (const run of runs) {
    for (const one of run.metrics) {
      if (one.column === "" && one.count > 1n && one.last !== undefined) having.set(one.metric, (having.get(one.metric) ?? 0) + 1);
    }
  }
  return [...having].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([name]) => name);
}
