// Lines of charts: from buckets or elements as they arrive to columns that can be drawn.

import { BucketAxis, type BucketChunk, type MetricChunk } from "../api/gen/query_service_pb";
import { toMs } from "./times";
import { numbersOf } from "./elements";

/** What of an element or bucket is not finite; added up. */
export const NAN = 1;
export const PLUS_INFINITY = 2;
export const MINUS_INFINITY = 4;

export interface Line {
  /** "step", or "row" where the metric has values without a step. */
  axis: "step" | "row";
  /** Per bucket or element, in rising order. */
  x: Float64Array;
  /** When the last value of each was logged, Unix milliseconds; empty when not known. */
  time: Float64Array;
  /** Last value of each; NaN where nothing finite is. */
  y: Float64Array;
  min: Float64Array;
  max: Float64Array;
  /** Sums of NAN, PLUS_INFINITY, MINUS_INFINITY. */
  flags: Uint8Array;
  /** True when each entry is one element as it was logged. */
  raw: boolean;
}

export const NO_STEP = -(2n ** 63n);

export function emptyLine(axis: "step" | "row" = "step"): Line {
  const none = new Float64Array(0);
  return { axis, x: none, time: none, y: none, min: none, max: none, flags: new Uint8Array(0), raw: true };
}

export function lineOfBuckets(chunk: BucketChunk): Line {
  const size = chunk.count;
  const line: Line = {
    axis: chunk.axis === BucketAxis.STEP ? "step" : "row",
    x: Float64Array.from(chunk.lastX, Number),
    time: Float64Array.from(chunk.lastTimeNs, toMs),
    y: new Float64Array(size),
    min: Float64Array.from(chunk.min),
    max: Float64Array.from(chunk.max),
    flags: Uint8Array.from(chunk.nonFinite.length ? chunk.nonFinite : new Uint8Array(size)),
    raw: false,
  };
  for (let i = 0; i < size; i++) {
    const last = chunk.last[i]!;
    // A bucket that ends in NaN is still crossed where it has something finite.
    line.y[i] = Number.isFinite(last) ? last : chunk.min[i]! / 2 + chunk.max[i]! / 2;
  }
  return line;
}

/** A line of elements as they were logged. Other elements than numbers are passed over. */
export function lineOfElements(chunks: readonly MetricChunk[]): Line {
  const size = chunks.reduce((sum, chunk) => sum + chunk.count, 0);
  const line: Line = {
    axis: "step",
    x: new Float64Array(size),
    time: new Float64Array(size),
    y: new Float64Array(size),
    min: new Float64Array(0),
    max: new Float64Array(0),
    flags: new Uint8Array(size),
    raw: true,
  };
  const stepped = chunks.every((chunk) => chunk.step.length === chunk.count && chunk.step.every((s) => s !== NO_STEP));
  line.axis = stepped ? "step" : "row";
  let to = 0;
  for (const chunk of chunks) {
    const { values, at } = numbersOf(chunk);
    for (let i = 0; i < values.length; i++) {
      const row = at[i]!;
      line.x[to] = stepped ? Number(chunk.step[row]) : Number(chunk.firstRow) + (chunk.rowOffset[row] ?? row);
      line.time[to] = chunk.loggedTimeNs.length ? toMs(chunk.loggedTimeNs[row]!) : NaN;
      const value = values[i]!;
      line.flags[to] = flagOf(value);
      line.y[to] = Number.isFinite(value) ? value : NaN;
      to++;
    }
  }
  line.x = line.x.subarray(0, to);
  line.time = line.time.subarray(0, to);
  line.y = line.y.subarray(0, to);
  line.flags = line.flags.subarray(0, to);
  line.min = line.y;
  line.max = line.y;
  return line;
}

export function flagOf(value: number): number {
  if (Number.isFinite(value)) return 0;
  return Number.isNaN(value) ? NAN : value > 0 ? PLUS_INFINITY : MINUS_INFINITY;
}

export function flagText(flags: number): string {
  const words = [];
  if (flags & NAN) words.push("NaN");
  if (flags & PLUS_INFINITY) words.push("+Inf");
  if (flags & MINUS_INFINITY) words.push("−Inf");
  return words.join(", ");
}

/** First index whose x is at least `wanted`. */
export function indexOf(x: ArrayLike<number>, wanted: number): number {
  let low = 0;
  let high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle]! < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Index of the entry nearest to `wanted`; −1 when there is none. */
export function nearest(x: ArrayLike<number>, wanted: number): number {
  if (x.length === 0) return -1;
  const after = Math.min(indexOf(x, wanted), x.length - 1);
  if (after === 0) return 0;
  return wanted - x[after - 1]! <= x[after]! - wanted ? after - 1 : after;
}

/** Lines of several ranks as one: at each x where one has a value, the least and greatest of the last known
 * values of all, and their mean. */
export function rankBand(lines: readonly Line[]): Line {
  const xs = Float64Array.from([...new Set(lines.flatMap((line) => [...line.x]))].sort((a, b) => a - b));
  const made = { ...emptyLine(lines[0]?.axis ?? "step"), x: xs, raw: false };
  made.y = new Float64Array(xs.length).fill(NaN);
  made.min = new Float64Array(xs.length).fill(NaN);
  made.max = new Float64Array(xs.length).fill(NaN);
  made.flags = new Uint8Array(xs.length);
  const at = lines.map(() => -1);
  for (let i = 0; i < xs.length; i++) {
    let sum = 0;
    let known = 0;
    for (let k = 0; k < lines.length; k++) {
      const line = lines[k]!;
      while (at[k]! + 1 < line.x.length && line.x[at[k]! + 1]! <= xs[i]!) {
        at[k]!++;
        made.flags[i]! |= line.flags[at[k]!]!;
      }
      const place = at[k]!;
      // A rank that has ended has no say any more.
      if (place < 0 || (place === line.x.length - 1 && line.x[place]! < xs[i]!)) continue;
      const y = line.y[place]!;
      if (y !== y) continue;
      sum += y;
      known++;
      if (!(made.min[i]! <= line.min[place]!)) made.min[i] = line.min[place]!;
      if (!(made.max[i]! >= line.max[place]!)) made.max[i] = line.max[place]!;
    }
    if (known) made.y[i] = sum / known;
  }
  return made;
}
