// Colours of charts. Eight lines that can be told apart, also by those who see fewer colours (the tests measure
// it), then the same with other dashes.

export interface Palette {
  background: string;
  text: string;
  quiet: string;
  grid: string;
  cursor: string;
  bad: string;
  lines: readonly string[];
}

export const LINES_LIGHT: readonly string[] = [
  "#0033d7", "#f86400", "#00463e", "#419cc3", "#57247e", "#9c926f", "#783600", "#4d8af8",
];
export const LINES_DARK: readonly string[] = [
  "#7c9fff", "#ffe333", "#cf680b", "#a8f89d", "#ffd0ee", "#0f7b93", "#947256", "#6c52ff",
];
export const LIGHT: Palette = {
  background: "#ffffff", text: "#1b1f24", quiet: "#57606a", grid: "#e7eaee", cursor: "#57606a", bad: "#b3261e",
  lines: LINES_LIGHT,
};
export const DARK: Palette = {
  background: "#15191e", text: "#e6e9ed", quiet: "#9aa4af", grid: "#272d35", cursor: "#9aa4af", bad: "#ff8a80",
  lines: LINES_DARK,
};

const DASHES: readonly (readonly number[])[] = [[], [7, 4], [2, 3], [9, 3, 2, 3]];

export interface LineStyle {
  color: string;
  dash: readonly number[];
}

/** Style of the line with this number; the same number always looks the same. */
export function lineStyle(palette: Palette, number: number): LineStyle {
  const lines = palette.lines;
  const dash = DASHES[Math.floor(number / lines.length) % DASHES.length]!;
  return { color: lines[number % lines.length]!, dash };
}
