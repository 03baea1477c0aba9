// What a run logged as rows or as texts.

import { useEffect, useMemo, useState } from "preact/hooks";
import { query } from "../../api/clients";
import { failureOf, type Failure } from "../../api/failure";
import type { MetricChunk } from "../../api/gen/query_service_pb";
import { cell as csvCell, save } from "../../charts/export";
import { runPath } from "../../data/address";
import { isNumeric, tableOf, type Table, type Value } from "../../data/elements";
import { parseUri } from "../../data/files";
import { count, exact, plural, short } from "../../data/numbers";
import { isTabled, matching, panelsOf, type Panel } from "../../data/series";
import { useNear } from "../chart";
import { Empty, Problem, Text, Waiting } from "../parts";
import { href, params, setParams } from "../router";
import type { RunStore } from "./store";

const PAGE = 100;

export function Tables({ store }: { store: RunStore }) {
  const series = store.series.value;
  const wanted = params.value.get("q") ?? "";
  const all = useMemo(
    () => panelsOf(series ?? []).filter(isTabled),
    [series],
  );
  if (!series) return null;
  if (!all.length) {
    return <Empty title="This run has logged no table." code={'run.log_table("roc", {"fpr": [0, 0.1, 1], "tpr": [0, 0.7, 1]})\nrun.log_row("epoch", loss=0.3, accuracy=0.9)\nrun.log("note", "learning rate halved")'} />;
  }
  return (
    <div class="tables">
      <div class="controls">
        <input type="search" data-filter placeholder="filter by name ( / )" aria-label="Filter by name" value={wanted} onInput={(event) => setParams({ q: event.currentTarget.value })} />
      </div>
      {matching(all, wanted).map((panel) => <TableOf key={`${panel.metric}\n${panel.columns[0]}`} panel={panel} store={store} />)}
    </div>
  );
}

function TableOf({ panel, store }: { panel: Panel; store: RunStore }) {
  const [ref, near] = useNear<HTMLElement>();
  const [pages, setPages] = useState(1);
  const [chunks, setChunks] = useState<MetricChunk[]>();
  const [more, setMore] = useState(false);
  const [failure, setFailure] = useState<Failure>();
  const size = PAGE * Math.max(1, panel.columns.length);
  useEffect(() => {
    if (!near || panel.kind === "empty") return;
    const ends = new AbortController();
    const read = async (): Promise<void> => {
      const selection = { runs: [store.ref], metrics: [panel.metric] };
      const page = await query.getMetricsPage(
        { request: { selection, barrier: { allowSettling: true } }, pageSize: size * pages },
        { signal: ends.signal },
      );
      const vector = panel.columns[0] === "";
      setChunks(page.points.filter((chunk) => (chunk.column === "") === vector));
      setMore(page.nextPageToken !== "");
    };
    read().catch((error: unknown) => !ends.signal.aborted && setFailure(failureOf(error)));
    return () => ends.abort();
  }, [near, pages, panel.elements, panel.metric]);
  const table = useMemo(() => (chunks ? tableOf(chunks) : undefined), [chunks]);
  return (
    <section class="table-section" ref={ref} data-table={panel.metric}>
      <h2>
        <Text text={panel.metric} />
        <span class="quiet">{panel.kind === "empty" ? "empty" : plural(panel.count, panel.columns[0] === "" ? "value" : "row")}</span>
        {table && panel.kind !== "empty" && (
          <button type="button" class="plain small" onClick={() => save(`${panel.metric}.csv`, new Blob([csvOfTable(table)], { type: "text/csv" }))}>
            CSV{more ? " of these" : ""}
          </button>
        )}
      </h2>
      {panel.description && <p class="quiet">{panel.description}</p>}
      {failure && <Problem failure={failure} />}
      {panel.kind === "empty" ? null : table ? <Grid table={table} label={`Rows of ${panel.metric}${panel.columns[0] === "" ? ", values" : ""}`} run={store} /> : <Waiting />}
      {more && (
        <p>
          <button type="button" onClick={() => setPages(pages * 4)}>
            More rows
          </button>{" "}
          <span class="quiet">{table ? `${count(table.rows.length)} of ${count(panel.count)}` : ""}</span>
        </p>
      )}
    </section>
  );
}

/** Addresses of files of `run` lead to them. */
export function Grid({ table, label, run }: { table: Table; label: string; run?: RunStore }) {
  const numeric = table.cells.map(isNumeric);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={label}>
      <table class="grid fit">
        <thead>
          <tr>
            <th class="number quiet">#</th>
            {table.columns.map((name, i) => <th key={name} class={numeric[i] ? "number" : ""}><Text text={name || "value"} /></th>)}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, r) => (
            <tr key={row}>
              <td class="number quiet">{row}</td>
              {table.cells.map((cells, c) => <td key={c} class={numeric[c] ? "number" : ""}><Cell value={cells[r]} run={run} /></td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Cell({ value, run }: { value: Value | undefined; run: RunStore | undefined }) {
  if (value === undefined) return null;
  if (value === null) return <span class="quiet">None</span>;
  if (typeof value === "number") return <span title={exact(value)} class={Number.isFinite(value) ? "" : "bad"}>{short(value, 8)}</span>;
  if (typeof value === "bigint") return <span title={String(value)}>{count(value)}</span>;
  if (typeof value === "boolean") return <span>{value ? "true" : "false"}</span>;
  const file = parseUri(value);
  if (file && file.run === run?.id) return <a href={`${href(runPath(run.workspace, run.id, "files"))}?file=${encodeURIComponent(file.path)}`}><Text text={file.path} class="cell-text" /></a>;
  return <Text text={value} class="cell-text" />;
}

function csvOfTable(table: Table): string {
  const lines = [table.columns.map((name) => csvCell(name || "value")).join(",")];
  table.rows.forEach((_, r) => {
    lines.push(table.cells.map((cells) => {
      const value = cells[r];
      return value === undefined || value === null ? "" : typeof value === "string" ? csvCell(value) : String(value);
    }).join(","));
  });
  return lines.join("\n") + "\n";
}
