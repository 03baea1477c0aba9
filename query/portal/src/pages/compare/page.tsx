// Runs side by side: lines over each other, what differs, parallel coordinates, a scatter, the best.

import { useEffect, useMemo, useState } from "preact/hooks";
import { query } from "../../api/clients";
import { ArchiveView, type Run } from "../../api/gen/query_service_pb";
import { MetricReads, runRef } from "../../api/reads";
import { shell } from "../../api/shell";
import { Linked } from "../../charts/linked";
import { experimentPath, experimentsPath, rangeOf, rangeText, runPath } from "../../data/address";
import { againMs, differences, sharedFirst, type Difference } from "../../data/compare";
import { count, plural } from "../../data/numbers";
import { toMs } from "../../data/times";
import { useAnswer } from "../answer";
import { Crumbs, Page } from "../layout";
import { MetricChart, type Source } from "../metric-chart";
import { Ago, Empty, Lasted, Problem, StatusBadge, Text, Waiting } from "../parts";
import { href, params, setParams } from "../router";
import { GroupOf, settingsOf } from "../run/metrics";
import { ALL_COLUMNS } from "../runs/list";
import { ShareDialog } from "../share";
import { ChartControls } from "../chart-controls";
import { Differences } from "./differences";
import { Explore } from "./explore";
import { RunSwatch } from "./swatch";

const MOST_RUNS = 500;
const MOST_LINES = 100;
const PARTS = [["charts", "Charts"], ["explore", "Explore"], ["differs", "What differs"]] as const;

export function Compare({ workspace, runs }: { workspace: string; runs: readonly string[] }) {
  const experiment = params.value.get("e") ?? "";
  const filter = experiment ? (params.value.get("f") ?? "") : `id in (${runs.map((run) => JSON.stringify(run)).join(", ")})`;
  const wanted = experiment || runs.length ? `${workspace}\n${experiment}\n${filter}` : undefined;
  const { data, failure, again } = useAnswer(
    wanted,
    (signal) =>
      query.searchRuns(
        {
          workspace, filter, experiments: experiment ? [experiment] : [], archive: ArchiveView.ALL, pageSize: MOST_RUNS,
          columns: [...ALL_COLUMNS, "system.*"], barrier: { allowSettling: true },
        },
        { signal },
      ),
    (answer) => againMs(answer.runs, Date.now()),
  );
  const found = useMemo(() => inOrder(data?.runs ?? [], runs), [data, runs]);
  const experiments = [...new Set(found.map((run) => run.experiment))];
  const crumbs: [string, string][] = workspace ? [[workspace, experimentsPath(workspace)]] : [];
  if (experiments.length === 1 && experiments[0]) crumbs.push([experiments[0], experimentPath(workspace, experiments[0])]);
  const [sharing, setSharing] = useState(false);
  return (
    <Page title="Compare" wide crumbs={<Crumbs parts={crumbs} here="compare" />}>
      <div class="page-head">
        <h1>Compare {data ? plural(found.length, "run") : ""}</h1>
        {!shell.share && found.length > 0 && found.length <= 100 && <button type="button" onClick={() => setSharing(true)}>Share</button>}
      </div>
      {sharing && <ShareDialog workspace={workspace} runs={found.map((run) => run.ref!.run)} close={() => setSharing(false)} />}
      {failure && <Problem failure={failure} again={again} />}
      {data && found.length > 0 && found.length < runs.length && <p class="wait">{plural(runs.length - found.length, "run")} of the address cannot be found.</p>}
      {wanted === undefined ? (
        <Empty title="No runs are chosen.">Select runs in the table of an experiment, then Compare.</Empty>
      ) : data ? (
        found.length ? <Compared workspace={workspace} runs={found} total={Number(data.total)} /> : <Empty title="None of these runs is known." />
      ) : (
        !failure && <Waiting />
      )}
    </Page>
  );
}

/** Runs in the order of the address, so that colours stay when a run is added. */
function inOrder(found: readonly Run[], wanted: readonly string[]): Run[] {
  const place = new Map(wanted.map((id, i) => [id, i]));
  return [...found].sort((a, b) => (place.get(a.ref!.run) ?? 0) - (place.get(b.ref!.run) ?? 0));
}

function Compared({ workspace, runs, total }: { workspace: string; runs: readonly Run[]; total: number }) {
  const query = params.value;
  const hidden = useMemo(() => new Set((query.get("hide") ?? "").split(",").filter(Boolean)), [query]);
  const [inside, setInside] = useState<ReadonlySet<string> | null>(null);
  // A run keeps its colour, whatever else is shown.
  const colors = useMemo(() => new Map(runs.map((run, i) => [run.ref!.run, i])), [runs]);
  const shown = runs.filter((run) => !hidden.has(run.ref!.run));
  const rows = useMemo(() => differences(runs), [runs]);
  const toggle = (id: string): void => {
    const next = new Set(hidden);
    if (!next.delete(id)) next.add(id);
    setParams({ hide: [...next].join(",") });
  };
  const listed = inside ? runs.filter((run) => inside.has(run.ref!.run)) : runs;
  return (
    <div class="compare">
      {total > runs.length && <p class="quiet">The first {count(runs.length)} of {count(total)}.</p>}
      <nav class="row" aria-label="Parts of the page">
        {PARTS.map(([id, name]) => <a key={id} class="button" href={`#${id}`}>{name}</a>)}
      </nav>
      <RunLegend runs={runs} colors={colors} hidden={hidden} onToggle={toggle} inside={inside} />
      <Overlays workspace={workspace} runs={shown.slice(0, MOST_LINES)} colors={colors} more={shown.length - MOST_LINES} />
      <Explore runs={runs} rows={rows} colors={colors} onInside={setInside} />
      <Differences runs={listed.filter((run) => !hidden.has(run.ref!.run))} colors={colors} rows={differencesOf(listed, hidden, rows, runs)} />
    </div>
  );
}

/** Rows for the runs that are listed: their cells only. */
function differencesOf(listed: readonly Run[], hidden: ReadonlySet<string>, rows: readonly Difference[], all: readonly Run[]): Difference[] {
  const places = all.map((run, i) => (listed.includes(run) && !hidden.has(run.ref!.run) ? i : -1)).filter((i) => i >= 0);
  return rows.map((row) => {
    const cells = places.map((i) => row.cells[i]);
    return { ...row, cells, differs: new Set(cells).size > 1 };
  });
}

function RunLegend({ runs, colors, hidden, onToggle, inside }: {
  runs: readonly Run[]; colors: ReadonlyMap<string, number>; hidden: ReadonlySet<string>; onToggle: (id: string) => void;
  /** What is chosen in a plot stands first. As many rows stay, or the plot below would move under the hand that chooses. */
  inside: ReadonlySet<string> | null;
}) {
  const [all, setAll] = useState(false);
  const kept = (run: Run): boolean => !inside || inside.has(run.ref!.run);
  const ordered = inside ? [...runs.filter(kept), ...runs.filter((run) => !kept(run))] : runs;
  const few = all ? ordered : ordered.slice(0, 12);
  return (
    <section>
      <div class="scroll">
        <table class="grid rows compare-runs">
          <thead><tr><th><span class="hidden">Shown</span></th><th>run</th><th>status</th><th>age</th><th class="number">duration</th></tr></thead>
          <tbody>
            {few.map((run) => {
              const id = run.ref!.run;
              const name = run.displayName || id;
              return (
                <tr key={id} class={hidden.has(id) || !kept(run) ? "faint" : ""}>
                  <td class="pick"><input type="checkbox" checked={!hidden.has(id)} aria-label={`Show ${name}`} onChange={() => onToggle(id)} /></td>
                  <td><RunSwatch number={colors.get(id)!} /> <a href={href(runPath(run.ref!.workspace, id))}><Text text={name} /></a></td>
                  <td><StatusBadge status={run.status} /></td>
                  <td><Ago ms={toMs(run.startedTimeNs)} /></td>
                  <td class="number"><Lasted from={toMs(run.startedTimeNs)} to={toMs(run.endedTimeNs)} /></td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      {runs.length > few.length && <button type="button" onClick={() => setAll(true)}>All {count(runs.length)}</button>}
    </section>
  );
}

function Overlays({ workspace, runs, colors, more }: { workspace: string; runs: readonly Run[]; colors: ReadonlyMap<string, number>; more: number }) {
  const state = params.value;
  const settings = useMemo(() => settingsOf(state), [state]);
  const zoom = useMemo(() => rangeOf(state.get("zoom") ?? ""), [state]);
  const reads = useMemo(() => new MetricReads(), []);
  useEffect(() => () => reads.close(), [reads]);
  const linked = useMemo(() => new Linked(), []);
  const wanted = (state.get("q") ?? "").toLowerCase();
  const metrics = useMemo(() => sharedFirst(runs).filter((name) => name.toLowerCase().includes(wanted)), [runs, wanted]);
  const groups = useMemo(() => {
    const found = new Map<string, string[]>();
    for (const name of metrics) {
      const prefix = name.includes("/") ? name.slice(0, name.indexOf("/")) : "";
      found.set(prefix, [...(found.get(prefix) ?? []), name]);
    }
    return [...found];
  }, [metrics]);
  return (
    <section id="charts">
      <h2>Charts</h2>
      <ChartControls settings={settings} wanted={state.get("q") ?? ""} />
      {more > 0 && <p class="quiet">Lines of the first {MOST_LINES} runs.</p>}
      {!metrics.length && <Empty title={wanted ? "No metric's name contains that." : "These runs have no metric with more than one value."} />}
      {groups.map(([prefix, names], i) => (
        <GroupOf key={prefix} title={prefix || (i > 0 ? "others" : "")} single={groups.length === 1} size={names.length}>
          {() => (
            <div class="charts">
              {names.map((metric) => (
                <MetricChart
                  key={metric} title={metric} metric={metric} sources={sourcesOf(workspace, runs, colors, metric)} reads={reads}
                  ranks={ALL_RANKS} settings={settings} zoom={zoom} linked={linked} quietLegend
                  onZoom={(range) => setParams({ zoom: rangeText(range) })}
                />
              ))}
            </div>
          )}
        </GroupOf>
      ))}
    </section>
  );
}

const ALL_RANKS = { mode: "all", ranks: [] } as const;

function sourcesOf(workspace: string, runs: readonly Run[], colors: ReadonlyMap<string, number>, metric: string): Source[] {
  const sources: Source[] = [];
  for (const run of runs) {
    const summary = run.metrics.find((one) => one.metric === metric && one.column === "");
    if (!summary) continue;
    const id = run.ref!.run;
    sources.push({
      run: runRef(run.ref!.workspace || workspace, id), label: run.displayName || id, color: colors.get(id)!, count: Number(summary.count), hasSteps: true,
    });
  }
  return sources;
}
