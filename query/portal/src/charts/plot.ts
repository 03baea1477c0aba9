// A chart of lines on the page: a canvas, a crosshair over it, and what the pointer and the keys do.

import { flagText, nearest } from "../data/lines";
import { exact, short } from "../data/numbers";
import { drawPlot, extentX, layout, type Layout, type PlotLine, type View } from "./draw";
import type { Palette } from "./palette";
import { CanvasPen, SvgPen } from "./pen";
import { axisText, type Range } from "./scale";

export interface PlotEvents {
  /** Another part of the x axis is wanted; null for all of it. */
  onZoom(range: Range | null): void;
  /** The pointer is at this x; null when it has left. */
  onCursor(x: number | null): void;
}

const LINES_TOLD = 12;
const REST_MS = 80;

export class LinePlot {
  private readonly base = document.createElement("canvas");
  private readonly over = document.createElement("canvas");
  private readonly tip = document.createElement("div");
  private readonly sizes: ResizeObserver;
  private readonly ends = new AbortController();
  private lines: readonly PlotLine[] = [];
  private view: View = { xKind: "linear", yKind: "linear", zoom: null, xLabel: "step" };
  private place: Layout | null = null;
  private width = 0;
  private height = 0;
  private frame = 0;
  private drag: { from: number; at: number; pan: boolean; zoom: Range } | null = null;
  private cursor: number | null = null;
  private pointerY: number | null = null;
  private telling: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly host: HTMLElement,
    private palette: Palette,
    private readonly events: PlotEvents,
  ) {
    host.classList.add("plot");
    this.tip.className = "plot-tip";
    this.tip.hidden = true;
    host.append(this.base, this.over, this.tip);
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(host);
    this.listen();
    this.resize();
  }

  /** Shows lines; nothing else on the page moves. */
  set(lines: readonly PlotLine[], view: View): void {
    this.lines = lines;
    this.view = this.telling === undefined ? view : { ...view, zoom: this.view.zoom };
    this.redraw();
  }

  setPalette(palette: Palette): void {
    this.palette = palette;
    this.redraw();
  }

  /** Shows the crosshair at an x that another chart tells. */
  setCursor(x: number | null): void {
    this.cursor = x;
    if (x === null) this.pointerY = null;
    this.drawOver();
  }

  /** The widest plot area asks for so many buckets. */
  get plotWidth(): number {
    return Math.max(64, this.width - 60);
  }

  get current(): Layout | null {
    return this.place;
  }

  destroy(): void {
    this.ends.abort();
    clearTimeout(this.telling);
    this.sizes.disconnect();
    cancelAnimationFrame(this.frame);
    this.host.replaceChildren();
  }

  toSvg(palette: Palette = this.palette): string {
    const pen = new SvgPen(this.width, this.height, palette.background);
    drawPlot(pen, this.lines, layout(this.lines, this.view, this.width, this.height), palette);
    return pen.toString();
  }

  async toPng(): Promise<Blob | null> {
    const copy = document.createElement("canvas");
    copy.width = this.width * 2;
    copy.height = this.height * 2;
    const c = copy.getContext("2d")!;
    c.scale(2, 2);
    c.fillStyle = this.palette.background;
    c.fillRect(0, 0, this.width, this.height);
    drawPlot(new CanvasPen(c), this.lines, layout(this.lines, this.view, this.width, this.height), this.palette);
    return new Promise((done) => copy.toBlob(done, "image/png"));
  }

  /** Draws now, and says how long it took, milliseconds. For benchmarks. */
  drawNow(): number {
    const begin = performance.now();
    this.draw();
    return performance.now() - begin;
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !height || (width === this.width && height === this.height)) return;
    this.width = width;
    this.height = height;
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.getContext("2d")!.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.draw();
  }

  private redraw(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private draw(): void {
    if (!this.width) return;
    const c = this.base.getContext("2d")!;
    c.clearRect(0, 0, this.width, this.height);
    if (this.empty) {
      // No axes before there are values: they would be made up.
      this.place = null;
      this.over.getContext("2d")!.clearRect(0, 0, this.width, this.height);
      this.tip.hidden = true;
      return;
    }
    this.place = layout(this.lines, this.view, this.width, this.height);
    drawPlot(new CanvasPen(c), this.lines, this.place, this.palette);
    this.drawOver();
  }

  private drawOver(): void {
    const { place } = this;
    if (!this.width || !place) return;
    const c = this.over.getContext("2d")!;
    c.clearRect(0, 0, this.width, this.height);
    const pen = new CanvasPen(c);
    if (this.drag && !this.drag.pan) {
      const [a, b] = [this.drag.from, this.drag.at].sort((p, q) => p - q) as [number, number];
      pen.rect(a, place.top, b - a, place.bottom - place.top, this.palette.cursor, 0.15);
    }
    if (this.cursor === null || this.drag?.pan) {
      this.tip.hidden = true;
      return;
    }
    const px = place.x.toPx(this.cursor);
    if (!(px >= place.left - 1 && px <= place.right + 1)) {
      this.tip.hidden = true;
      return;
    }
    pen.segment(px, place.top, px, place.bottom, { color: this.palette.cursor, width: 1, dash: [3, 3] });
    const told = this.at(this.cursor);
    for (const { line, index } of told) {
      const y = place.y.toPx((line.smooth ?? line.y)[index]!);
      if (y === y) pen.dot(place.x.toPx(line.x[index]!), y, 3, line.style.color);
    }
    this.showTip(told, px);
  }

  /** The entry of each line that is nearest to an x, those nearest to the pointer first. */
  private at(x: number): { line: PlotLine; index: number }[] {
    const place = this.place!;
    const found: { line: PlotLine; index: number; far: number }[] = [];
    for (const line of this.lines) {
      const index = nearest(line.x, x);
      if (index < 0 || Math.abs(place.x.toPx(line.x[index]!) - place.x.toPx(x)) > 40) continue;
      const y = place.y.toPx(line.y[index]!);
      found.push({ line, index, far: this.pointerY === null || y !== y ? 0 : Math.abs(y - this.pointerY) });
    }
    if (this.lines.length > 1) found.sort((a, b) => a.far - b.far);
    return found;
  }

  private showTip(told: { line: PlotLine; index: number }[], px: number): void {
    const { tip, place } = this;
    if (!place || told.length === 0) {
      tip.hidden = true;
      return;
    }
    const { line: first, index } = told[0]!;
    const head = document.createElement("div");
    head.className = "plot-tip-head";
    head.textContent = `${this.view.xLabel} ${axisText(this.view.xKind, first.x[index]!)}`;
    const rows = told.slice(0, LINES_TOLD).map(({ line, index }) => tipRow(line, index, this.lines.length > 1));
    tip.replaceChildren(head, ...rows);
    if (told.length > LINES_TOLD) {
      const more = document.createElement("div");
      more.className = "plot-tip-more";
      more.textContent = `${told.length - LINES_TOLD} more`;
      tip.append(more);
    }
    // On the side where there is more room; asking for its size would make the browser lay out the page at every move.
    const left = px > this.width / 2;
    tip.style.left = left ? "auto" : `${px + 12}px`;
    tip.style.right = left ? `${this.width - px + 12}px` : "auto";
    tip.style.top = `${place.top}px`;
    tip.style.maxWidth = `min(22rem, ${(left ? px : this.width - px) - 16}px)`;
    tip.hidden = false;
  }

  /** There is nothing to zoom into yet. */
  private get empty(): boolean {
    return this.lines.every((line) => line.x.length === 0);
  }

  private range(): Range {
    return this.place?.x.range ?? { min: 0, max: 1 };
  }

  private toX(clientX: number): number {
    return clientX - this.host.getBoundingClientRect().left;
  }

  private zoomTo(range: Range | null): void {
    const all = extentX(this.lines, this.view.xKind);
    if (range && !(range.max > range.min)) return;
    if (range && all && this.view.zoom === null && range.min <= all.min && range.max >= all.max) range = null;
    this.view = { ...this.view, zoom: range };
    this.redraw();
    // The page hears of it when the hand rests: until then only this chart moves.
    clearTimeout(this.telling);
    this.telling = setTimeout(() => {
      this.telling = undefined;
      this.events.onZoom(this.view.zoom);
    }, REST_MS);
  }

  private zoomBy(factor: number, aroundPx: number): void {
    const { place } = this;
    if (!place || this.empty) return;
    const from = place.x.fromPx(aroundPx + (place.left - aroundPx) * factor);
    const to = place.x.fromPx(aroundPx + (place.right - aroundPx) * factor);
    this.zoomTo({ min: from, max: to });
  }

  private panBy(px: number, from: Range = this.range()): void {
    const { place } = this;
    if (!place || this.empty) return;
    if (this.view.xKind === "log") {
      const factor = (from.max / from.min) ** (px / (place.right - place.left));
      this.zoomTo({ min: from.min / factor, max: from.max / factor });
      return;
    }
    const shift = ((from.max - from.min) * px) / (place.right - place.left);
    this.zoomTo({ min: from.min - shift, max: from.max - shift });
  }

  private listen(): void {
    const { host, over } = this;
    const signal = this.ends.signal;
    over.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch" || this.empty) return;
      const at = this.toX(event.clientX);
      this.drag = { from: at, at, pan: event.shiftKey, zoom: this.range() };
      over.setPointerCapture(event.pointerId);
      host.focus({ preventScroll: true });
      event.preventDefault();
    }, { signal });
    over.addEventListener("pointermove", (event) => {
      const { place } = this;
      if (!place) return;
      const at = this.toX(event.clientX);
      if (this.drag) {
        this.drag.at = Math.min(Math.max(at, place.left), place.right);
        if (this.drag.pan) {
          this.panBy(at - this.drag.from, this.drag.zoom);
          return;
        }
      }
      this.pointerY = event.clientY - host.getBoundingClientRect().top;
      const x = at >= place.left && at <= place.right ? place.x.fromPx(at) : null;
      this.cursor = x;
      this.drawOver();
      this.events.onCursor(x);
    }, { signal });
    const leave = (): void => {
      if (this.drag) return;
      this.setCursor(null);
      this.events.onCursor(null);
    };
    over.addEventListener("pointerleave", leave, { signal });
    over.addEventListener("pointercancel", () => { this.drag = null; leave(); }, { signal });
    over.addEventListener("pointerup", () => {
      const { drag, place } = this;
      this.drag = null;
      if (drag && place && !drag.pan && Math.abs(drag.at - drag.from) > 4) {
        const [a, b] = [drag.from, drag.at].sort((p, q) => p - q) as [number, number];
        this.zoomTo({ min: place.x.fromPx(a), max: place.x.fromPx(b) });
      }
      this.drawOver();
    }, { signal });
    over.addEventListener("dblclick", () => this.zoomTo(null), { signal });
    // A wheel over a chart scrolls the page, unless the chart was chosen or Ctrl is held.
    over.addEventListener("wheel", (event) => {
      if (!(event.ctrlKey || event.metaKey || document.activeElement === host)) return;
      event.preventDefault();
      this.zoomBy(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), this.toX(event.clientX));
    }, { passive: false, signal });
    host.addEventListener("keydown", (event) => {
      const width = (this.place?.right ?? 0) - (this.place?.left ?? 0);
      const middle = (this.place?.left ?? 0) + width / 2;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "ArrowLeft") this.panBy(width / 10);
      else if (event.key === "ArrowRight") this.panBy(-width / 10);
      else if (event.key === "+" || event.key === "=") this.zoomBy(0.7, middle);
      else if (event.key === "-") this.zoomBy(1 / 0.7, middle);
      else if (event.key === "0") this.zoomTo(null);
      else return;
      event.preventDefault();
      event.stopPropagation();
    }, { signal });
  }
}

function tipRow(line: PlotLine, index: number, named: boolean): HTMLElement {
  const row = document.createElement("div");
  row.className = "plot-tip-row";
  const swatch = document.createElement("i");
  swatch.style.background = line.style.color;
  const value = document.createElement("b");
  const y = line.y[index]!;
  const flags = line.flags[index]!;
  value.textContent = flags ? [flagText(flags), y === y ? short(y) : ""].filter(Boolean).join(" · ") : short(y, 7);
  value.title = exact(y);
  row.append(swatch, value);
  const [min, max] = [line.min[index]!, line.max[index]!];
  if (min !== max && min === min) {
    const band = document.createElement("span");
    band.textContent = `${short(min)} … ${short(max)}`;
    row.append(band);
  }
  if (named) {
    const label = document.createElement("em");
    label.textContent = line.label;
    row.append(label);
  }
  return row;
}
