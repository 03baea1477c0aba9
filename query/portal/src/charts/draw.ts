// Draws lines with their bands, marks and axes. Pure: what is drawn depends on the arguments alone.

import { MINUS_INFINITY, NAN, PLUS_INFINITY, flagText, indexOf } from "../data/lines";
import type { LineStyle, Palette } from "./palette";
import type { Pen } from "./pen";
import { padded, scale, ticks, type Range, type Scale, type ScaleKind, type Tick } from "./scale";

export interface PlotLine {
  /** What it is, for people; shown beside its value. */
  label: string;
  style: LineStyle;
  /** In the units of the x axis, rising. */
  x: Float64Array;
  y: Float64Array;
  min: Float64Array;
  max: Float64Array;
  flags: Uint8Array;
  /** Drawn over the line as it is. */
  smooth?: Float64Array | undefined;
  /** Draw each entry as a dot, too: few entries, or not in the order of x. */
  dots?: boolean | undefined;
  /** Less visible, for what is not looked at just now. */
  faint?: boolean | undefined;
}

export interface View {
  xKind: ScaleKind;
  yKind: "linear" | "log";
  /** What of the x axis is shown; all when it is null. */
  zoom: Range | null;
  xLabel: string;
  /** There is nothing between whole numbers of the x axis. */
  xWhole?: boolean | undefined;
}

export interface Layout {
  width: number;
  height: number;
  left: number;
  right: number;
  top: number;
  bottom: number;
  x: Scale;
  y: Scale;
  xTicks: Tick[];
  yTicks: Tick[];
  /** Entries that a log scale has no place for. */
  unplaced: number;
}

const LABEL_PX = 6.2;

/** The x axis over all lines; null when there is nothing. */
export function extentX(lines: readonly PlotLine[], kind: ScaleKind): Range | null {
  let min = Infinity;
  let max = -Infinity;
  for (const { x } of lines) {
    for (const value of x) {
      if (kind === "log" && !(value > 0)) continue;
      if (value < min) min = value;
      if (value > max) max = value;
    }
  }
  return min <= max ? { min, max } : null;
}

/** Entries of a line from one before to one after what is shown. */
export function shownOf(line: PlotLine, range: Range): [number, number] {
  if (line.dots && !isRising(line.x)) return [0, line.x.length];
  const from = Math.max(0, indexOf(line.x, range.min) - 1);
  const to = Math.min(line.x.length, indexOf(line.x, range.max) + 2);
  return [from, to];
}

function isRising(x: Float64Array): boolean {
  for (let i = 1; i < x.length; i++) if (x[i]! < x[i - 1]!) return false;
  return true;
}

/** Whether lines that have values have none in a range. */
export function isBlank(lines: readonly PlotLine[], range: Range): boolean {
  return lines.length > 0 && !lines.some((line) => line.x.some((value) => value >= range.min && value <= range.max));
}

/** The y axis of what is shown: exact, from the bands. */
export function extentY(lines: readonly PlotLine[], x: Range, kind: "linear" | "log"): [number, number, number] {
  let low = Infinity;
  let high = -Infinity;
  let unplaced = 0;
  for (const line of lines) {
    const [from, to] = shownOf(line, x);
    for (let i = from; i < to; i++) {
      if (line.x[i]! < x.min || line.x[i]! > x.max) continue;
      const min = line.min[i]!;
      const max = line.max[i]!;
      if (kind === "log") {
        if (min <= 0) unplaced++;
        if (max > high && max > 0) high = max;
        const least = min > 0 ? min : line.y[i]!;
        if (least > 0 && least < low) low = least;
      } else {
        if (min < low) low = min;
        if (max > high) high = max;
      }
      // It comes from before what is shown, and may lie outside of its values.
      const smooth = line.smooth?.[i];
      if (smooth !== undefined && (kind === "linear" || smooth > 0)) {
        if (smooth < low) low = smooth;
        if (smooth > high) high = smooth;
      }
    }
  }
  return [low, high, unplaced];
}

export function layout(lines: readonly PlotLine[], view: View, width: number, height: number): Layout {
  const all = extentX(lines, view.xKind) ?? { min: view.xKind === "log" ? 1 : 0, max: view.xKind === "log" ? 10 : 1 };
  let range = view.zoom ?? all;
  if (range.min === range.max) range = padded(range.min, range.max, view.xKind === "log" ? "log" : "linear");
  const [low, high, unplaced] = extentY(lines, range, view.yKind);
  const yRange = padded(low, high, view.yKind);
  const top = 10;
  const bottom = height - 22;
  const yTicks = ticks(view.yKind, yRange, Math.max(2, Math.floor((bottom - top) / 30)));
  const widest = yTicks.reduce((most, tick) => Math.max(most, tick.text.length), 2);
  const left = Math.min(Math.ceil(widest * LABEL_PX) + 12, width / 3);
  const right = width - 12;
  const perTick = view.xKind === "time" || view.xKind === "duration" ? 80 : 60;
  return {
    width,
    height,
    left,
    right,
    top,
    bottom,
    x: scale(view.xKind, range, left, right),
    y: scale(view.yKind, yRange, bottom, top),
    xTicks: ticks(view.xKind, range, Math.max(2, Math.floor((right - left) / perTick)), view.xWhole),
    yTicks,
    unplaced,
  };
}

export function drawPlot(pen: Pen, lines: readonly PlotLine[], place: Layout, palette: Palette): void {
  drawAxes(pen, place, palette);
  const unclip = pen.clip(place.left, place.top - 4, place.right - place.left + 1, place.bottom - place.top + 8);
  const width = lines.length > MANY_LINES ? 1 : 1.5;
  for (const line of lines) drawLine(pen, line, place, width);
  unclip();
  drawMarks(pen, lines, place, palette);
}

function drawAxes(pen: Pen, place: Layout, palette: Palette): void {
  const { left, right, bottom } = place;
  for (const tick of place.yTicks) {
    const y = Math.round(place.y.toPx(tick.value)) + 0.5;
    pen.segment(left, y, right, y, { color: palette.grid, width: 1 });
    pen.text(tick.text, left - 6, y, palette.quiet, "end");
  }
  pen.segment(left, bottom + 0.5, right, bottom + 0.5, { color: palette.grid, width: 1 });
  let free = -Infinity;
  for (const tick of place.xTicks) {
    const x = Math.round(place.x.toPx(tick.value)) + 0.5;
    const half = (tick.text.length * LABEL_PX) / 2;
    pen.segment(x, bottom, x, bottom + 4, { color: palette.grid, width: 1 });
    const at = Math.min(x, place.width - half - 1);
    if (at - half < free) continue;
    pen.text(tick.text, at, bottom + 12, palette.quiet, "middle");
    free = at + half + 8;
  }
}

let xs = new Float64Array(1024);
let ys = new Float64Array(1024);
let lows = new Float64Array(1024);
let highs = new Float64Array(1024);

function room(size: number): void {
  if (xs.length >= size) return;
  const wanted = 2 ** Math.ceil(Math.log2(size));
  [xs, ys, lows, highs] = [0, 1, 2, 3].map(() => new Float64Array(wanted)) as [
    Float64Array<ArrayBuffer>, Float64Array<ArrayBuffer>, Float64Array<ArrayBuffer>, Float64Array<ArrayBuffer>,
  ];
}

/** Lines of a pixel are drawn several times as fast as wider ones, and more can be told apart. */
const MANY_LINES = 8;

function drawLine(pen: Pen, line: PlotLine, place: Layout, lineWidth: number): void {
  const [from, to] = shownOf(line, place.x.range);
  const size = to - from;
  if (size <= 0) return;
  room(size);
  const { x, y } = place;
  let banded = false;
  for (let i = 0; i < size; i++) {
    const k = from + i;
    xs[i] = x.toPx(line.x[k]!);
    ys[i] = xs[i] === xs[i] ? y.toPx(line.y[k]!) : NaN;
    const max = line.max[k]!;
    const min = line.min[k]!;
    highs[i] = y.toPx(max);
    // What lies below a log scale reaches to its end.
    lows[i] = y.kind === "log" && min <= 0 && max > 0 ? place.bottom + 4 : y.toPx(min);
    if (min < max) banded = true;
  }
  const alpha = line.faint ? 0.25 : 1;
  const { color, dash } = line.style;
  if (banded) {
    pen.area(xs, lows, highs, 0, size, color, line.faint ? 0.06 : 0.22);
    // A bucket alone has no area, and one that stands out next to none: its extent is a stroke.
    const { at, to } = strokesOf(size, lineWidth > 1 ? OUTSTANDING_PX : 3 * OUTSTANDING_PX);
    if (at.length) pen.path(at, to, 0, at.length, { color, width: 1, alpha: 0.6 * alpha });
  }
  const width = line.smooth ? 1 : lineWidth;
  pen.path(xs, ys, 0, size, { color, width, dash, alpha: line.smooth ? 0.5 * alpha : alpha });
  if (line.dots || size <= 60) {
    const radius = line.dots && size > 60 ? 1.5 : 2;
    for (let i = 0; i < size; i++) {
      const alone = size <= 60 || line.dots || (ys[i - 1] !== ys[i - 1] && ys[i + 1] !== ys[i + 1]);
      if (alone && ys[i] === ys[i]) pen.dot(xs[i]!, ys[i]!, radius, color, line.smooth ? 0.5 * alpha : alpha);
    }
  } else {
    // A value between two gaps would be invisible.
    for (let i = 0; i < size; i++) {
      const before = i === 0 || ys[i - 1] !== ys[i - 1];
      const after = i === size - 1 || ys[i + 1] !== ys[i + 1];
      if (before && after && ys[i] === ys[i]) pen.dot(xs[i]!, ys[i]!, 2, color, alpha);
    }
  }
  if (line.smooth) {
    for (let i = 0; i < size; i++) ys[i] = y.toPx(line.smooth[from + i]!);
    pen.path(xs, ys, 0, size, { color, width: lineWidth + 0.5, dash, alpha });
  }
}

/** How far a bucket reaches beyond those beside it to stand out; of many lines further, or each frame of a drag would take longer. */
const OUTSTANDING_PX = 8;

/** The extents of buckets whose area nobody would see, as a path of strokes with gaps between them; none where so many stand out that they are a
 * band. */
function strokesOf(size: number, outstanding: number): { at: number[]; to: number[] } {
  const at: number[] = [];
  const to: number[] = [];
  for (let i = 0; i < size; i++) {
    if (!(lows[i]! > highs[i]!)) continue;
    const before = i > 0 ? i - 1 : i + 1;
    const after = i < size - 1 ? i + 1 : i - 1;
    const above = Math.min(highs[before]!, highs[after]!) - highs[i]!;
    const below = lows[i]! - Math.max(lows[before]!, lows[after]!);
    if (size > 2 && !(above > outstanding || below > outstanding)) continue;
    at.push(xs[i]!, xs[i]!, NaN);
    to.push(highs[i]!, lows[i]!, NaN);
  }
  return size > 2 && at.length > (3 * size) / 8 ? { at: [], to: [] } : { at, to };
}

export interface Mark {
  px: number;
  flags: number;
  color: string;
  /** Where on the x axis, of the first in this pixel. */
  x: number;
}

/** Values that are not finite, at most one mark in some pixels. */
export function marksOf(lines: readonly PlotLine[], place: Layout): Mark[] {
  const found = new Map<number, Mark>();
  for (const line of lines) {
    const [from, to] = shownOf(line, place.x.range);
    for (let k = from; k < to; k++) {
      const flags = line.flags[k]!;
      const x = line.x[k]!;
      if (!flags || x < place.x.range.min || x > place.x.range.max) continue;
      const px = place.x.toPx(x);
      if (px !== px) continue;
      const slot = Math.round(px / 4);
      const mark = found.get(slot);
      if (mark) mark.flags |= flags;
      else found.set(slot, { px, flags, color: line.style.color, x });
    }
  }
  return [...found.values()].sort((a, b) => a.px - b.px);
}

function drawMarks(pen: Pen, lines: readonly PlotLine[], place: Layout, palette: Palette): void {
  let free = -Infinity;
  for (const mark of marksOf(lines, place)) {
    pen.segment(mark.px, place.top, mark.px, place.bottom, { color: palette.bad, width: 1, alpha: 0.35 });
    if (mark.flags & PLUS_INFINITY) pen.triangle(mark.px, place.top - 6, 7, true, palette.bad);
    if (mark.flags & MINUS_INFINITY) pen.triangle(mark.px, place.bottom - 1, 7, false, palette.bad);
    if (mark.flags & NAN) pen.triangle(mark.px, place.bottom - 7, 7, true, palette.bad);
    const text = flagText(mark.flags);
    const half = (text.length * LABEL_PX) / 2;
    const at = Math.min(Math.max(mark.px, place.left + half), place.right - half);
    if (at - half < free) continue;
    pen.text(text, at, mark.flags & PLUS_INFINITY ? place.top + 8 : place.bottom - 14, palette.bad, "middle", 10);
    free = at + half + 6;
  }
}
