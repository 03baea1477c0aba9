// Which column of a table is x. The order in which columns were logged is not kept: they come by name.

import { asNumber, type Table } from "./elements";

const NAMES = /^(global[ _-]?)?(step|epoch|iteration|iter|batch|round|x|t|time|timestamp|second|index|idx)s?$/i;

/** The column that the others are drawn over: one that is named like an axis before others, one whose values rise before those that don't,
 * and a count before a measure; of equals the first. Undefined without columns. */
export function xColumn(table: Table, numeric: readonly string[]): string | undefined {
  let best: { name: string; score: number } | undefined;
  for (const name of numeric) {
    const values = (table.cells[table.columns.indexOf(name)] ?? []).map(asNumber).filter(Number.isFinite);
    const score = (NAMES.test(name.trim()) ? 4 : 0) + scoreOf(values);
    if (!best || score > best.score) best = { name, score };
  }
  return best?.name;
}

function scoreOf(values: readonly number[]): number {
  let rises = values.length > 1;
  let strictly = rises;
  for (let i = 1; i < values.length && rises; i++) {
    if (values[i]! < values[i - 1]!) rises = false;
    if (values[i]! <= values[i - 1]!) strictly = false;
  }
  if (!rises || values.at(-1) === values[0]) return 0;
  return 1 + (strictly ? 1 : 0) + (values.every(Number.isInteger) ? 0.5 : 0);
}
