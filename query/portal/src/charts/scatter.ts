// A scatter of runs over two names. Dragging keeps the runs in a rectangle.

import type { Palette } from "./palette";
import { CanvasPen, type Pen } from "./pen";
import { padded, scale, ticks, type Scale } from "./scale";

export interface Points {
  xName: string;
  yName: string;
  x: readonly number[];
  y: readonly number[];
  colors: readonly string[];
  labels: readonly string[];
}

export interface Box {
  x1: number;
  y1: number;
  x2: number;
  y2: number;
}

export interface Frame {
  x: Scale;
  y: Scale;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export function frameOf(points: Points, width: number, height: number): Frame {
  const range = (values: readonly number[]): { kind: "linear" | "log"; low: number; high: number } => {
    const finite = values.filter((value) => Number.isFinite(value));
    const low = Math.min(...finite);
    const high = Math.max(...finite);
    return { kind: low > 0 && high / low > 300 ? "log" : "linear", low, high };
  };
  const [x, y] = [range(points.x), range(points.y)];
  const [left, right, top, bottom] = [58, width - 14, 12, height - 38];
  return {
    x: scale(x.kind, padded(x.low, x.high, x.kind), left, right),
    y: scale(y.kind, padded(y.low, y.high, y.kind), bottom, top),
    left, right, top, bottom,
  };
}

export function insideBox(points: Points, frame: Frame, box: Box): boolean[] {
  return points.x.map((value, i) => {
    const [px, py] = [frame.x.toPx(value), frame.y.toPx(points.y[i]!)];
    return px >= box.x1 && px <= box.x2 && py >= box.y1 && py <= box.y2;
  });
}

export function drawScatter(pen: Pen, points: Points, frame: Frame, chosen: readonly boolean[] | null, palette: Palette): void {
  for (const tick of ticks(frame.y.kind, frame.y.range, 5)) {
    const y = frame.y.toPx(tick.value);
    pen.segment(frame.left, y, frame.right, y, { color: palette.grid, width: 1 });
    pen.text(tick.text, frame.left - 6, y, palette.quiet, "end");
  }
  for (const tick of ticks(frame.x.kind, frame.x.range, Math.max(2, Math.floor((frame.right - frame.left) / 90)))) {
    const x = frame.x.toPx(tick.value);
    pen.segment(x, frame.top, x, frame.bottom, { color: palette.grid, width: 1 });
    pen.text(tick.text, x, frame.bottom + 11, palette.quiet, "middle");
  }
  pen.text(points.xName, (frame.left + frame.right) / 2, frame.bottom + 28, palette.text, "middle");
  pen.text(points.yName, 10, (frame.top + frame.bottom) / 2, palette.text, "middle", 11, true);
  points.x.forEach((value, i) => {
    const [px, py] = [frame.x.toPx(value), frame.y.toPx(points.y[i]!)];
    if (px === px && py === py) pen.dot(px, py, 4, points.colors[i]!, chosen && !chosen[i] ? 0.12 : 0.8);
  });
}

export class ScatterPlot {
  private readonly canvas = document.createElement("canvas");
  private readonly tip = document.createElement("div");
  private readonly sizes: ResizeObserver;
  private readonly ends = new AbortController();
  private points: Points | null = null;
  private frame: Frame | null = null;
  private box: Box | null = null;
  private from: [number, number] | null = null;

  constructor(
    private readonly host: HTMLElement,
    private palette: Palette,
    private readonly onBrush: (inside: boolean[] | null) => void,
  ) {
    this.tip.className = "plot-tip";
    this.tip.hidden = true;
    host.append(this.canvas, this.tip);
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(host);
    this.listen();
  }

  set(points: Points, palette: Palette): void {
    this.points = points;
    this.palette = palette;
    this.draw();
  }

  destroy(): void {
    this.ends.abort();
    this.sizes.disconnect();
    this.host.replaceChildren();
  }

  private draw(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !height || !this.points) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const c = this.canvas.getContext("2d")!;
    c.scale(ratio, ratio);
    const pen = new CanvasPen(c);
    this.frame = frameOf(this.points, width, height);
    drawScatter(pen, this.points, this.frame, this.box && insideBox(this.points, this.frame, this.box), this.palette);
    if (this.box) pen.rect(this.box.x1, this.box.y1, this.box.x2 - this.box.x1, this.box.y2 - this.box.y1, this.palette.cursor, 0.12);
  }

  private listen(): void {
    const signal = this.ends.signal;
    const at = (event: PointerEvent): [number, number] => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.from = at(event);
      this.canvas.setPointerCapture(event.pointerId);
    }, { signal });
    this.canvas.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      if (this.from) {
        const [a, b] = this.from;
        this.box = { x1: Math.min(a, x), x2: Math.max(a, x), y1: Math.min(b, y), y2: Math.max(b, y) };
        this.draw();
      } else this.hover(x, y);
    }, { signal });
    this.canvas.addEventListener("pointerup", () => {
      this.from = null;
      if (this.box && this.box.x2 - this.box.x1 < 4 && this.box.y2 - this.box.y1 < 4) this.box = null;
      this.onBrush(this.box && this.points && this.frame ? insideBox(this.points, this.frame, this.box) : null);
      this.draw();
    }, { signal });
    this.canvas.addEventListener("click", (event) => {
      if (event.detail === 2) this.box = null;
    }, { signal });
    this.canvas.addEventListener("pointerleave", () => (this.tip.hidden = true), { signal });
  }

  private hover(x: number, y: number): void {
    const { points, frame } = this;
    if (!points || !frame) return;
    let best = -1;
    let far = 14;
    points.x.forEach((value, i) => {
      const away = Math.hypot(frame.x.toPx(value) - x, frame.y.toPx(points.y[i]!) - y);
      if (away < far) [best, far] = [i, away];
    });
    this.tip.hidden = best < 0;
    if (best < 0) return;
    this.tip.textContent = `${points.labels[best]}: ${points.xName} ${points.x[best]}, ${points.yName} ${points.y[best]}`;
    const left = x > this.host.clientWidth / 2;
    this.tip.style.transform = `translate(${left ? Math.max(0, x - 12 - this.tip.offsetWidth) : x + 12}px, ${Math.max(0, y - 10)}px)`;
  }
}
