// Experiments, the last active first.

import { useMemo } from "preact/hooks";
import { query } from "../api/clients";
import type { Experiment } from "../api/gen/query_service_pb";
import { ArchiveView } from "../api/gen/query_service_pb";
import { shell } from "../api/shell";
import { experimentPath, experimentsPath, HEALTH_PATH, modelsPath } from "../data/address";
import { bestOfExperiment } from "../data/compare";
import { count, plural } from "../data/numbers";
import { toMs } from "../data/times";
import { useAnswer } from "./answer";
import { Crumbs, Page } from "./layout";
import { Ago, Empty, Problem, Text, Waiting } from "./parts";
import { href, params, setParams } from "./router";
import { useRowKeys } from "./row-keys";
import { BestOf } from "./runs/best";
import { Bars } from "./spark";

export const ACTIVITY = { activityParts: 30, activitySpanS: BigInt(30 * 86_400) };

export function Experiments({ workspace }: { workspace: string }) {
  const archive = params.value.get("archived") === "1" ? ArchiveView.ALL : ArchiveView.UNSPECIFIED;
  const { data, failure, again } = useAnswer(
    `${workspace}\n${archive}`,
    (signal) => query.listExperiments({ workspace, archive, ...ACTIVITY }, { signal }),
    10_000,
  );
  const wanted = params.value.get("q") ?? "";
  const shown = useMemo(
    () => (data?.experiments ?? []).filter((one) => one.name.toLowerCase().includes(wanted.toLowerCase())),
    [data, wanted],
  );
  const spaces = [...new Set(data?.experiments.map((one) => one.workspace))].slice(0, 3);
  const many = spaces.length > 1;
  return (
    <Page
      title="Experiments"
      crumbs={<Crumbs parts={workspace ? [["experiments", experimentsPath()]] : []} here={workspace || "experiments"} />}
    >
      <div class="page-head">
        <h1>Experiments</h1>
        <input
          type="search" data-filter placeholder="filter by name ( / )" aria-label="Filter by name" value={wanted}
          onInput={(event) => setParams({ q: event.currentTarget.value })}
          onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
        />
        {data && <span class="quiet">{plural(shown.length, "experiment")}</span>}
        {spaces.map((name) => (
          <a key={name} class="button" href={href(modelsPath(name))}>Models{spaces.length > 1 && <Text text={` of ${name}`} />}</a>
        ))}
        {!shell.share && <a class="button" href={href(HEALTH_PATH)}>Health</a>}
        <label class="check">
          <input type="checkbox" checked={archive === ArchiveView.ALL} onChange={(event) => setParams({ archived: event.currentTarget.checked ? "1" : "" })} />
          archived
        </label>
      </div>
      {failure && <Problem failure={failure} again={again} />}
      {data ? <List experiments={shown} workspaces={many} all={data.experiments.length} /> : !failure && <Waiting />}
    </Page>
  );
}

function List({ experiments, workspaces, all }: { experiments: readonly Experiment[]; workspaces: boolean; all: number }) {
  const rows = useRowKeys(experiments.length);
  const chosen = experiments.some(bestOfExperiment);
  if (!all) {
    return (
      <Empty title="No experiment yet." code={'from runstream import Experiment, Workspace\n\nrun = Experiment(Workspace.from_config(), "first").start_logging()\nrun.log("loss", 0.31)\nrun.complete()'}>
        The first run makes one:
      </Empty>
    );
  }
  if (!experiments.length) return <Empty title="No experiment's name contains that." />;
  return (
    <div class="scroll">
      <table class="grid rows" ref={rows}>
        <thead>
          <tr>
            <th>experiment</th>
            {workspaces && <th>workspace</th>}
            <th class="number">runs</th>
            <th class="number">running</th>
            <th class="number">failed</th>
            {chosen && <th>best</th>}
            <th>last activity</th>
            <th class="wide-only">30 days</th>
          </tr>
        </thead>
        <tbody>
          {experiments.map((one) => (
            <tr key={`${one.workspace}\n${one.name}`} data-row>
              <td>
                <a href={href(experimentPath(one.workspace, one.name))} data-open>
                  <Text text={one.name} />
                </a>
                {one.archived && <span class="badge">archived</span>}
              </td>
              {workspaces && <td><a class="quiet" href={href(experimentsPath(one.workspace))}><Text text={one.workspace} /></a></td>}
              <td class="number">{count(one.runs)}</td>
              <td class="number">{one.running ? <span class="status status-Running"><i aria-hidden="true" />{count(one.running)}</span> : <span class="quiet">–</span>}</td>
              <td class="number">{one.failed ? <span class="bad">{count(one.failed)}</span> : <span class="quiet">–</span>}</td>
              {chosen && <td><BestOf experiment={one} /></td>}
              <td>{one.running ? "now" : <Ago ms={toMs(one.lastActivityNs)} />}</td>
              <td class="wide-only"><Bars values={one.activity} label={`Runs started in each of the last ${one.activity.length} days`} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
