import { expect, test } from "vitest";
import { childMetrics, childPoints, varying, type ChildValues } from "../src/data/children";

const children: ChildValues[] = [
  { parameters: { alpha: "0.4", model: "ridge", folds: "5", odd: "" }, metrics: { mse: 3295.7, "system/cpu": 1 } },
  { parameters: { alpha: "0.05", model: "lasso", folds: "5", odd: "2" }, metrics: { mse: 3332.5, r2: 0.4 } },
  { parameters: { folds: "5" }, metrics: { mse: null } },
];

test("what most children have comes first, and nothing of the machine", () => {
  expect(childMetrics(children)).toEqual(["mse", "r2"]);
});

test("what varies is a number everywhere, and not the same", () => {
  expect(varying(children)).toEqual(["alpha"]);
});

test("points go from left to right, without what has no place", () => {
  const { x, y } = childPoints(children, "mse", "alpha");
  expect([[...x], [...y]]).toEqual([[0.05, 0.4], [3332.5, 3295.7]]);
  expect([...childPoints(children, "mse", "").x]).toEqual([1, 2]);
  expect([...childPoints(children, "none", "alpha").x]).toEqual([]);
});
