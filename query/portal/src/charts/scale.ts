// Scales: from values to pixels and back, and the ticks of their axes.

import { clock, duration, moment } from "../data/times";
import { decimal, short } from "../data/numbers";

export type ScaleKind = "linear" | "log" | "duration" | "time";

export interface Range {
  min: number;
  max: number;
}

export interface Scale {
  kind: ScaleKind;
  range: Range;
  toPx(value: number): number;
  fromPx(px: number): number;
}

/** Maps `range` to pixels `from` to `to`. On a log scale values of 0 and below have no place: NaN. */
export function scale(kind: ScaleKind, range: Range, from: number, to: number): Scale {
  if (kind === "log") {
    const low = Math.log10(range.min);
    const width = Math.log10(range.max) - low || 1;
    return {
      kind,
      range,
      toPx: (value) => (value > 0 ? from + ((Math.log10(value) - low) / width) * (to - from) : NaN),
      fromPx: (px) => 10 ** (low + ((px - from) / (to - from)) * width),
    };
  }
  // Halved first: the width of a range may be beyond the largest number.
  const half = range.max / 2 - range.min / 2 || 0.5;
  return {
    kind,
    range,
    toPx: (value) => from + ((value / 2 - range.min / 2) / half) * (to - from),
    fromPx: (px) => range.min + ((px - from) / (to - from)) * half * 2,
  };
}

/** A range that shows `low` to `high` with room around; `kind` log needs positive ones. */
export function padded(low: number, high: number, kind: ScaleKind, part = 0.05): Range {
  if (!(low <= high)) return kind === "log" ? { min: 1, max: 10 } : { min: 0, max: 1 };
  if (kind === "log") {
    const room = Math.max((Math.log10(high) - Math.log10(low)) * part, 0.02);
    const min = 10 ** (Math.log10(low) - room);
    const max = Math.min(10 ** (Math.log10(high) + room), Number.MAX_VALUE);
    return max > min && min > 0 ? { min, max } : { min: low, max: Math.max(low * 10, Number.MIN_VALUE * 100) };
  }
  if (low === high) {
    const room = Math.abs(low) * 0.1 || 0.5;
    return { min: Math.max(low - room, -Number.MAX_VALUE), max: Math.min(high + room, Number.MAX_VALUE) };
  }
  const room = (high / 2 - low / 2) * 2 * part;
  if (!Number.isFinite(room)) return { min: -Number.MAX_VALUE, max: Number.MAX_VALUE };
  return { min: Math.max(low - room, -Number.MAX_VALUE), max: Math.min(high + room, Number.MAX_VALUE) };
}

export interface Tick {
  value: number;
  text: string;
}

/** About `wanted` ticks at round values; `whole`: at whole numbers only. */
export function ticks(kind: ScaleKind, range: Range, wanted: number, whole = false): Tick[] {
  if (kind === "log") return logTicks(range, wanted, whole);
  if (kind === "duration") return durationTicks(range, wanted);
  if (kind === "time") return timeTicks(range, wanted);
  return linearTicks(range, wanted, whole);
}

/** 1, 2 or 5 times a power of ten, at least `least`. */
export function roundUp(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  for (const factor of [1, 2, 5]) if (factor * power >= least * 0.999999) return factor * power;
  return 10 * power;
}

/** Ticks may stand a little closer than is wanted: else there are half as many where the next round number is far. */
const CLOSER = 0.8;

function linearTicks({ min, max }: Range, wanted: number, whole: boolean): Tick[] {
  const width = (max / 2 - min / 2) / Math.max(1, wanted);
  if (!(width > 0) || !Number.isFinite(width)) return [];
  const least = roundUp(width * 2 * CLOSER);
  const step = whole ? Math.max(1, least) : least;
  if (!Number.isFinite(step)) return [0].map((value) => ({ value, text: "0" }));
  const found: Tick[] = [];
  const first = Math.ceil(min / step);
  const decimals = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  for (let k = first; k * step <= max && found.length < 50; k++) {
    const value = k * step;
    found.push({ value, text: tickText(value, step, decimals) });
  }
  return found;
}

function tickText(value: number, step: number, decimals: number): string {
  const size = Math.max(Math.abs(value), step);
  if (value === 0) return "0";
  if (size >= 1e6 || step < 1e-5) {
    for (const [unit, factor] of [["G", 1e9], ["M", 1e6]] as const) {
      if (size >= factor && size < 1e12) {
        const left = Math.max(0, Math.ceil(-Math.log10(step / factor) - 1e-9));
        return `${(value / factor).toFixed(left)}${unit}`.replace("-", "−");
      }
    }
    return short(value, 1 + Math.max(0, Math.ceil(Math.log10(size / step))));
  }
  return decimal(value, decimals, decimals).replace("-", "−");
}

function logTicks({ min, max }: Range, wanted: number, whole: boolean): Tick[] {
  const low = Math.log10(min);
  const high = Math.log10(max);
  if (!(high > low)) return [];
  const decades = high - low;
  if (decades < 0.7) return linearTicks({ min, max }, wanted, whole);
  const found: Tick[] = [];
  const stride = Math.max(1, Math.ceil(decades / Math.max(1, wanted)));
  const factors = decades <= 2.2 && wanted >= 3 ? [1, 2, 5] : [1];
  for (let k = Math.floor(low); k <= high; k += stride) {
    for (const factor of factors) {
      const value = factor * 10 ** k;
      if (value >= min && value <= max) found.push({ value, text: logText(value, k, factor) });
    }
  }
  return found;
}

function logText(value: number, power: number, factor: number): string {
  if (power >= -3 && power <= 4) return short(value, 3);
  return `${factor}e${String(power).replace("-", "−")}`;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND,
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 365 * DAY,
];

function spaced({ min, max }: Range, wanted: number, offset: number): { step: number; values: number[] } {
  const least = (max - min) / Math.max(1, wanted);
  const step = STEPS.find((one) => one >= least) ?? roundUp(least);
  const values: number[] = [];
  for (let k = Math.ceil((min - offset) / step); k * step + offset <= max && values.length < 50; k++) {
    values.push(k * step + offset);
  }
  return { step, values };
}

function durationTicks(range: Range, wanted: number): Tick[] {
  const { step, values } = spaced(range, wanted, 0);
  return values.map((value) => ({ value, text: value === 0 ? "0" : durationText(value, step) }));
}

function durationText(ms: number, step: number): string {
  if (step < 1) return `${Number(ms.toFixed(3))} ms`;
  if (step < SECOND) return `${(ms / SECOND).toFixed(step < 10 ? 3 : step < 100 ? 2 : 1)} s`;
  if (ms < 2 * MINUTE && step < MINUTE) return `${Math.round(ms / SECOND)} s`;
  if (step < MINUTE) return `${Math.floor(ms / MINUTE)}:${String(Math.round((ms % MINUTE) / SECOND)).padStart(2, "0")}`;
  if (ms < 2 * HOUR && step < HOUR) return `${Math.round(ms / MINUTE)} min`;
  if (step < HOUR) return `${Math.floor(ms / HOUR)} h ${String(Math.round((ms % HOUR) / MINUTE)).padStart(2, "0")}`;
  return ms % DAY === 0 && ms >= 2 * DAY ? `${ms / DAY} d` : step >= DAY ? duration(ms) : `${Math.round(ms / HOUR)} h`;
}

function timeTicks(range: Range, wanted: number): Tick[] {
  const offset = new Date(range.min).getTimezoneOffset() * MINUTE;
  const { step, values } = spaced(range, wanted, offset);
  return values.map((value) => {
    if (step >= DAY) return { value, text: moment(value).slice(5, 10) };
    if (step >= MINUTE) return { value, text: clock(value).slice(0, 5) };
    return { value, text: step >= SECOND ? clock(value) : `${clock(value)}.${String(Math.round(value) % 1000).padStart(3, "0")}` };
  });
}

/** A value of an axis, in full. */
export function axisText(kind: ScaleKind, value: number): string {
  if (kind === "time") return moment(value);
  if (kind === "duration") return duration(value);
  return short(value, 7);
}
