// What differs between two snapshots, and between two texts of them.

import { structuredPatch } from "diff";
import type { ZipEntry } from "./zip";

export type Change = "same" | "changed" | "added" | "removed";

export interface SourceFile {
  path: string;
  size: number;
  change: Change;
  /** In this snapshot. */
  mine: ZipEntry | undefined;
  /** In the other one. */
  other: ZipEntry | undefined;
}

/** The files of this snapshot; with another one, of both, and what has become of each on the way from the other to this one. */
export function changesOf(mine: readonly ZipEntry[], other: readonly ZipEntry[] | undefined): SourceFile[] {
  if (!other) return mine.map((one) => ({ path: one.path, size: one.size, change: "same", mine: one, other: undefined }));
  const before = new Map(other.map((one) => [one.path, one]));
  const files: SourceFile[] = mine.map((one) => {
    const old = before.get(one.path);
    before.delete(one.path);
    return { path: one.path, size: one.size, change: !old ? "added" : equal(old, one) ? "same" : "changed", mine: one, other: old };
  });
  for (const old of before.values()) files.push({ path: old.path, size: old.size, change: "removed", mine: undefined, other: old });
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function equal(a: ZipEntry, b: ZipEntry): boolean {
  return a.crc === b.crc && a.size === b.size && a.link === b.link && a.executable === b.executable;
}

/** Whether bytes are no text: they have a NUL near their beginning. */
export function isBinary(data: Uint8Array): boolean {
  return data.subarray(0, 8000).includes(0);
}

export interface DiffRow {
  kind: "added" | "removed" | "same" | "gap" | "note";
  /** Line numbers from 1. */
  before?: number;
  after?: number;
  text: string;
}

const DIFF_TIMEOUT_MS = 1500;

/** Lines that differ with three around them, or null when the texts are so different that it would take too long to say. */
export function diffRows(before: string, after: string): DiffRow[] | null {
  const patch = structuredPatch("", "", before, after, "", "", { context: 3, timeout: DIFF_TIMEOUT_MS });
  if (!patch) return null;
  const rows: DiffRow[] = [];
  for (const hunk of patch.hunks) {
    let [old, now] = [hunk.oldStart, hunk.newStart];
    if (rows.length || Math.max(old, now) > 1) rows.push({ kind: "gap", text: `from line ${now}` });
    for (const line of hunk.lines) {
      const text = line.slice(1);
      if (line.startsWith("+")) rows.push({ kind: "added", after: now++, text });
      else if (line.startsWith("-")) rows.push({ kind: "removed", before: old++, text });
      else if (line.startsWith("\\")) rows.push({ kind: "note", text: "no line break at the end" });
      else rows.push({ kind: "same", before: old++, after: now++, text });
    }
  }
  return rows;
}
