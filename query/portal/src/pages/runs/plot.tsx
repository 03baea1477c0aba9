// Beside the table of runs: a metric's lines of the runs that are selected, else of the first that the table shows.

import { useEffect, useMemo } from "preact/hooks";
import { query } from "../../api/clients";
import type { Run } from "../../api/gen/query_service_pb";
import { MetricReads, runRef } from "../../api/reads";
import { Linked } from "../../charts/linked";
import { rangeOf, rangeText } from "../../data/address";
import { metricOf, quoted } from "../../data/columns";
import { count } from "../../data/numbers";
import { useAnswer } from "../answer";
import { MetricChart, type Source } from "../metric-chart";
import { Empty, Problem, Select, Waiting } from "../parts";
import { params, setParams } from "../router";
import { settingsOf } from "../run/metrics";
import { requestOf, type Wish } from "./list";

const SHOWN = 20;
const MOST = 100;
const AGAIN_MS = 5000;
const ALL_RANKS = { mode: "all", ranks: [] } as const;

/** Metrics that are lines in some of these runs, a loss before others. */
export function lineMetrics(runs: readonly Run[]): string[] {
  const names = new Set<string>();
  for (const run of runs) for (const one of run.metrics) if (one.column === "" && one.count > 1n && one.last !== undefined) names.add(one.metric);
  const rank = (name: string): number => (name.startsWith("system/") ? 2 : /loss/i.test(name) ? 0 : 1);
  return [...names].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

export function RunsPlot({ wish, runs, selected }: { wish: Wish; runs: readonly Run[]; selected: readonly string[] }) {
  const metrics = useMemo(() => lineMetrics(runs), [runs]);
  const state = params.value;
  const metric = state.get("pm") || metrics[0] || "";
  const picked = selected.slice(0, MOST);
  const wanted = picked.length ? { ...wish, filter: `id in (${picked.map((run) => JSON.stringify(run)).join(", ")})`, archived: true, children: true } : wish;
  const { data, failure, again } = useAnswer(
    metric ? JSON.stringify([wanted.workspace, wanted.experiment, wanted.filter, wanted.sort, wanted.group, wanted.archived, wanted.children, metric]) : undefined,
    async (signal) => ({ metric, picked, runs: (await query.searchRuns({ ...requestOf(wanted), columns: [`metrics.${quoted(metric)}`], pageSize: picked.length ? MOST : SHOWN }, { signal })).runs }),
    AGAIN_MS,
  );
  const sources = useMemo(() => (data ? sourcesOf(data.runs, data.metric, data.picked) : []), [data]);  // of what was asked, until the next answer
  const settings = useMemo(() => settingsOf(new URLSearchParams()), []);
  const zoom = useMemo(() => rangeOf(state.get("zoom") ?? ""), [state]);
  const linked = useMemo(() => new Linked(), []);
  const reads = useMemo(() => new MetricReads(), []);
  useEffect(() => () => reads.close(), [reads]);
  if (!metrics.length) return <Empty title="These runs have no metric with more than one value." />;
  return (
    <>
      <div class="row">
        <Select label="metric" value={metric} options={[...new Set([metric, ...metrics])].map((name) => [name, name] as const)} onChange={(pm) => setParams({ pm, zoom: "" })} />
        <span class="quiet">{(data?.picked ?? picked).length ? `${count(sources.length)} selected` : `the first ${count(sources.length)}`}</span>
      </div>
      {failure && <Problem failure={failure} again={again} />}
      {!data ? !failure && <Waiting /> : sources.length ? (
        <MetricChart
          key={data.metric} title={data.metric} metric={data.metric} sources={sources} reads={reads} ranks={ALL_RANKS} settings={settings}
          zoom={zoom} linked={linked} onZoom={(range) => setParams({ zoom: rangeText(range) })}
        />
      ) : (
        <p class="quiet">None of these runs has it.</p>
      )}
    </>
  );
}

/** A run that is selected has the colour of its place in the selection. */
function sourcesOf(runs: readonly Run[], metric: string, picked: readonly string[]): Source[] {
  const sources: Source[] = [];
  runs.forEach((run, i) => {
    const summary = metricOf(run, metric);
    const ref = run.ref!;
    if (!summary) return;
    const color = picked.length ? picked.indexOf(ref.run) : i;
    sources.push({ run: runRef(ref.workspace, ref.run), label: run.displayName || ref.run, color, count: Number(summary.count), hasSteps: true });
  });
  return sources.sort((a, b) => a.color - b.color);
}
