// The charts of a run, in groups that fold, with one row of settings for all.

import { useEffect, useMemo, useState } from "preact/hooks";
import type { SeriesInfo } from "../../api/gen/query_service_pb";
import { MetricReads, runRef } from "../../api/reads";
import { Linked } from "../../charts/linked";
import type { Range } from "../../charts/scale";
import { rangeOf, rangeText, runPath } from "../../data/address";
import { ranksOf } from "../../data/ledger";
import { groupsOf, isDrawn, isSystem, matching, panelsOf, wordOf, type Panel } from "../../data/series";
import { ChartControls } from "../chart-controls";
import { MetricChart, type RankView, type Settings, type XAxis } from "../metric-chart";
import { Empty, Num, Select, Text } from "../parts";
import { href, params, setParams } from "../router";
import { RowsChart } from "../rows-chart";
import { Figures } from "./figures";
import { useFileMetrics, type FileMetric } from "./file-metrics";
import type { RunStore } from "./store";

/** `natural` is the x axis of those who have chosen none. */
export function settingsOf(query: URLSearchParams, natural: XAxis = "step"): Settings {
  const x = query.get("x");
  return {
    x: x === "step" || x === "relative" || x === "time" ? x : natural,
    logX: query.get("logx") === "1",
    logY: query.get("logy") === "1",
    smoothing: Math.min(0.99, Math.max(0, Number(query.get("smooth")) || 0)),
  };
}

export function Metrics({ store, system = false }: { store: RunStore; system?: boolean }) {
  return <MetricCharts store={store} series={store.series.value} system={system} files={useFileMetrics(store)} />;
}

/** The charts of what counts of a run, or of one of its attempts. */
export function MetricCharts({ store, series, files, system = false, attempt = 0 }: {
  store: RunStore; series: readonly SeriesInfo[] | undefined; files?: readonly FileMetric[] | undefined; system?: boolean; attempt?: number;
}) {
  const run = store.run.value!;
  const query = params.value;
  const natural = system ? "relative" : "step";  // figures of the machine have no steps
  const settings = useMemo(() => settingsOf(query, natural), [query, natural]);
  const reads = useMemo(() => new MetricReads(attempt), [store, attempt]);
  useEffect(() => () => reads.close(), [reads]);
  const linked = useMemo(() => new Linked(), [store]);
  const wanted = query.get("q") ?? "";
  const all = useMemo(
    () => panelsOf(series ?? []).filter((panel) => isSystem(panel) === system),
    [series, system],
  );
  const shown = useMemo(() => matching(all, wanted), [all, wanted]);
  const groups = useMemo(() => groupsOf(shown.filter(isDrawn)), [shown]);
  const ranks = useMemo(() => ranksOf(run), [run]);
  const rankView = rankViewOf(query.get("ranks") ?? "", ranks);
  const zoom = useMemo(() => rangeOf(query.get("zoom") ?? ""), [query]);
  const linkedZoom = query.get("linked") !== "0";
  const elsewhere = useMemo(() => new Set(files?.map((one) => one.metric)), [files]);
  if (!series) return null;
  if (!all.length) {
    return system ? (
      <Empty title="Nothing is known of the machine.">System figures are captured while a run goes on.</Empty>
    ) : (
      <Empty title={attempt ? "This attempt has logged no metric." : "This run has logged no metric yet."} code={'for step in range(100):\n    run.log("loss", loss, step=step)'} />
    );
  }
  return (
    <div class="metrics">
      <Controls settings={settings} natural={natural} ranks={ranks} wanted={wanted} linkedZoom={linkedZoom} />
      {!system && !wanted && files && <Figures store={store} metrics={files} />}
      {!shown.length && <Empty title="No metric's name contains that." />}
      {groups.map((group) => (
        <GroupOf key={group.prefix} title={group.prefix} single={groups.length === 1} size={group.panels.length}>
          {() => (
            <>
              <Tiles panels={group.panels} />
              <div class="charts">
                {group.panels.map((panel) => (
                  <PanelChart
                    key={`${panel.metric}\n${panel.columns[0] === ""}`}
                    panel={panel}
                    store={store}
                    reads={reads}
                    linked={linked}
                    settings={settings}
                    rankView={rankView}
                    zoom={linkedZoom ? zoom : undefined}
                  />
                ))}
              </div>
            </>
          )}
        </GroupOf>
      ))}
      <Texts store={store} panels={shown.filter((panel) => !isDrawn(panel) && panel.columns[0] === "" && !elsewhere.has(panel.metric))} />
    </div>
  );
}

function rankViewOf(text: string, ranks: readonly number[]): RankView {
  if (ranks.length < 2 || text === "") return { mode: "all", ranks: [] };
  if (text === "each" || text === "band") return { mode: text, ranks: ranks.slice(0, 64) };
  const rank = Number(text);
  return ranks.includes(rank) ? { mode: "one", ranks: [rank] } : { mode: "all", ranks: [] };
}

function Controls({ settings, natural, ranks, wanted, linkedZoom }: { settings: Settings; natural: XAxis; ranks: readonly number[]; wanted: string; linkedZoom: boolean }) {
  return (
    <ChartControls settings={settings} natural={natural} wanted={wanted}>
      {ranks.length > 1 && (
        <Select
          label="ranks" value={params.value.get("ranks") ?? ""}
          options={[["", "all together"], ["band", "band"], ["each", "each"], ...ranks.slice(0, 256).map((rank) => [String(rank), String(rank)] as const)]}
          onChange={(value) => setParams({ ranks: value })}
        />
      )}
      <label class="check"><input type="checkbox" checked={linkedZoom} onChange={(event) => setParams({ linked: event.currentTarget.checked ? "" : "0", zoom: "" })} />zoom together</label>
    </ChartControls>
  );
}

/** A group of charts that folds; what is folded costs nothing. */
export function GroupOf({ title, single, size, children }: { title: string; single: boolean; size: number; children: () => preact.ComponentChildren }) {
  const [open, setOpen] = useState(true);
  if (single || !title) return <section class="group">{children()}</section>;
  return (
    <section class="group">
      <h2>
        <button type="button" class="plain fold" aria-expanded={open} onClick={() => setOpen(!open)}>
          <span aria-hidden="true">{open ? "▾" : "▸"}</span> <Text text={title} /> <span class="count">{size}</span>
        </button>
      </h2>
      {open && children()}
    </section>
  );
}

function Tiles({ panels }: { panels: readonly Panel[] }) {
  const tiles = panels.filter((panel) => panel.kind === "tile");
  if (!tiles.length) return null;
  return (
    <ul class="tiles">
      {tiles.map((panel) => (
        <li key={panel.metric} class="tile">
          <Text text={panel.metric} class="quiet" />
          <b>{wordOf(panel) ?? <Num value={panel.last!} digits={6} />}</b>
        </li>
      ))}
    </ul>
  );
}

function Texts({ store, panels }: { store: RunStore; panels: readonly Panel[] }) {
  if (!panels.length) return null;
  return (
    <p class="quiet">
      Not numbers, or empty, so under <a href={href(runPath(store.workspace, store.id, "tables"))}>tables</a>: {panels.slice(0, 20).map((panel) => panel.metric).join(", ")}
      {panels.length > 20 ? " …" : ""}
    </p>
  );
}

function PanelChart({ panel, store, reads, linked, settings, rankView, zoom }: {
  panel: Panel; store: RunStore; reads: MetricReads; linked: Linked; settings: Settings; rankView: RankView;
  zoom: Range | null | undefined;
}) {
  const [own, setOwn] = useState<Range | null>(null);
  const run = useMemo(() => runRef(store.workspace, store.id), [store]);
  const sources = useMemo(
    () => [{ run, label: panel.metric, color: 0, count: panel.count, hasSteps: panel.hasSteps }],
    [run, panel.metric, panel.count, panel.hasSteps],
  );
  if (panel.kind === "line") {
    return (
      <MetricChart
        title={panel.metric} metric={panel.metric} description={panel.description} sources={sources} reads={reads}
        ranks={rankView} settings={settings} zoom={zoom === undefined ? own : zoom} linked={linked} last={panel.last}
        onZoom={(range) => (zoom === undefined ? setOwn(range) : setParams({ zoom: rangeText(range) }))}
      />
    );
  }
  if (panel.kind === "xy" || panel.kind === "columns") return <RowsChart panel={panel} run={run} reads={reads} settings={settings} />;
  return null;
}
