// What charts draw with. A canvas shows it, an SVG text exports it, a test may record it.

export interface Stroke {
  color: string;
  width: number;
  dash?: readonly number[];
  alpha?: number;
}

export type Anchor = "start" | "middle" | "end";

export interface Pen {
  /** A line through points `from` to `to` (exclusive); NaN in `ys` breaks it. */
  path(xs: ArrayLike<number>, ys: ArrayLike<number>, from: number, to: number, stroke: Stroke): void;
  /** The area between two lines over the same xs; NaN in either breaks it. */
  area(
    xs: ArrayLike<number>,
    low: ArrayLike<number>,
    high: ArrayLike<number>,
    from: number,
    to: number,
    fill: string,
    alpha: number,
  ): void;
  segment(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void;
  rect(x: number, y: number, width: number, height: number, fill: string, alpha?: number): void;
  dot(x: number, y: number, radius: number, fill: string, alpha?: number): void;
  triangle(x: number, y: number, size: number, up: boolean, fill: string): void;
  text(text: string, x: number, y: number, color: string, anchor: Anchor, size?: number, turned?: boolean): void;
  /** Until the returned function is called, nothing is drawn outside. */
  clip(x: number, y: number, width: number, height: number): () => void;
}

export const FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif";

export class CanvasPen implements Pen {
  constructor(private readonly c: CanvasRenderingContext2D) {}

  private stroke(stroke: Stroke, points = 2): void {
    const { c } = this;
    c.strokeStyle = stroke.color;
    c.lineWidth = stroke.width;
    c.globalAlpha = stroke.alpha ?? 1;
    // Of many points the joins can't be seen, and round ones take twice as long.
    c.lineJoin = points > 100 ? "bevel" : "round";
    c.setLineDash(stroke.dash ? [...stroke.dash] : []);
    c.stroke();
    c.globalAlpha = 1;
  }

  path(xs: ArrayLike<number>, ys: ArrayLike<number>, from: number, to: number, stroke: Stroke): void {
    const { c } = this;
    c.beginPath();
    let drawing = false;
    for (let i = from; i < to; i++) {
      const y = ys[i]!;
      if (y !== y) drawing = false;
      else if (drawing) c.lineTo(xs[i]!, y);
      else {
        c.moveTo(xs[i]!, y);
        drawing = true;
      }
    }
    this.stroke(stroke, to - from);
  }

  area(
    xs: ArrayLike<number>,
    low: ArrayLike<number>,
    high: ArrayLike<number>,
    from: number,
    to: number,
    fill: string,
    alpha: number,
  ): void {
    const { c } = this;
    c.fillStyle = fill;
    c.globalAlpha = alpha;
    for (const [begin, end] of runsOf(low, high, from, to)) {
      c.beginPath();
      for (let i = begin; i < end; i++) c.lineTo(xs[i]!, high[i]!);
      for (let i = end - 1; i >= begin; i--) c.lineTo(xs[i]!, low[i]!);
      c.fill();
    }
    c.globalAlpha = 1;
  }

  segment(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void {
    this.c.beginPath();
    this.c.moveTo(x1, y1);
    this.c.lineTo(x2, y2);
    this.stroke(stroke);
  }

  rect(x: number, y: number, width: number, height: number, fill: string, alpha = 1): void {
    this.c.globalAlpha = alpha;
    this.c.fillStyle = fill;
    this.c.fillRect(x, y, width, height);
    this.c.globalAlpha = 1;
  }

  dot(x: number, y: number, radius: number, fill: string, alpha = 1): void {
    this.c.globalAlpha = alpha;
    this.c.fillStyle = fill;
    this.c.beginPath();
    this.c.arc(x, y, radius, 0, 2 * Math.PI);
    this.c.fill();
    this.c.globalAlpha = 1;
  }

  triangle(x: number, y: number, size: number, up: boolean, fill: string): void {
    const { c } = this;
    const tip = up ? y : y + size;
    const base = up ? y + size : y;
    c.fillStyle = fill;
    c.beginPath();
    c.moveTo(x, tip);
    c.lineTo(x - size * 0.6, base);
    c.lineTo(x + size * 0.6, base);
    c.fill();
  }

  text(text: string, x: number, y: number, color: string, anchor: Anchor, size = 11, turned = false): void {
    const { c } = this;
    c.font = `${size}px ${FONT}`;
    c.fillStyle = color;
    c.textBaseline = "middle";
    c.textAlign = anchor === "middle" ? "center" : anchor;
    if (!turned) {
      c.fillText(text, x, y);
      return;
    }
    c.save();
    c.translate(x, y);
    c.rotate(-Math.PI / 2);
    c.fillText(text, 0, 0);
    c.restore();
  }

  clip(x: number, y: number, width: number, height: number): () => void {
    this.c.save();
    this.c.beginPath();
    this.c.rect(x, y, width, height);
    this.c.clip();
    return () => this.c.restore();
  }
}

/** Stretches without NaN, of at least two points. */
export function* runsOf(
  low: ArrayLike<number>,
  high: ArrayLike<number>,
  from: number,
  to: number,
): Generator<[number, number]> {
  let begin = -1;
  for (let i = from; i <= to; i++) {
    const broken = i === to || low[i]! !== low[i]! || high[i]! !== high[i]!;
    if (broken) {
      if (begin >= 0 && i - begin > 1) yield [begin, i];
      begin = -1;
    } else if (begin < 0) begin = i;
  }
}

const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escaped = (text: string): string =>
  // eslint-disable-next-line no-control-regex
  text.replace(/[&<>"]/g, (c) => escapes[c]!).replace(/[\u0000-\u0008\u000b-\u001f\ufffe\uffff]/g, "�");
const n = (value: number): string => String(Math.round(value * 100) / 100);

/** Draws into the text of an SVG image. */
export class SvgPen implements Pen {
  private readonly parts: string[] = [];
  private clips = 0;

  constructor(
    private readonly width: number,
    private readonly height: number,
    private readonly background: string,
  ) {}

  private attributes(stroke: Stroke): string {
    const dash = stroke.dash?.length ? ` stroke-dasharray="${stroke.dash.join(" ")}"` : "";
    const alpha = stroke.alpha === undefined ? "" : ` stroke-opacity="${stroke.alpha}"`;
    return `stroke="${stroke.color}" stroke-width="${stroke.width}" stroke-linejoin="round"${dash}${alpha}`;
  }

  path(xs: ArrayLike<number>, ys: ArrayLike<number>, from: number, to: number, stroke: Stroke): void {
    let d = "";
    let drawing = false;
    for (let i = from; i < to; i++) {
      const y = ys[i]!;
      if (y !== y) drawing = false;
      else {
        d += `${drawing ? "L" : "M"}${n(xs[i]!)} ${n(y)}`;
        drawing = true;
      }
    }
    if (d) this.parts.push(`<path fill="none" ${this.attributes(stroke)} d="${d}"/>`);
  }

  area(
    xs: ArrayLike<number>,
    low: ArrayLike<number>,
    high: ArrayLike<number>,
    from: number,
    to: number,
    fill: string,
    alpha: number,
  ): void {
    for (const [begin, end] of runsOf(low, high, from, to)) {
      let points = "";
      for (let i = begin; i < end; i++) points += `${n(xs[i]!)},${n(high[i]!)} `;
      for (let i = end - 1; i >= begin; i--) points += `${n(xs[i]!)},${n(low[i]!)} `;
      this.parts.push(`<polygon fill="${fill}" fill-opacity="${alpha}" points="${points.trim()}"/>`);
    }
  }

  segment(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void {
    this.parts.push(
      `<line x1="${n(x1)}" y1="${n(y1)}" x2="${n(x2)}" y2="${n(y2)}" ${this.attributes(stroke)}/>`,
    );
  }

  rect(x: number, y: number, width: number, height: number, fill: string, alpha = 1): void {
    this.parts.push(
      `<rect x="${n(x)}" y="${n(y)}" width="${n(width)}" height="${n(height)}" fill="${fill}" fill-opacity="${alpha}"/>`,
    );
  }

  dot(x: number, y: number, radius: number, fill: string, alpha = 1): void {
    this.parts.push(`<circle cx="${n(x)}" cy="${n(y)}" r="${n(radius)}" fill="${fill}" fill-opacity="${alpha}"/>`);
  }

  triangle(x: number, y: number, size: number, up: boolean, fill: string): void {
    const [tip, base] = up ? [y, y + size] : [y + size, y];
    this.parts.push(
      `<polygon fill="${fill}" points="${n(x)},${n(tip)} ${n(x - size * 0.6)},${n(base)} ${n(x + size * 0.6)},${n(base)}"/>`,
    );
  }

  text(text: string, x: number, y: number, color: string, anchor: Anchor, size = 11, turned = false): void {
    const turn = turned ? ` transform="rotate(-90 ${n(x)} ${n(y)})"` : "";
    this.parts.push(
      `<text x="${n(x)}" y="${n(y)}" fill="${color}" font-size="${size}" text-anchor="${anchor}" dominant-baseline="central"${turn}>${escaped(text)}</text>`,
    );
  }

  clip(x: number, y: number, width: number, height: number): () => void {
    const id = `clip${this.clips++}`;
    this.parts.push(
      `<clipPath id="${id}"><rect x="${n(x)}" y="${n(y)}" width="${n(width)}" height="${n(height)}"/></clipPath><g clip-path="url(#${id})">`,
    );
    return () => void this.parts.push("</g>");
  }

  toString(): string {
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${this.width}" height="${this.height}" ` +
      `viewBox="0 0 ${this.width} ${this.height}" font-family="${escaped(FONT)}">` +
      `<rect width="100%" height="100%" fill="${this.background}"/>${this.parts.join("")}</svg>`
    );
  }
}
