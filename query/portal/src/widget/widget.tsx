// A run in a notebook: is it fine, what is it, what does it log.

import { useEffect, useMemo, useState } from "preact/hooks";
import { Linked } from "../charts/linked";
import type { Palette } from "../charts/palette";
import { plural, short } from "../data/numbers";
import { panelsOf, wordOf, type Panel } from "../data/series";
import { duration, moment } from "../data/times";
import { Cells, hasCells } from "./cells";
import { LineChart, RowsChart } from "./chart";
import { Children } from "./children";
import { Images, imagesOf } from "./images";
import { chartsOf, seriesOf, type Model, type Properties } from "./state";
import { Terminal } from "./terminal";
import type { Wishes } from "./wishes";
import { isOver, statusWords } from "./words";

const MOST_PAIRS = 50;

interface Props {
  model: Model;
  wishes: Wishes;
  palette: Palette;
}

export function Widget({ model, wishes, palette, lost }: Props & { lost: boolean }) {
  const run = model.get("run") as Properties | null;
  const live = model.get("live") === true && !lost;
  const notice = model.get("notice") as string;
  if (!run) return <p role="status" class="quiet">{notice || "Reading the run …"}</p>;
  return (
    <section aria-label={`Run ${run.name || run.run_id}`} data-status={run.status} data-live={String(live)}>
      <Head run={run} live={live} />
      {lost && <p role="status" class="problem">The kernel no longer follows the run: this is what it saw last. Run the cell again to go on.</p>}
      {notice && <p role="status" class="problem">{notice}</p>}
      {run.error && <Terminal text={run.error} label="Why it failed" tone="problem" />}
      <Facts run={run} />
      <Metrics model={model} wishes={wishes} palette={palette} url={run.portal_url} />
      <Images told={model.get("images")} wishes={wishes} />
      <Children told={model.get("children")} parent={run} palette={palette} />
      <Log text={(model.get("log") as { text?: string } | null)?.text ?? ""} />
      <Nothing model={model} run={run} />
    </section>
  );
}

function Log({ text }: { text: string }) {
  if (!text.trim()) return null;
  return (
    <details class="logged" open>
      <summary>End of the log</summary>
      <Terminal text={text} label="The end of the log" tone="log" />
    </details>
  );
}

/** Said where nothing else is. */
function Nothing({ model, run }: { model: Model; run: Properties }) {
  const some = (key: string, name: string): boolean => ((model.get(key) as Record<string, unknown[]> | null)?.[name] ?? []).length > 0;
  if ((model.get("series") as unknown[]).length || some("children", "runs") || run.error) return null;
  return <p class="quiet nothing">{isOver(run.status) ? "It has logged no metrics." : "No metrics so far."}</p>;
}

function Head({ run, live }: { run: Properties; live: boolean }) {
  return (
    <header class="head">
      <h2>
        <a href={run.portal_url} target="_blank" rel="noopener noreferrer" class="text" title={run.run_id}>{run.name || run.run_id}</a>
      </h2>
      <span class={`status status-${run.status}`}><i aria-hidden="true" />{statusWords(run.status)}</span>
      <Lasted run={run} live={live} />
      <span class="quiet text">{run.experiment}{run.run_number === null ? "" : ` #${run.run_number}`}</span>
      <a class="details" href={run.portal_url} target="_blank" rel="noopener noreferrer">Details page</a>
    </header>
  );
}

function Lasted({ run, live }: { run: Properties; live: boolean }) {
  const [now, setNow] = useState(Date.now());
  const going = live && !run.end_time_utc;
  useEffect(() => {
    if (!going) return;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [going]);
  if (!run.created_utc) return null;
  const start = Date.parse(run.created_utc);
  const end = run.end_time_utc ? Date.parse(run.end_time_utc) : now;
  return <span class="quiet" title={`Started ${moment(start)}`}>{duration(Math.max(0, end - start))}</span>;
}

function Facts({ run }: { run: Properties }) {
  const groups = [
    ["Parameters", run.parameters],
    ["Tags", run.tags],
    ["Properties", run.properties],
  ] as const;
  const filled = groups.filter(([, pairs]) => Object.keys(pairs).length);
  if (!filled.length) return null;
  return (
    <div class="facts">
      {filled.map(([title, pairs]) => (
        <details key={title} open={title !== "Properties"}>
          <summary>{title} <span class="count">{Object.keys(pairs).length}</span></summary>
          <dl>
            {Object.entries(pairs).slice(0, MOST_PAIRS).map(([name, value]) => (
              <div key={name}>
                <dt class="text" title={name}>{name}</dt>
                <dd class="text" title={value ?? ""}>{value ?? "✓"}</dd>
              </div>
            ))}
          </dl>
        </details>
      ))}
    </div>
  );
}

function Metrics({ model, wishes, palette, url }: Props & { url: string }) {
  const told = model.get("series");
  const panels = useMemo(() => panelsOf(seriesOf(told)), [told]);
  const charts = chartsOf(model);
  const linked = useMemo(() => new Linked(), [model]);
  const images = new Set(imagesOf(model.get("images")).map((one) => one.metric));
  const rest = panels.filter((panel) => panel.kind !== "empty" && !(images.has(panel.metric) && panel.columns[0] === ""));
  const wordOfTile = (panel: Panel): string | undefined =>
    panel.last === undefined ? charts.get(panel.metric)?.texts?.[0] : (wordOf(panel) ?? short(panel.last, 6));
  const tiles = rest.filter((panel) => panel.kind === "tile" && wordOfTile(panel) !== undefined);
  const drawn = rest.filter((panel) => ["line", "xy", "columns"].includes(panel.kind) && charts.has(panel.metric));
  const cells = rest.filter((panel) => panel.kind === "table" && hasCells(panel, charts.get(panel.metric)));
  const more = rest.length - tiles.length - drawn.length - cells.length;
  return (
    <>
      {tiles.length > 0 && (
        <ul class="tiles">
          {tiles.map((panel) => (
            <li key={panel.metric} class="tile">
              <span class="quiet text" title={panel.metric}>{panel.metric}</span>
              <b class="text" title={panel.last === undefined ? wordOfTile(panel) : String(panel.last)}>{wordOfTile(panel)}</b>
            </li>
          ))}
        </ul>
      )}
      {drawn.length > 0 && (
        <div class="charts">
          {drawn.map((panel) =>
            panel.kind === "line" ? (
              <LineChart key={`${panel.metric}\nline`} panel={panel} told={charts.get(panel.metric)} wishes={wishes} palette={palette} linked={linked} />
            ) : (
              <RowsChart key={`${panel.metric}\nrows`} panel={panel} told={charts.get(panel.metric)} palette={palette} />
            ),
          )}
        </div>
      )}
      {cells.length > 0 && (
        <div class="charts">
          {cells.map((panel) => <Cells key={`${panel.metric}\n${panel.columns[0]}`} panel={panel} told={charts.get(panel.metric)!} url={url} />)}
        </div>
      )}
      {more > 0 && <p class="quiet">{plural(more, "more metric")} on the <a href={url} target="_blank" rel="noopener noreferrer">details page</a>.</p>}
    </>
  );
}
