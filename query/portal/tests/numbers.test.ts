import { expect, test } from "vitest";
import { bytes, count, exact, plural, short, tellingDigits } from "../src/data/numbers";
import { age, ago, duration } from "../src/data/times";

test.each([
  [0, "0"], [-0, "−0"], [NaN, "NaN"], [Infinity, "+Inf"], [-Infinity, "−Inf"], [3295.7412, "3,295.7"], [0.1 + 0.2, "0.3"],
  [1234567, "1,234,567"], [1.5e12, "1.5e12"], [1e-7, "1e−7"], [-0.00012345678, "−0.00012346"], [1e9, "1e9"], [2 ** 53, "9.0072e15"],
])("short(%s)", (value, text) => expect(short(value)).toBe(text));

test("the exact text reads back as the number", () => {
  for (const value of [0.1 + 0.2, 1e-300, 5e-324, 1.7976931348623157e308, -123456.789]) {
    expect(Number(exact(value).replace("−", "-"))).toBe(value);
  }
});

test("as many digits as tell numbers apart", () => {
  expect(tellingDigits([3295.74, 3297.2])).toBe(5);
  expect(tellingDigits([3295.741, 3295.742])).toBe(7);
  expect(tellingDigits([1, 1, NaN])).toBe(5);
  const digits = tellingDigits([0.12345678, 0.12345679]);
  expect(short(0.12345678, digits)).not.toBe(short(0.12345679, digits));
});

test("counts, sizes, durations", () => {
  expect(count(12345678901234567890n)).toBe("12,345,678,901,234,567,890");
  expect(plural(1, "run")).toBe("1 run");
  expect(plural(2n, "run")).toBe("2 runs");
  expect([bytes(999), bytes(1500), bytes(2e6), bytes(999_900)]).toEqual(["999 B", "1.5 kB", "2.0 MB", "1.0 MB"]);
  expect([420, 31_000, 124_000, 3_599_600, 11_520_000, 442_800_000].map(duration)).toEqual([
    "420 ms", "31 s", "2 min 04 s", "1 h 00 min", "3 h 12 min", "5 d 3 h",
  ]);
  expect(age(0, 90_000)).toBe("1 min");
});

test("what has just begun was not now ago", () => {
  expect([age(0, 1000), ago(0, 1000), ago(0, 61_000)]).toEqual(["now", "just now", "1 min ago"]);
});
