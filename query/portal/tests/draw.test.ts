import { expect, test } from "vitest";
import { drawPlot, extentY, isBlank, layout, marksOf, type PlotLine, type View } from "../src/charts/draw";
import { csvOfLines, fileName } from "../src/charts/export";
import { lineStyle, LIGHT } from "../src/charts/palette";
import { runsOf, SvgPen } from "../src/charts/pen";
import { barsPath, sparkPath } from "../src/charts/spark";

function line(x: number[], y: number[], more: Partial<PlotLine> = {}): PlotLine {
  const values = Float64Array.from(y);
  return { label: "l", style: lineStyle(LIGHT, 0), x: Float64Array.from(x), y: values, min: values, max: values, flags: new Uint8Array(x.length), ...more };
}

const VIEW: View = { xKind: "linear", yKind: "linear", zoom: null, xLabel: "step" };

test("the y axis holds the whole band of what is shown, and no more than that", () => {
  const one = line([0, 10, 20], [1, 2, 3], { min: Float64Array.from([-50, 2, 3]), max: Float64Array.from([1, 90, 3]) });
  expect(extentY([one], { min: 0, max: 20 }, "linear").slice(0, 2)).toEqual([-50, 90]);
  expect(extentY([one], { min: 15, max: 20 }, "linear").slice(0, 2)).toEqual([3, 3]);
  const made = layout([one], VIEW, 400, 200);
  expect(made.y.range.min).toBeLessThan(-50);
  expect(made.y.range.max).toBeGreaterThan(90);
});

test("a spike inside a bucket is drawn at its height", () => {
  const x = Array.from({ length: 100 }, (_, i) => i);
  const one = line(x, x.map(() => 1), { max: Float64Array.from(x, (i) => (i === 50 ? 1000 : 1)) });
  const place = layout([one], VIEW, 400, 200);
  const svg = new SvgPen(400, 200, "#fff");
  drawPlot(svg, [one], place, LIGHT);
  const points = [...svg.toString().matchAll(/points="([^"]+)"/g)].flatMap((match) => match[1]!.split(" ").map((pair) => pair.split(",").map(Number)));
  const top = Math.min(...points.map(([, y]) => y!));
  expect(top).toBeCloseTo(place.y.toPx(1000), 1);
});

test("a bucket that stands out is a stroke, for its area is next to nothing", () => {
  const strokes = (height: number): string[] => {
    const x = Array.from({ length: 100 }, (_, i) => i);
    const one = line(x, x.map(() => 1), { min: new Float64Array(100), max: Float64Array.from(x, (i) => (i === 50 ? height : 2)) });
    const svg = new SvgPen(400, 200, "#fff");
    drawPlot(svg, [one], layout([one], VIEW, 400, 200), LIGHT);
    return [...svg.toString().matchAll(/<path[^>]*opacity="0.6"[^>]*>/g)].map((match) => match[0]);
  };
  expect(strokes(1000)).toHaveLength(1);
  expect(strokes(2.01)).toHaveLength(0);
});

test("a smoothed line that comes from before what is shown has its place", () => {
  const one = line([0, 10, 20], [1, 8, 9], { smooth: Float64Array.from([1, 2, 3]) });
  expect(extentY([one], { min: 5, max: 20 }, "linear").slice(0, 2)).toEqual([2, 9]);
  expect(extentY([{ ...one, smooth: Float64Array.from([-1, -1, NaN]) }], { min: 5, max: 20 }, "log").slice(0, 2)).toEqual([8, 9]);
});

test("lines without a value in what is shown", () => {
  expect(isBlank([line([0, 10], [1, 1]), line([5], [1])], { min: 5, max: 6 })).toBe(false);
  expect(isBlank([line([0, 10], [1, 1])], { min: 5, max: 6 })).toBe(true);
  expect(isBlank([], { min: 5, max: 6 })).toBe(false);
});

test("there is no step between two steps", () => {
  const texts = (xWhole: boolean): string[] => layout([line([0, 1, 2], [1, 2, 3])], { ...VIEW, xWhole }, 500, 200).xTicks.map((tick) => tick.text);
  expect(texts(true)).toEqual(["0", "1", "2"]);
  expect(texts(false)).toContain("0.5");
});

test("what is not finite is a mark at its step, and breaks the line", () => {
  const one = line([0, 1, 2, 3], [1, NaN, 3, 4], { flags: Uint8Array.from([0, 1, 0, 2]) });
  const place = layout([one], VIEW, 400, 200);
  expect(marksOf([one], place).map((mark) => [mark.x, mark.flags])).toEqual([[1, 1], [3, 2]]);
  const svg = new SvgPen(400, 200, "#fff");
  drawPlot(svg, [one], place, LIGHT);
  expect(svg.toString()).toContain(">NaN<");
  expect(svg.toString()).toContain(">+Inf<");
  expect(svg.toString().match(/<path[^>]*d="(M[^"]*)"/)![1]!.match(/M/g)).toHaveLength(2);
});

test("nothing at all, one point, and the largest numbers can be drawn", () => {
  for (const one of [line([], []), line([5], [5]), line([0, 1], [-Number.MAX_VALUE, Number.MAX_VALUE]), line([-(2 ** 63), 2 ** 63], [0, 1]), line([0], [NaN])]) {
    for (const view of [VIEW, { ...VIEW, yKind: "log" as const }, { ...VIEW, xKind: "log" as const }, { ...VIEW, xKind: "time" as const }]) {
      const svg = new SvgPen(300, 150, "#fff");
      drawPlot(svg, [one], layout([one], view, 300, 150), LIGHT);
      expect(svg.toString().replace(">NaN<", "")).not.toMatch(/NaN|Infinity/);
    }
  }
});

test("lines of 0 and below on a log scale are counted", () => {
  const [low, high, unplaced] = extentY([line([0, 1, 2], [-1, 0, 10])], { min: 0, max: 2 }, "log");
  expect([low, high, unplaced]).toEqual([10, 10, 2]);
});

test("y over x keeps the order logged, also where x goes back", () => {
  const one = line([0, 2, 1, 3], [0, 1, 2, 3], { dots: true });
  const place = layout([one], { ...VIEW, zoom: { min: 0.5, max: 1.5 } }, 300, 150);
  const svg = new SvgPen(300, 150, "#fff");
  drawPlot(svg, [one], place, LIGHT);
  expect(svg.toString().match(/<circle/g)).toHaveLength(4);
});

test("texts in an exported image are texts", () => {
  const svg = new SvgPen(10, 10, "#fff");
  svg.text('</svg><script>alert("1")</script>\u0000', 1, 1, "#000", "start");
  expect(svg.toString()).not.toContain("<script");
  expect(svg.toString()).not.toContain("\u0000");
});

test("stretches without gaps", () => {
  expect([...runsOf([1, NaN, 2, 3, 4], [1, 1, 2, 3, NaN], 0, 5)]).toEqual([[2, 4]]);
});

test("CSV is exact, and no formula", () => {
  const csv = csvOfLines([line([0, 1], [0.1 + 0.2, NaN], { label: "=cmd()", flags: Uint8Array.from([0, 3]) })], "step");
  expect(csv).toBe("line,step,value,min,max,not_finite\n'=cmd(),0,0.30000000000000004,0.30000000000000004,0.30000000000000004,\n'=cmd(),1,,,,nan inf\n");
  expect(fileName("a/b\\c:\u202e.svg")).toBe("a_b_c_.svg");
});

test("small lines", () => {
  expect(sparkPath([], 10, 10)).toBe("");
  expect(sparkPath([NaN], 10, 10)).toBe("");
  expect(sparkPath([1, NaN, 2], 10, 10)).toMatch(/^M.*h0.01M.*h0.01$/);
  expect(sparkPath([-Number.MAX_VALUE, Number.MAX_VALUE], 10, 10)).not.toMatch(/NaN|Infinity/);
  expect(barsPath([0, 3], 10, 10)).toMatch(/^M5.0 10/);
});
