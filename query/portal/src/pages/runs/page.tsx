// The runs of an experiment. The whole view is in the address: filter, order, columns, what is selected.

import { useEffect, useMemo, useState } from "preact/hooks";
import { query } from "../../api/clients";
import type { Run } from "../../api/gen/query_service_pb";
import { shell } from "../../api/shell";
import { defaultColumns, FIXED, groupsFor, sortOf, sortText, titleOf, type Column, type Sort } from "../../data/columns";
import { experimentsPath } from "../../data/address";
import { count } from "../../data/numbers";
import { useAnswer } from "../answer";
import { Crumbs, Page } from "../layout";
import { Empty, Problem, Select, Text, Waiting } from "../parts";
import { params, setParams } from "../router";
import { ColumnChooser } from "./chooser";
import { BestChoice, useBest, useBestChoice } from "./best";
import { selectedIn, useCompareKey } from "./compare-key";
import { FilterField } from "./filter";
import { ALL_COLUMNS, FIRST_PAGE, requestOf, RunList, type Wish } from "./list";
import { RunsPlot } from "./plot";
import { Selected } from "./selected";
import { RunTable } from "./table";

const AGAIN_MS = 5000;

export function RunsPage({ workspace, experiment }: { workspace: string; experiment: string }) {
  const state = params.value;
  const filter = state.get("q") ?? "";
  const sort = useMemo(() => sortOf(state.get("sort") ?? ""), [state]);
  const chosen = state.get("cols");
  const archived = state.get("archived") === "1";
  const children = state.get("children") === "1";
  const group: Column | undefined = state.get("group") || undefined;
  const plot = state.get("plot") === "1";
  const selected = useMemo(() => selectedIn(state), [state]);
  const base: Wish = { workspace, experiment, filter, sort, columns: [], archived, children, group };

  // What there is to show is learnt from the first runs; after that columns stay until the reader changes them.
  const first = useAnswer(
    `${workspace}\n${experiment}\n${archived}\n${children}`,
    (signal) => query.searchRuns({ ...requestOf({ ...base, filter: "", sort: null, group: undefined }), columns: ALL_COLUMNS, pageSize: FIRST_PAGE }, { signal }),
  );
  const columns: readonly Column[] | undefined = useMemo(
    () => (chosen !== null ? split(chosen) : first.data ? defaultColumns(first.data.runs) : undefined),
    [chosen, first.data],
  );
  const list = useMemo(
    () => {
      if (!columns) return undefined;
      const made = new RunList({ ...base, columns });
      if (first.data?.runs.length && !filter && !sort && !group) made.seed(first.data.runs, Number(first.data.total));
      return made;
    },
    [workspace, experiment, filter, sortText(sort), columns?.join("\n"), archived, children, group],
  );
  const shown = useLatestWithRows(list);
  useEffect(() => {
    if (!list) return;
    void list.again();
    const timer = setInterval(() => !document.hidden && void list.again(), AGAIN_MS);
    return () => {
      clearInterval(timer);
      list.stop();
    };
  }, [list]);

  const total = shown?.total.value;
  const failure = list?.failure.value ?? first.failure;
  const all = Number(first.data?.total ?? 0n);
  const setColumns = (next: readonly Column[]): void => setParams({ cols: next.join("\n") || "-" });
  const select = (runs: readonly string[]): void => setParams({ sel: runs.join(",") });
  useCompareKey(workspace);
  const choice = useBestChoice(workspace, experiment);
  const best = useBest(base, choice.best);
  return (
    <Page title={experiment} wide fill crumbs={<Crumbs parts={[[workspace, experimentsPath(workspace)]]} here={experiment} />}>
      <div class="page-head">
        <h1><Text text={experiment} /></h1>
        <FilterField workspace={workspace} experiment={experiment} value={filter} error={list?.filterError.value} onChange={(q) => setParams({ q, sel: "" })} />
        <span class="quiet total" role="status">
          {total === undefined ? "" : filter ? `${count(total)} of ${count(all)}` : `${count(total)} ${total === 1 ? "run" : "runs"}`}
        </span>
        <Select
          label="group by" value={group ?? ""}
          options={[["", "nothing"], ...groupsFor(first.data?.runs ?? []).map((column) => [column, titleOf(column)] as const)]}
          onChange={(next) => setParams(next === "parent" ? { group: next, children: "1" } : { group: next })}
        />
        <BestChoice runs={first.data?.runs ?? []} choice={choice} />
        <ColumnChooser columns={columns ?? []} runs={first.data?.runs ?? []} onChange={setColumns} />
        <span class="row">
        <label class="check"><input type="checkbox" checked={plot} onChange={(event) => setParams({ plot: event.currentTarget.checked ? "1" : "" })} />plot</label>
        <label class="check"><input type="checkbox" checked={children} onChange={(event) => setParams({ children: event.currentTarget.checked ? "1" : "" })} />children</label>
        <label class="check"><input type="checkbox" checked={archived} onChange={(event) => setParams({ archived: event.currentTarget.checked ? "1" : "" })} />archived</label>
        </span>
      </div>
      {failure && !list?.filterError.value && <Problem failure={failure} />}
      {list?.filterError.value && !shown?.total.value && <Empty title="The filter cannot be read.">What is wrong stands below it.</Empty>}
      {shown && total !== undefined && total > 0 ? (
        <div class={plot ? "runs-split" : undefined}>
          <RunTable
            list={shown} total={total} columns={[...FIXED, ...(columns ?? [])]} sort={sort} selected={selected} best={best?.ref?.run} group={group}
            onSort={(next: Sort | null) => setParams({ sort: sortText(next) })} onSelect={select}
          />
          {plot && <aside aria-label="Lines of the runs"><RunsPlot wish={base} runs={first.data?.runs ?? []} selected={selected} /></aside>}
        </div>
      ) : total === 0 ? (
        filter || all > 0 ? (
          <Empty title="No run is like that.">Change the filter, or clear it.</Empty>
        ) : (
          <Empty title="This experiment has no run." code={`from runstream import Experiment, Workspace\n\nrun = Experiment(Workspace.from_config(), "${experiment.replaceAll('"', "")}").start_logging()\nrun.log("loss", 0.31)\nrun.complete()`} />
        )
      ) : (
        !failure && <Waiting lines={8} />
      )}
      {selected.length > 0 && (
        <Selected workspace={workspace} selected={selected} readOnly={!!shell.share} onClear={() => select([])} onChanged={(positions) => void list?.again(positions)} />
      )}
    </Page>
  );
}

function split(text: string): Column[] {
  return text === "-" ? [] : text.split("\n").filter(Boolean);
}

/** The list that was shown before stays until the new one has rows, so that nothing flickers. */
function useLatestWithRows(list: RunList | undefined): RunList | undefined {
  const [shown, setShown] = useState<RunList | undefined>(list);
  const ready = list?.total.value !== undefined;
  useEffect(() => {
    if (ready) setShown(list);
  }, [list, ready]);
  return ready ? list : shown;
}

export type { Run };
