import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { AttributeKind, RunStatus, WriterRole } from "../src/api/gen/run_pb";
import { ExperimentSchema, RunSchema, SeriesInfoSchema, type SeriesInfo } from "../src/api/gen/query_service_pb";
import { ValueType } from "../src/api/gen/point_pb";
import { comparePath, experimentPath, rangeOf, rangeText, routeOf, runPath } from "../src/data/address";
import { beginsGroup, cellOf, defaultColumns, groupsFor, numeric, parsed, quoted, titleOf, wantedOf } from "../src/data/columns";
import { BEST_TAG, againMs, bestOfExperiment, finiteFilter, sharedFirst } from "../src/data/compare";
import { ledgerOf, ledgerText } from "../src/data/ledger";
import { groupsOf, isDrawn, matching, panelsOf, wordOf } from "../src/data/series";
import { codePoints, offsetOf, sentence } from "../src/data/text";
import { duration } from "../src/data/times";
import { Paged, pageSize, windowOf } from "../src/data/windowed";

const EVIL = "a/b?c#d%2e\u202e<script> \"'&";

test("paths lead back to what they are made of", () => {
  expect(routeOf(runPath(EVIL, EVIL, "metrics"), "")).toEqual({ page: "run", workspace: EVIL, run: EVIL, tab: "metrics" });
  expect(routeOf(experimentPath(EVIL, EVIL), "")).toEqual({ page: "runs", workspace: EVIL, experiment: EVIL });
  const [path, query] = comparePath("w", ["a", "b", "a"]).split("?");
  expect(routeOf(path!, query!)).toEqual({ page: "compare", workspace: "w", runs: ["a", "b"] });
  for (const wrong of ["/x", "/w/a/r/b/nonsense", "/w/a/e", "/w/a/e/b/c"]) expect(routeOf(wrong, "").page).toBe("nowhere");
  expect(rangeOf(rangeText({ min: -1.5, max: 2e9 }))).toEqual({ min: -1.5, max: 2e9 });
  expect(rangeOf("5..1")).toBeNull();
  expect(rangeOf("x")).toBeNull();
});

function info(metric: string, column: string, count: number, ...types: ValueType[]): SeriesInfo {
  return create(SeriesInfoSchema, { series: { metric, column }, count: BigInt(count), types });
}

test("charts follow what was logged", () => {
  const { DOUBLE, INT64, STRING, DECLARATION } = ValueType;
  const kinds = panelsOf([
    info("line", "", 5, DOUBLE), info("tile", "", 1, INT64), info("word", "", 1, STRING), info("words", "", 3, STRING), info("mixed", "", 3, STRING, DOUBLE),
    info("xy", "x", 3, DOUBLE), info("xy", "y", 3, INT64), info("more", "a", 3, DOUBLE), info("more", "b", 3, DOUBLE), info("more", "c", 3, STRING),
    info("texts", "a", 3, STRING), info("texts", "b", 3, DOUBLE), info("one", "a", 1, DOUBLE), info("one", "b", 1, DOUBLE), info("nothing", "", 0, DECLARATION),
    info("both", "", 4, DOUBLE), info("both", "c", 4, DOUBLE),
  ]).map((panel) => [panel.metric, panel.kind]);
  expect(kinds).toEqual([
    ["line", "line"], ["tile", "tile"], ["word", "tile"], ["words", "table"], ["mixed", "table"], ["xy", "xy"], ["more", "columns"],
    ["texts", "table"], ["one", "table"], ["nothing", "empty"], ["both", "line"], ["both", "table"],
  ]);
});

test("groups and name filters", () => {
  const panels = panelsOf(["b/x", "a", "b/y", "a/z"].map((name) => info(name, "", 2, ValueType.DOUBLE)));
  expect(groupsOf(panels).map((group) => [group.prefix, group.panels.length])).toEqual([["", 1], ["a", 1], ["b", 2]]);
  expect(matching(panels, "B x").map((panel) => panel.metric)).toEqual(["b/x"]);
});

test("columns are the names of the filter language", () => {
  for (const name of ["loss", "train/loss", "a.b", "min", "with `tick\\", "ü"]) {
    expect(parsed(`metrics.${quoted(name)}.max`)).toMatchObject({ kind: "metric", name, figure: "max" });
    expect(parsed(`metrics.${quoted(name)}`)).toMatchObject({ kind: "metric", name, figure: "last" });
    expect(parsed(`params.${quoted(name)}`)).toMatchObject({ kind: "attribute", space: "params", name });
    expect(parsed(`spark.${quoted(name)}`)).toMatchObject({ kind: "spark", name });
  }
  expect(titleOf("metrics.loss.min")).toBe("loss min");
  expect(wantedOf(["status", "metrics.loss.min", "metrics.loss", "tags.`a b`", "spark.loss"])).toEqual({
    columns: ["metrics.loss", "tags.`a b`"], sparklines: ["loss"],
  });
});

test("the columns to begin with are those that tell runs apart", () => {
  const runs = [0.1, 0.2, 0.3].map((alpha, i) => create(RunSchema, {
    ref: { workspace: "w", run: String(i) },
    attributes: [
      { kind: AttributeKind.PARAM, key: "alpha", value: String(alpha) }, { kind: AttributeKind.PARAM, key: "fixed", value: "1" },
      { kind: AttributeKind.TAG, key: "model", value: i ? "ridge" : "lasso" },
    ],
    metrics: [{ metric: "mse", last: 3 + i, count: 1n }, { metric: "train/loss", last: i, count: 100n }],
  }));
  expect(defaultColumns(runs)).toEqual(["params.alpha", "metrics.mse", "metrics.`train/loss`", "tags.model", "spark.`train/loss`"]);
  expect(cellOf(runs[0]!, "params.alpha")).toBe(0.1);
  expect(cellOf(runs[0]!, "tags.model")).toBe("lasso");
  expect(cellOf(runs[0]!, "tags.none")).toBeUndefined();
  expect(numeric("1e400")).toBe("1e400");
  expect(numeric("12 ")).toBe(12);
});

test("the ledger says what is missing", () => {
  const drained = { logged: 10n, rejected: 0n, dropped: 0n, lost: 0n };
  const run = create(RunSchema, { writers: [{ drained }, { drained }] });
  expect(ledgerText(ledgerOf(run), false)).toBe("logged 20 = stored 20");
  expect(ledgerOf(run).whole).toBe(true);
  run.writers[0]!.drained!.dropped = 3n;
  expect(ledgerText(ledgerOf(run), false)).toBe("logged 20 · lost 3");
  expect(ledgerOf(run).whole).toBe(false);
  const open = create(RunSchema, { writers: [{}] });
  expect(ledgerText(ledgerOf(open), false)).toBe("1 process writing");
  // Who looks at a process from outside says goodbye long after the run has ended.
  const observed = { status: RunStatus.COMPLETED, writers: [{ started: { role: WriterRole.MAIN }, drained }, { started: { role: WriterRole.ATTACHED } }] };
  expect(ledgerText(ledgerOf(create(RunSchema, observed)), false)).toBe("logged 10 = stored 10");
  const writers = [{ started: { role: WriterRole.MAIN } }, { started: { role: WriterRole.ATTACHED } }];
  expect(ledgerText(ledgerOf(create(RunSchema, { writers })), false)).toBe("1 process writing");
});

test("only a window of a long list is drawn, and far pages are let go of", () => {
  expect(windowOf(0, 340, 34, 100_000)).toEqual({ from: 0, to: 18 });
  expect(windowOf(3_400_000 - 340, 340, 34, 100_000)).toEqual({ from: 99_982, to: 100_000 });
  const pages = new Paged<number>(400);
  for (let page = 0; page < 10; page++) pages.add(Array.from({ length: 200 }, (_, i) => page * 200 + i), `t${page}`, page < 9 ? `t${page + 1}` : "");
  expect(pages.at(1234)).toBe(1234);
  expect(pages.next).toBeNull();
  pages.trim(1900);
  expect(pages.at(1900)).toBe(1900);
  expect(pages.at(0)).toBeUndefined();
  expect(pages.pageAt(0)).toMatchObject({ token: "t0", start: 0 });
  expect([pageSize(10), pageSize(3000), pageSize(1e6)]).toEqual([200, 3000, 5000]);
});

test("characters beyond the first plane count once", () => {
  expect(codePoints("a😀b")).toBe(3);
  expect(offsetOf("a😀b", 2)).toBe(3);
});

test("the best of an experiment, and the filter that finds it", () => {
  const experiment = create(ExperimentSchema, { attributes: [{ kind: AttributeKind.SYSTEM, key: BEST_TAG, value: "max x" }, { kind: AttributeKind.TAG, key: BEST_TAG, value: "min val loss" }] });
  expect(bestOfExperiment(experiment)).toEqual({ metric: "val loss", greatest: false });
  expect(bestOfExperiment(undefined)).toBeNull();
  expect(finiteFilter("", "mse")).toBe("metrics.mse > -inf and metrics.mse < inf");
  expect(finiteFilter("a or b", "val loss")).toBe("(a or b) and metrics.`val loss` > -inf and metrics.`val loss` < inf");
});

test("groups of runs", () => {
  const run = (model?: string, parent = "") => create(RunSchema, { parent, attributes: model === undefined ? [] : [{ kind: AttributeKind.TAG, key: "model", value: model }] });
  expect(groupsFor([run("a")])).toEqual(["tags.model", "parent"]);
  const runs = [run("a"), run("a"), run("b"), run(), run()];
  expect(runs.map((one, i) => beginsGroup(runs[i - 1], one, "tags.model"))).toEqual([true, false, true, true, false]);
  expect([beginsGroup(run("a", "p"), run("a", "q"), "parent"), beginsGroup(run("a", "p"), run("b", "p"), "parent")]).toEqual([true, false]);
});

test("what is drawn among the metrics, and words for what is true or false", () => {
  const { BOOL, DOUBLE, STRING, DECLARATION } = ValueType;
  const panels = panelsOf([
    { ...info("best", "", 1, BOOL), last: 1 }, { ...info("worst", "", 1, BOOL), last: 0 }, { ...info("loss", "", 1, DOUBLE), last: 1 }, info("word", "", 1, STRING),
    info("words", "", 3, STRING), info("line", "", 3, DOUBLE), info("nothing", "", 0, DECLARATION),
  ] as SeriesInfo[]);
  expect(panels.map((panel) => [panel.metric, isDrawn(panel), wordOf(panel)])).toEqual([
    ["best", true, "true"], ["worst", true, "false"], ["loss", true, undefined], ["word", false, undefined], ["words", false, undefined], ["line", true, undefined],
    ["nothing", false, undefined],
  ]);
});

test("short times are told in milliseconds", () => {
  expect([0, 0.4, 3, 999, 999.6, 3140, 9960, 31_000, 124_000].map(duration)).toEqual([
    "0 ms", "0 ms", "3 ms", "999 ms", "1.0 s", "3.1 s", "10 s", "31 s", "2 min 04 s",
  ]);
});

test("runs that are compared are looked at soon while something of them is on its way", () => {
  const now = 1_000_000;
  const run = (status: RunStatus, endedMs: number, settling = false) => create(RunSchema, { status, settling, endedTimeNs: BigInt(endedMs) * 1_000_000n });
  const old = run(RunStatus.COMPLETED, now - 3_600_000);
  const wait = againMs([old], now);
  expect(againMs([], now)).toBe(wait);
  for (const moving of [run(RunStatus.RUNNING, 0), run(RunStatus.FAILED, now - 3_600_000, true), run(RunStatus.COMPLETED, now - 1000)]) {
    expect(againMs([old, moving], now)).toBeLessThan(wait);
  }
});

test("errors of the server are sentences", () => {
  expect(sentence("there is no run 'a'")).toBe("There is no run 'a'.");
  expect(sentence("It is so. Wait!")).toBe("It is so. Wait!");
  expect(sentence("")).toBe("");
});

test("what most runs have is compared first", () => {
  const run = (...names: string[]) => create(RunSchema, { metrics: names.map((metric) => ({ metric, count: 5n, last: 1 })) });
  expect(sharedFirst([run("z", "b"), run("z", "a"), run("z", "a")])).toEqual(["z", "a", "b"]);
  expect(sharedFirst([create(RunSchema, { metrics: [{ metric: "one", count: 1n, last: 1 }, { metric: "text", count: 9n }] })])).toEqual([]);
});
