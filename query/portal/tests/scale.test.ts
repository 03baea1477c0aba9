import { expect, test } from "vitest";
import { padded, roundUp, scale, ticks, type ScaleKind } from "../src/charts/scale";

const LARGEST = Number.MAX_VALUE;

test("pixels and back", () => {
  for (const [kind, min, max] of [["linear", -3, 7], ["log", 0.001, 1e6], ["linear", -LARGEST, LARGEST]] as const) {
    const made = scale(kind, { min, max }, 40, 400);
    expect(made.toPx(min)).toBeCloseTo(40);
    expect(made.toPx(max)).toBeCloseTo(400);
    const middle = made.fromPx(220);
    expect(made.toPx(middle)).toBeCloseTo(220);
  }
});

test("a log scale has no place for 0 and below", () => {
  const made = scale("log", { min: 1, max: 10 }, 0, 1);
  expect(made.toPx(0)).toBeNaN();
  expect(made.toPx(-1)).toBeNaN();
});

test("ranges are finite and not empty, whatever the values", () => {
  for (const [low, high] of [[0, 0], [5, 5], [-LARGEST, LARGEST], [5e-324, 5e-324], [Infinity, -Infinity], [LARGEST, LARGEST]] as const) {
    for (const kind of ["linear", "log"] as const) {
      if (kind === "log" && low <= 0) continue;
      const range = padded(low, high, kind);
      expect(Number.isFinite(range.min) && Number.isFinite(range.max)).toBe(true);
      expect(range.max, `${low} ${high} ${kind}`).toBeGreaterThan(range.min);
    }
  }
});

test.each([
  ["linear", 0, 1, 5], ["linear", -3, 12345, 6], ["linear", 1e9, 1e9 + 1, 4], ["linear", 0, 1e-9, 4], ["linear", -LARGEST, LARGEST, 5],
  ["log", 1e-5, 1e5, 5], ["log", 2, 3, 4], ["duration", 0, 90_000, 6], ["duration", 0, 9e9, 6], ["time", 1.7e12, 1.7e12 + 5000, 5],
  ["time", 1.7e12, 1.9e12, 5],
] as const)("ticks of %s %s..%s", (kind, min, max, wanted) => {
  const found = ticks(kind as ScaleKind, { min, max }, wanted);
  expect(found.length).toBeGreaterThan(0);
  expect(found.length).toBeLessThanOrEqual(3 * wanted + 2);
  for (const { value } of found) {
    expect(value).toBeGreaterThanOrEqual(min);
    expect(value).toBeLessThanOrEqual(max);
  }
  expect(new Set(found.map((tick) => tick.text)).size, found.map((tick) => tick.text).join(" ")).toBe(found.length);
});

test("round steps", () => {
  expect([0.3, 1, 1.2, 3, 7, 0.00021].map(roundUp).map((value) => Number(value.toPrecision(6)))).toEqual([0.5, 1, 2, 5, 10, 0.0005]);
});
