// Rows of numbers as lines: one column is x, the others are lines over it in the order logged.

import { asNumber, type Table } from "../data/elements";
import { flagOf } from "../data/lines";
import type { PlotLine } from "./draw";
import { lineStyle, type Palette } from "./palette";

/** Stands for the row number in the place of a column. */
export const BY_ROW = "\u0000row";

/** Lines of all numeric columns over one. Rows without a place on the x axis are left out. */
export function linesOf(table: Table, numeric: readonly string[], x: string, colors: Palette): PlotLine[] {
  const at = x === BY_ROW ? table.rows : table.cells[table.columns.indexOf(x)]?.map(asNumber);
  if (!at) return [];
  return numeric
    .filter((name) => name !== x)
    .slice(0, 32)
    .map((name, number) => {
      const cells = table.cells[table.columns.indexOf(name)]!;
      const places = at.map((value, i) => (Number.isFinite(value) && cells[i] !== undefined ? i : -1)).filter((i) => i >= 0);
      const values = places.map((i) => asNumber(cells[i]));
      const y = Float64Array.from(values, (value) => (Number.isFinite(value) ? value : NaN));
      return {
        label: name,
        style: lineStyle(colors, number),
        x: Float64Array.from(places, (i) => at[i]!),
        y,
        min: y,
        max: y,
        flags: Uint8Array.from(values, flagOf),
        dots: places.length <= 500,
      };
    });
}
