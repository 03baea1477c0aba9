// Parallel coordinates: one axis a name, one line a run. Dragging along an axis keeps the runs in that part.

import { short } from "../data/numbers";
import type { Palette } from "./palette";
import { CanvasPen, type Pen } from "./pen";
import { padded, scale, ticks, type Scale } from "./scale";

export interface Axis {
  name: string;
  /** By run; undefined where it has none. */
  values: readonly (number | string | undefined)[];
}

export interface Lane {
  axis: Axis;
  x: number;
  /** Of numbers; texts stand at equal distances. */
  scale: Scale | null;
  texts: readonly string[];
  place(value: number | string | undefined): number;
}

export interface Brush {
  /** Pixels from the top. */
  from: number;
  to: number;
}

const TOP = 34;
const BOTTOM = 16;

/** Where each axis stands and where its values are. NaN where a run has no place. */
export function lanesOf(axes: readonly Axis[], width: number, height: number): Lane[] {
  const bottom = height - BOTTOM;
  const step = axes.length > 1 ? (width - 140) / (axes.length - 1) : 0;
  return axes.map((axis, i) => {
    const x = 60 + i * step;
    const numbers = axis.values.filter((value): value is number => typeof value === "number" && Number.isFinite(value));
    const texts = [...new Set(axis.values.filter((value) => typeof value === "string"))].sort();
    if (texts.length) {
      const all = [...new Set([...numbers.sort((a, b) => a - b).map((value) => short(value)), ...texts])];
      const place = (value: number | string | undefined): number => {
        const at = all.indexOf(typeof value === "number" ? short(value) : (value ?? "\u0000"));
        return at < 0 ? NaN : all.length === 1 ? (TOP + bottom) / 2 : bottom - (at / (all.length - 1)) * (bottom - TOP);
      };
      return { axis, x, scale: null, texts: all, place };
    }
    const low = Math.min(...numbers);
    const high = Math.max(...numbers);
    const kind = low > 0 && high / low > 300 ? "log" : "linear";
    const made = scale(kind, padded(low, high, kind, 0.02), bottom, TOP);
    const place = (value: number | string | undefined): number => (typeof value === "number" && Number.isFinite(value) ? made.toPx(value) : NaN);
    return { axis, x, scale: made, texts: [], place };
  });
}

/** Runs that are inside all brushes. */
export function brushed(lanes: readonly Lane[], brushes: ReadonlyMap<string, Brush>, runs: number): boolean[] {
  return Array.from({ length: runs }, (_, run) =>
    lanes.every((lane) => {
      const brush = brushes.get(lane.axis.name);
      if (!brush) return true;
      const y = lane.place(lane.axis.values[run]);
      return y >= brush.from && y <= brush.to;
    }),
  );
}

const cut = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const NAME_PX = 7;

export function drawParallel(
  pen: Pen, lanes: readonly Lane[], colors: readonly string[], chosen: readonly boolean[], brushes: ReadonlyMap<string, Brush>,
  height: number, palette: Palette,
): void {
  const runs = colors.length;
  const strong = runs > 60 ? 0.35 : 0.85;
  for (const inside of [false, true]) {
    for (let run = 0; run < runs; run++) {
      if (chosen[run] !== inside) continue;
      const xs = lanes.map((lane) => lane.x);
      const ys = lanes.map((lane) => lane.place(lane.axis.values[run]));
      pen.path(xs, ys, 0, xs.length, { color: colors[run]!, width: inside ? 1.5 : 1, alpha: inside ? strong : 0.08 });
    }
  }
  const apart = lanes.length > 1 ? lanes[1]!.x - lanes[0]!.x : Infinity;
  const most = Math.max(2, Math.min(22, Math.floor(apart / NAME_PX)));
  for (const lane of lanes) {
    pen.segment(lane.x, TOP, lane.x, height - BOTTOM, { color: palette.quiet, width: 1 });
    pen.text(cut(lane.axis.name, most), lane.x, 12, palette.text, "middle", 12);
    const marks = lane.scale
      ? ticks(lane.scale.kind, lane.scale.range, 5).map((tick) => ({ y: lane.scale!.toPx(tick.value), text: tick.text }))
      : lane.texts.map((text) => ({ y: lane.place(text), text: cut(text, Math.min(16, most)) }));
    for (const { y, text } of marks) {
      if (y !== y) continue;
      pen.segment(lane.x - 3, y, lane.x + 3, y, { color: palette.quiet, width: 1 });
      // Lines begin where texts stand.
      pen.rect(lane.x + 4, y - 6, 5.6 * text.length + 4, 12, palette.background, 0.85);
      pen.text(text, lane.x + 6, y, palette.quiet, "start", 10);
    }
    const brush = brushes.get(lane.axis.name);
    if (brush) pen.rect(lane.x - 7, brush.from, 14, brush.to - brush.from, palette.cursor, 0.3);
  }
}

export class ParallelPlot {
  private readonly canvas = document.createElement("canvas");
  private readonly sizes: ResizeObserver;
  private readonly ends = new AbortController();
  private readonly brushes = new Map<string, Brush>();
  private axes: readonly Axis[] = [];
  private colors: readonly string[] = [];
  private lanes: Lane[] = [];
  private drag: { lane: Lane; from: number } | null = null;

  constructor(
    private readonly host: HTMLElement,
    private palette: Palette,
    private readonly onBrush: (inside: boolean[] | null) => void,
  ) {
    host.append(this.canvas);
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(host);
    this.listen();
  }

  set(axes: readonly Axis[], colors: readonly string[], palette: Palette): void {
    this.axes = axes;
    this.colors = colors;
    this.palette = palette;
    for (const name of this.brushes.keys()) if (!axes.some((axis) => axis.name === name)) this.brushes.delete(name);
    this.draw();
  }

  clear(): void {
    this.brushes.clear();
    this.tell();
    this.draw();
  }

  destroy(): void {
    this.ends.abort();
    this.sizes.disconnect();
    this.canvas.remove();
  }

  private draw(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !height) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const c = this.canvas.getContext("2d")!;
    c.scale(ratio, ratio);
    this.lanes = lanesOf(this.axes, width, height);
    const chosen = brushed(this.lanes, this.brushes, this.colors.length);
    drawParallel(new CanvasPen(c), this.lanes, this.colors, chosen, this.brushes, height, this.palette);
  }

  private tell(): void {
    this.onBrush(this.brushes.size ? brushed(this.lanes, this.brushes, this.colors.length) : null);
  }

  private listen(): void {
    const signal = this.ends.signal;
    const at = (event: PointerEvent): [number, number] => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      const [x, y] = at(event);
      const lane = this.lanes.find((one) => Math.abs(one.x - x) < 18);
      if (!lane) return;
      this.drag = { lane, from: y };
      this.canvas.setPointerCapture(event.pointerId);
    }, { signal });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.drag) return;
      const [, y] = at(event);
      const { lane, from } = this.drag;
      this.brushes.set(lane.axis.name, { from: Math.min(from, y), to: Math.max(from, y) });
      this.tell();
      this.draw();
    }, { signal });
    this.canvas.addEventListener("pointerup", (event) => {
      if (!this.drag) return;
      const [, y] = at(event);
      if (Math.abs(y - this.drag.from) < 4) this.brushes.delete(this.drag.lane.axis.name);
      this.drag = null;
      this.tell();
      this.draw();
    }, { signal });
    this.canvas.addEventListener("pointercancel", () => (this.drag = null), { signal });
  }
}
