// What of a chart can be taken away.

import type { PlotLine } from "./draw";

export function save(name: string, blob: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = fileName(name);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A name that every file system takes. */
export function fileName(name: string): string {
  // eslint-disable-next-line no-control-regex
  return name.replace(/[\u0000-\u001f<>:"/\\|?*\u202a-\u202e\u2066-\u2069]+/g, "_").slice(0, 120) || "chart";
}

/** Lines as CSV: one row an entry, with the band where entries are buckets. */
export function csvOfLines(lines: readonly PlotLine[], xName: string): string {
  const rows = [["line", xName, "value", "min", "max", "not_finite"].join(",")];
  for (const line of lines) {
    for (let i = 0; i < line.x.length; i++) {
      const flags = line.flags[i]!;
      const words = [flags & 1 ? "nan" : "", flags & 2 ? "inf" : "", flags & 4 ? "-inf" : ""].filter(Boolean);
      rows.push([cell(line.label), line.x[i], number(line.y[i]!), number(line.min[i]!), number(line.max[i]!), words.join(" ")].join(","));
    }
  }
  return rows.join("\n") + "\n";
}

const number = (value: number): string => (value === value ? String(value) : "");

/** A cell that no spreadsheet takes for a formula. */
export function cell(text: string): string {
  const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
