// The children of a run.

import { useEffect, useMemo } from "preact/hooks";
import { query } from "../../api/clients";
import { comparePath, runPath } from "../../data/address";
import { defaultColumns, FIXED, sortOf, sortText } from "../../data/columns";
import { useAnswer } from "../answer";
import { Empty, Problem, Text, Waiting } from "../parts";
import { href, params, setParams } from "../router";
import { ALL_COLUMNS, FIRST_PAGE, requestOf, RunList, type Wish } from "../runs/list";
import { BestChoice, useBest, useBestChoice } from "../runs/best";
import { selectedIn, useCompareKey } from "../runs/compare-key";
import { RunTable } from "../runs/table";
import type { RunStore } from "./store";

const AGAIN_MS = 5000;

export function Children({ store }: { store: RunStore }) {
  const state = params.value;
  const live = store.connection.value.state !== "ended";
  const sort = useMemo(() => sortOf(state.get("sort") ?? ""), [state]);
  const selected = useMemo(() => selectedIn(state), [state]);
  const base: Wish = { workspace: store.workspace, experiment: "", filter: "", sort, columns: [], archived: true, children: true, parent: store.id };
  const first = useAnswer(`${store.id}\nchildren`, (signal) =>
    query.searchRuns({ ...requestOf({ ...base, sort: null }), columns: ALL_COLUMNS, pageSize: FIRST_PAGE }, { signal }),
    // Until there are children there is nothing to choose columns from.
    ({ runs }) => (live && !runs.length ? AGAIN_MS : 0),
  );
  const columns = useMemo(() => (first.data ? defaultColumns(first.data.runs) : undefined), [first.data]);
  const list = useMemo(() => (columns ? new RunList({ ...base, columns }) : undefined), [store, sortText(sort), columns?.join("\n")]);
  useEffect(() => {
    list?.want(0, FIRST_PAGE);
    return () => list?.stop();
  }, [list]);
  useEffect(() => {
    if (!list || !live) return;
    const timer = setInterval(() => !document.hidden && void list.again(), AGAIN_MS);
    return () => clearInterval(timer);
  }, [list, live]);
  useCompareKey(store.workspace);
  const choice = useBestChoice(store.workspace, store.run.value?.experiment ?? "");
  const best = useBest(base, choice.best);
  const failure = list?.failure.value ?? first.failure;
  if (failure) return <Problem failure={failure} again={first.again} />;
  const total = list?.total.value;
  if (!list || total === undefined) return <Waiting />;
  if (!total) return <Empty title="This run has no children." code={'with run.child_run("fold 1") as child:\n    child.log("loss", 0.3)'} />;
  const ids = Array.from({ length: Math.min(total, 100) }, (_, i) => list.at(i)?.ref?.run).filter((id) => id !== undefined);
  return (
    <div class="children">
      <p class="row">
        <a class="button" href={href(comparePath(store.workspace, selected.length ? selected : ids))}>Compare {selected.length ? "the selected" : "them"}</a>
        <BestChoice runs={first.data?.runs ?? []} choice={choice} />
        {best && <span>Best: <a href={href(runPath(store.workspace, best.ref!.run))}><Text text={best.displayName || best.ref!.run} /></a></span>}
      </p>
      <RunTable
        list={list} total={total} columns={[...FIXED, ...(columns ?? [])]} sort={sort} selected={selected} best={best?.ref?.run}
        onSort={(next) => setParams({ sort: sortText(next) })} onSelect={(runs) => setParams({ sel: runs.join(",") })}
      />
    </div>
  );
}
