import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { xColumn } from "../src/data/axis";
import type { Table } from "../src/data/elements";
import { BucketAxis, BucketChunkSchema, MetricChunkSchema } from "../src/api/gen/query_service_pb";
import { ValueType } from "../src/api/gen/point_pb";
import { tableOf, valuesOf } from "../src/data/elements";
import { flagText, indexOf, lineOfBuckets, lineOfElements, nearest, NO_STEP, rankBand } from "../src/data/lines";
import { smoothed } from "../src/data/smoothing";

test("buckets keep their exact bands, and cross what ends in NaN", () => {
  const line = lineOfBuckets(create(BucketChunkSchema, {
    axis: BucketAxis.STEP, count: 3, firstX: [0n, 10n, 20n], lastX: [9n, 19n, 20n],
    min: [-1.5, 2, NaN], max: [3.25, 4, NaN], first: [0, 2, NaN], last: [1, NaN, NaN], nonFinite: [0, 1, 3],
  }));
  expect([...line.x]).toEqual([9, 19, 20]);
  expect([...line.min]).toEqual([-1.5, 2, NaN]);
  expect([...line.max]).toEqual([3.25, 4, NaN]);
  expect([...line.y]).toEqual([1, 3, NaN]);
  expect([...line.flags]).toEqual([0, 1, 3]);
  expect(line.raw).toBe(false);
});

test("elements are drawn at their steps, as they are", () => {
  const chunk = create(MetricChunkSchema, {
    count: 5, doubles: [1.5, NaN, Infinity], integers: [7n, 1n], type: [ValueType.DOUBLE, ValueType.INT64, ValueType.DOUBLE, ValueType.BOOL, ValueType.DOUBLE],
    step: [3n, 3n, 5n, -2n, 9n], loggedTimeNs: [1_000_000n, 2_000_000n, 3_000_000n, 4_000_000n, 5_500_000n],
  });
  const line = lineOfElements([chunk]);
  expect([...line.x]).toEqual([3, 3, 5, -2, 9]);
  expect([...line.y]).toEqual([1.5, 7, NaN, 1, NaN]);
  expect([...line.flags]).toEqual([0, 0, 1, 0, 2]);
  expect([...line.time]).toEqual([1, 2, 3, 4, 5.5]);
  expect(line.axis).toBe("step");
  chunk.step[1] = NO_STEP;
  expect(lineOfElements([chunk]).axis).toBe("row");
  expect([...lineOfElements([chunk]).x]).toEqual([0, 1, 2, 3, 4]);
});

test("texts among numbers are no points", () => {
  const chunk = create(MetricChunkSchema, {
    count: 3, doubles: [1, 2], integers: [0n], strings: ["x"], type: [ValueType.DOUBLE, ValueType.STRING, ValueType.DOUBLE], firstRow: 10n,
  });
  const line = lineOfElements([chunk]);
  expect([...line.x]).toEqual([10, 12]);
  expect([...line.y]).toEqual([1, 2]);
  expect(valuesOf(chunk)).toEqual([1, "x", 2]);
});

test("values keep their types", () => {
  const chunk = create(MetricChunkSchema, {
    count: 6, doubles: [-0], integers: [2n ** 53n + 1n, 0n, 1n, 1n], strings: ["<b>", "123456789012345678901234567890"],
    type: [ValueType.INT64, ValueType.BOOL, ValueType.DOUBLE, ValueType.NONE, ValueType.BIG_INTEGER, ValueType.DECLARATION],
  });
  chunk.integers = [2n ** 53n + 1n, 0n, 1n];
  expect(valuesOf(chunk)).toEqual([2n ** 53n + 1n, false, -0, null, 123456789012345678901234567890n]);
});

test("cells of one row meet, missing ones stay missing", () => {
  const a = create(MetricChunkSchema, { column: "a", count: 2, doubles: [1, 2], firstRow: 0n, rowOffset: [0, 2] });
  const b = create(MetricChunkSchema, { column: "b", count: 2, doubles: [5, 6], firstRow: 1n, rowOffset: [0, 1] });
  const table = tableOf([a, b]);
  expect(table.rows).toEqual([0, 1, 2]);
  expect(table.cells).toEqual([[1, undefined, 2], [undefined, 5, 6]]);
});

test("places", () => {
  expect(indexOf([1, 3, 3, 5], 3)).toBe(1);
  expect(nearest([1, 3, 5], 3.9)).toBe(1);
  expect(nearest([1, 3, 5], 4.1)).toBe(2);
  expect(nearest([], 1)).toBe(-1);
  expect(flagText(7)).toBe("NaN, +Inf, −Inf");
});

test("a band over ranks has the least, the greatest and the mean of those that go on", () => {
  const made = (x: number[], y: number[]) => {
    const values = Float64Array.from(y);
    return { axis: "step" as const, x: Float64Array.from(x), time: new Float64Array(0), y: values, min: values, max: values, flags: new Uint8Array(x.length), raw: true };
  };
  const band = rankBand([made([0, 1, 2], [1, 2, 3]), made([0, 2], [3, 5])]);
  expect([...band.x]).toEqual([0, 1, 2]);
  expect([...band.min]).toEqual([1, 2, 3]);
  expect([...band.max]).toEqual([3, 3, 5]);
  expect([...band.y]).toEqual([2, 2.5, 4]);
});

test("smoothing has no pull from its start and passes over gaps", () => {
  expect([...smoothed([4, 4, 4], 0.9)].map((value) => Number(value.toFixed(12)))).toEqual([4, 4, 4]);
  const out = smoothed([1, NaN, 1, 3], 0.5);
  expect(out[1]).toBeNaN();
  expect(out[2]).toBeCloseTo(1);
  expect(out[3]).toBeCloseTo((1 * 0.125 + 1 * 0.25 + 3 * 0.5) / 0.875);
  expect([...smoothed([1, 5], 0)]).toEqual([1, 5]);
});

test("x is the column that is an axis, whatever the names' order", () => {
  const table = (columns: Record<string, number[]>): Table => {
    const names = Object.keys(columns).sort();
    return { columns: names, rows: (columns[names[0]!] ?? []).map((_, i) => i), cells: names.map((name) => columns[name]!) };
  };
  const pick = (columns: Record<string, number[]>): string | undefined => xColumn(table(columns), Object.keys(columns).sort());
  expect(pick({ accuracy: [0.1, 0.5, 0.9], step: [1, 2, 3] })).toBe("step");
  expect(pick({ accuracy: [0.1, 0.5, 0.9], seen: [64, 128, 192] })).toBe("seen");
  expect(pick({ angle: [0, 0.1, 0.2], "a cosine": [1, 0.9, 0.8] })).toBe("angle");
  expect(pick({ a: [1, 1, 1], b: [3, 2, 1], c: [0.5, 0.5, 0.7] })).toBe("c");
  expect(pick({ loss: [3, 2, 1], Epoch: [1, 2, 1] })).toBe("Epoch");
  expect(pick({ b: [1, 0], a: [1, 0] })).toBe("a");
  expect(pick({})).toBeUndefined();
});
