// One run: its head, and the tab that is open.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Run } from "../../api/gen/query_service_pb";
import { shell } from "../../api/shell";
import { experimentPath, experimentsPath, runPath, type RunTab } from "../../data/address";
import { ledgerOf, ledgerText } from "../../data/ledger";
import { plural } from "../../data/numbers";
import { isDrawn, isSystem, isTabled, panelsOf } from "../../data/series";
import { isFinal } from "../../data/status";
import { sentence } from "../../data/text";
import { age, clock, toMs } from "../../data/times";
import { now } from "../clock";
import { Crumbs, Page } from "../layout";
import { Empty, Lasted, Problem, StatusBadge, Text, Waiting, Words } from "../parts";
import { href } from "../router";
import { RunActions } from "./actions";
import { Attempts } from "./attempts";
import { Children } from "./children";
import { Files } from "./files";
import { Images } from "./images";
import { LedgerTab } from "./ledger";
import { Logs } from "./logs";
import { Overview } from "./overview";
import { Metrics } from "./metrics";
import { Source } from "./source";
import { RunStore } from "./store";
import { Tables } from "./tables";

export function RunPage({ workspace, run, tab }: { workspace: string; run: string; tab: RunTab }) {
  const store = useMemo(() => new RunStore(workspace, run), [workspace, run]);
  useEffect(() => {
    void store.start(true);
    return () => store.stop();
  }, [store]);
  const found = store.run.value;
  const failure = store.failure.value;
  const crumbs = (
    <Crumbs
      parts={[
        [workspace, experimentsPath(workspace)],
        ...(found?.experiment ? [[found.experiment, experimentPath(workspace, found.experiment)] as [string, string]] : []),
      ]}
      here={found?.displayName || run}
    />
  );
  return (
    <Page title={found?.displayName || run} crumbs={crumbs}>
      {found ? (
        <>
          <Head store={store} run={found} />
          <Tabs store={store} tab={tab} />
          <Tab store={store} tab={tab} />
        </>
      ) : failure && failure.kind === "not-found" ? (
        <Empty title="There is no such run." whole>
          <Words text={sentence(failure.text)} /> This page looks again by itself.{" "}
          {!shell.share && <a href={href(experimentsPath(workspace))}>All experiments of {workspace}</a>}
        </Empty>
      ) : failure && failure.kind !== "unreachable" ? (
        <Problem failure={failure} />
      ) : (
        <>
          {failure && <Problem failure={failure} />}
          <Waiting />
        </>
      )}
    </Page>
  );
}

function Head({ store, run }: { store: RunStore; run: Run }) {
  const ledger = ledgerOf(run);
  const over = isFinal(run.status);
  return (
    <section class="run-head">
      <h1>
        <Text text={run.displayName || store.id} />
      </h1>
      <StatusBadge status={run.status} />
      <span class="run-fact">
        <Lasted from={toMs(run.startedTimeNs)} to={over ? toMs(run.endedTimeNs) : 0} />
      </span>
      {run.attempts > 1 && <a class="run-fact" href={href(runPath(store.workspace, store.id, "attempts"))}>{plural(run.attempts, "attempt")}</a>}
      <a
        class={`run-fact ledger ${ledger.whole ? "good" : ledger.rejected || ledger.lost ? "bad" : "quiet"}`}
        href={href(runPath(store.workspace, store.id, "ledger"))}
        title="What was logged, and what became of it"
      >
        {ledgerText(ledger, run.settling)}
        {ledger.whole && <span aria-hidden="true"> ✓</span>}
      </a>
      <Live store={store} />
      <RunActions store={store} run={run} />
    </section>
  );
}

function Live({ store }: { store: RunStore }) {
  const connection = store.connection.value;
  if (connection.state === "lost") {
    return (
      <span class="live live-lost" role="status">
        no connection since {clock(connection.sinceMs)} ({age(connection.sinceMs, now.value)}); trying again
      </span>
    );
  }
  if (connection.state === "live") {
    return (
      <span class="live" title="This page moves by itself" role="status">
        live
      </span>
    );
  }
  return null;
}

function Tabs({ store, tab }: { store: RunStore; tab: RunTab }) {
  const panels = useMemo(() => panelsOf(store.series.value ?? []), [store.series.value]);
  const drawn = panels.filter((panel) => isDrawn(panel) && !isSystem(panel)).length;
  const tables = panels.filter(isTabled).length;
  const tabs: [RunTab, string, number?][] = [
    ["overview", "overview"],
    ["metrics", "metrics", drawn],
    ["tables", "tables", tables],
    ["images", "images"],
    ...(panels.some(isSystem) ? [["system", "system"] as [RunTab, string]] : []),
    ["logs", "logs"],
    ["files", "files"],
    ["source", "source"],
    ["children", "children"],
    ...(tab === "attempts" || store.run.value!.attempts > 1 ? [["attempts", "attempts", store.run.value!.attempts] as [RunTab, string, number]] : []),
    ["ledger", "ledger"],
  ];
  // On a narrow screen the row of tabs is longer than the screen.
  const row = useRef<HTMLElement>(null);
  useEffect(() => {
    const open = row.current?.querySelector<HTMLElement>("[aria-current]");
    if (row.current && open) row.current.scrollLeft = open.offsetLeft - row.current.offsetLeft - (row.current.clientWidth - open.offsetWidth) / 2;
  }, [tab]);
  return (
    <nav class="tabs" aria-label="Parts of the run" ref={row}>
      {tabs.map(([name, text, count]) => (
        <a key={name} href={href(runPath(store.workspace, store.id, name))} aria-current={name === tab ? "page" : undefined}>
          {text}
          {count !== undefined && count > 0 && <span class="count" title={plural(count, "item")}>{count}</span>}
        </a>
      ))}
    </nav>
  );
}

function Tab({ store, tab }: { store: RunStore; tab: RunTab }): ComponentChildren {
  switch (tab) {
    case "metrics":
      return <Metrics store={store} />;
    case "tables":
      return <Tables store={store} />;
    case "images":
      return <Images store={store} />;
    case "system":
      return <Metrics store={store} system />;
    case "logs":
      return <Logs store={store} />;
    case "files":
      return <Files store={store} />;
    case "source":
      return <Source store={store} />;
    case "children":
      return <Children store={store} />;
    case "attempts":
      return <Attempts store={store} />;
    case "ledger":
      return <LedgerTab store={store} />;
    default:
      return <Overview store={store} />;
  }
}
