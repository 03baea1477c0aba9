import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ArtifactSchema } from "../src/api/gen/artifact_service_pb";
import { plainText, spansOf } from "../src/data/ansi";
import { parseCsv } from "../src/data/csv";
import { figureOf } from "../src/data/figures";
import { byName, fileKind, filePath, parseUri, treeOf } from "../src/data/files";
import { LogLines, overwritten } from "../src/data/loglines";
import { axesOf, bestFrom, bestOf, bestText, differences } from "../src/data/compare";
import { RunSchema } from "../src/api/gen/query_service_pb";
import { AttributeKind } from "../src/api/gen/run_pb";
import { brushed, lanesOf } from "../src/charts/parallel";
import { frameOf, insideBox } from "../src/charts/scatter";

test("files among metrics", () => {
  expect(parseUri("aml://artifactId/ExperimentRun/dcid.run%201/images/a%20b.png")).toEqual({ run: "run 1", path: "images/a b.png" });
  for (const wrong of ["aml://artifactId/ExperimentRun/dcid.run/", "x", 1, null, "aml://artifactId/ExperimentRun/dcid.%zz/a"]) expect(parseUri(wrong)).toBeNull();
  expect(filePath("w/s", "r?", "a b/ü#.png", 2)).toBe("/w/w%2Fs/r/r%3F/files/a%20b/%C3%BC%23.png?version=2");
});

test("only kinds that carry no script are shown as what they are", () => {
  expect(fileKind("a.svg", "image/svg+xml")).toBe("text");
  expect(fileKind("a.html", "text/html")).toBe("text");
  expect(fileKind("a.png", "image/png")).toBe("image");
  expect(fileKind("a.png", "text/html")).toBe("text");
  expect(fileKind("a.pkl", "")).toBe("other");
  expect(fileKind("a.csv", "")).toBe("csv");
});

test("a tree with sizes", () => {
  const tree = treeOf([["a/b/c.txt", 3n], ["a/d.txt", 4n], ["e", 5n]].map(([path, size]) => create(ArtifactSchema, { path: path as string, size: size as bigint })));
  expect([tree.count, tree.size, tree.folders.length, tree.files.length]).toEqual([3, 12, 1, 1]);
  expect(tree.folders[0]).toMatchObject({ name: "a", count: 2, size: 7 });
});

test("files as people would put them", () => {
  const names = ["s_10.png", "s.png", "b", "s_2.png", "a.txt", "a.csv", "s_2.jpg"];
  expect(names.sort(byName)).toEqual(["a.csv", "a.txt", "b", "s.png", "s_2.jpg", "s_2.png", "s_10.png"]);
});

test("CSV", () => {
  expect(parseCsv('a,"b ""x"",\ny"\r\n1,2\n', 9)).toEqual({ rows: [["a", 'b "x",\ny'], ["1", "2"]], cut: false });
  expect(parseCsv("a\tb\n1\t2,3", 9).rows).toEqual([["a", "b"], ["1", "2,3"]]);
  expect(parseCsv("a\nb\nc", 2)).toEqual({ rows: [["a"], ["b"]], cut: true });
  expect(parseCsv("", 2).rows).toEqual([]);
});

test("figures, and what is none", () => {
  expect(figureOf({ schema_type: "confusion_matrix", data: { class_labels: ["a"], matrix: [[1, 2], [3, 4]] } })).toMatchObject({ labels: ["a", "1"] });
  const table = [[8, 4, 0, 0], [6, 1, 3, 2], [0, 0, 4, 8]];
  const accuracy = figureOf({ schema_type: "accuracy_table", data: { probability_tables: [table], class_labels: ["x"] } });
  expect(accuracy).toMatchObject({ curves: [{ label: "x", roc: { fpr: [0, 0.25, 1], tpr: [0, 0.75, 1] }, precisionRecall: { recall: [0.75, 1], precision: [6 / 7, 8 / 12] } }] });
  for (const wrong of [null, [], {}, { schema_type: "confusion_matrix", data: { matrix: [[1, 2]] } }, { schema_type: "residuals", data: { bin_edges: [1], bin_counts: [1, 2] } }]) {
    expect(figureOf(wrong)).toBeNull();
  }
});

test("colours of terminals become classes, all else of them goes", () => {
  expect(spansOf("a\u001b[1;31mred\u001b[39m bold\u001b[0m \u001b[2Kb\u001b]8;;http://x\u0007link\u001b]8;;\u0007").spans).toEqual([
    { text: "a", style: "" }, { text: "red", style: "ansi-1 ansi-31" }, { text: " bold", style: "ansi-1" }, { text: " ", style: "" },
    { text: "b", style: "" }, { text: "link", style: "" },
  ]);
  expect(spansOf("\u001b[38;5;9mx\u001b[38;2;1;2;3my").spans.map((span) => span.style)).toEqual(["ansi-91", "ansi-91"]);
  expect(spansOf("x", "ansi-31").spans[0]!.style).toBe("ansi-31");
  expect(plainText("\u001b[31mred\u001b[0m\u0000")).toBe("red");
});

test("lines of several writers, cut anywhere", () => {
  const lines = new LogLines(4);
  const bytes = new TextEncoder().encode("grüße\nzwei");
  lines.add("a", bytes.slice(0, 3), 0, 1);
  lines.add("b", new TextEncoder().encode("other\n"), 1, 2);
  lines.add("a", bytes.slice(3), 0, 3);
  lines.add("a", new TextEncoder().encode(" drei\n\n"), 0, 4);
  expect(lines.lines.map((line) => [line.text, line.rank])).toEqual([["grüße", 0], ["other", 1], ["zwei drei", 0], ["", 0]]);
  lines.add("a", new TextEncoder().encode("x\ny\n"), 0, 5);
  expect(lines.lines.map((line) => line.text)).toEqual(["zwei drei", "", "x", "y"]);
  expect(lines.dropped).toBe(2);
  expect(overwritten("10%\r50%\r100%")).toBe("100%");
  expect(overwritten("line\r")).toBe("line\r");
});

test("what differs, what can be an axis, what is best", () => {
  const runs = [0.1, 0.2].map((alpha, i) => create(RunSchema, {
    attributes: [{ kind: AttributeKind.PARAM, key: "alpha", value: String(alpha) }, { kind: AttributeKind.SYSTEM, key: "host", value: `h${i}` }, { kind: AttributeKind.TAG, key: "same", value: "x" }],
    metrics: [{ metric: "mse", last: 2 - i, count: 1n }, { metric: "nan", last: NaN, count: 1n }],
  }));
  const rows = differences(runs);
  expect(rows.map((row) => [row.kind, row.name, row.differs])).toEqual([
    ["parameter", "alpha", true], ["metric", "mse", true], ["metric", "nan", false], ["tag", "same", false], ["environment", "host", true],
  ]);
  expect(axesOf(rows).map((row) => row.name)).toEqual(["alpha", "mse"]);
  expect(bestOf([2, NaN, 1, undefined, "x"], false)).toBe(2);
  expect(bestOf([undefined, NaN], true)).toBe(-1);
  expect(bestFrom(bestText({ metric: "a b", greatest: true }))).toEqual({ metric: "a b", greatest: true });
  expect(bestFrom("nonsense")).toBeNull();
});

test("brushes keep the runs that are inside of all of them", () => {
  const lanes = lanesOf([{ name: "a", values: [0, 5, 10, undefined] }, { name: "b", values: ["x", "y", "x", "x"] }], 600, 300);
  const y = (lane: number, value: number | string): number => lanes[lane]!.place(value);
  const all = brushed(lanes, new Map(), 4);
  expect(all).toEqual([true, true, true, true]);
  const some = brushed(lanes, new Map([["a", { from: y(0, 10) - 1, to: y(0, 5) + 1 }], ["b", { from: y(1, "x") - 1, to: y(1, "x") + 1 }]]), 4);
  expect(some).toEqual([false, false, true, false]);
});

test("a rectangle keeps the points inside", () => {
  const points = { xName: "x", yName: "y", x: [0, 1, 2], y: [0, 1, NaN], colors: ["", "", ""], labels: ["", "", ""] };
  const frame = frameOf(points, 400, 300);
  expect(insideBox(points, frame, { x1: frame.x.toPx(0.5), x2: 400, y1: 0, y2: 300 })).toEqual([false, true, false]);
});
