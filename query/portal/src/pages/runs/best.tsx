// The best run of an experiment: by a metric and a direction that are chosen once for it, and kept as its tag.

import { useMemo, useState } from "preact/hooks";
import { query, runs as service } from "../../api/clients";
import { failureOf, type Failure } from "../../api/failure";
import type { Experiment, Run } from "../../api/gen/query_service_pb";
import { ArchiveView } from "../../api/gen/query_service_pb";
import { shell } from "../../api/shell";
import { runPath } from "../../data/address";
import { metricOf, quoted } from "../../data/columns";
import { BEST_TAG, bestFrom, bestOfExperiment, bestText, finiteFilter, type Best } from "../../data/compare";
import { useAnswer } from "../answer";
import { Num, Problem, Select, Text } from "../parts";
import { href } from "../router";
import { requestOf, type Wish } from "./list";

const AGAIN_MS = 5000;
const RARELY_MS = 60_000;
const MOST_EXPERIMENTS = 10_000;

export interface BestChoices {
  best: Best | null;
  failure: Failure | undefined;
  /** Undefined on a shared link. */
  choose: ((best: Best | null) => void) | undefined;
}

/** How the best of an experiment is told. On a shared link nothing is known of experiments. */
export function useBestChoice(workspace: string, experiment: string): BestChoices {
  const [failure, setFailure] = useState<Failure>();
  const [chosen, setChosen] = useState<Best | null>();
  const { data } = useAnswer(shell.share || !experiment ? undefined : `${workspace}\n${experiment}\nbest`, async (signal) => {
    const request = { workspace, archive: ArchiveView.ALL, pageSize: MOST_EXPERIMENTS };
    return (await query.listExperiments(request, { signal })).experiments.find((one) => one.name === experiment);
  });
  const choose = async (best: Best | null): Promise<void> => {
    setChosen(best);
    setFailure(undefined);
    try {
      const request = best ? { setTags: [{ key: BEST_TAG, value: bestText(best) }] } : { removeTags: [BEST_TAG] };
      await service.updateExperiment({ workspace, experiment, ...request });
    } catch (error) {
      setChosen(undefined);
      setFailure(failureOf(error));
    }
  };
  return { best: chosen !== undefined ? chosen : bestOfExperiment(data), failure, choose: shell.share ? undefined : (best) => void choose(best) };
}

/** The best of all runs that a table shows, on whatever page it is. */
export function useBest(wish: Wish, best: Best | null, everyMs = AGAIN_MS): Run | undefined {
  const key = best && `${bestText(best)}\n${wish.workspace}\n${wish.experiment}\n${wish.filter}\n${wish.parent}\n${wish.archived}${wish.children}`;
  const { data } = useAnswer(
    key ?? undefined,
    async (signal) => ({ key, run: await findBest(wish, best!, signal) }),
    everyMs,
  );
  return data && data.key === key ? data.run : undefined;
}

async function findBest(wish: Wish, best: Best, signal: AbortSignal): Promise<Run | undefined> {
  const field = `metrics.${quoted(best.metric)}`;
  const request = requestOf({ ...wish, group: undefined, filter: finiteFilter(wish.filter, best.metric), sort: { field, descending: best.greatest } });
  return (await query.searchRuns({ ...request, columns: [field], pageSize: 1 }, { signal })).runs[0];
}

export function BestChoice({ runs, choice: { best, choose, failure } }: { runs: readonly Run[]; choice: BestChoices }) {
  const metrics = useMemo(() => {
    const names = new Set<string>();
    for (const run of runs) for (const one of run.metrics) if (one.column === "" && one.last !== undefined && !one.metric.startsWith("system/")) names.add(one.metric);
    if (best) names.add(best.metric);
    return [...names].sort();
  }, [runs, best]);
  if (!choose || !metrics.length) return null;
  return (
    <>
      <Select
        label="best by" value={best ? bestText(best) : ""}
        options={[["", "nothing"], ...metrics.flatMap((name) => [[`min ${name}`, `least ${name}`] as const, [`max ${name}`, `greatest ${name}`] as const])]}
        onChange={(text) => choose(bestFrom(text))}
      />
      {failure && <Problem failure={failure} />}
    </>
  );
}

/** The best run of an experiment that has chosen how to tell. */
export function BestOf({ experiment }: { experiment: Experiment }) {
  const best = bestOfExperiment(experiment);
  const run = useBest(
    { workspace: experiment.workspace, experiment: experiment.name, filter: "", sort: null, columns: [], archived: false, children: false },
    best,
    RARELY_MS,
  );
  if (!best || !run) return <span class="quiet">–</span>;
  const value = metricOf(run, best.metric)?.last;
  return (
    <span class="best-of" title={`${best.greatest ? "Greatest" : "Least"} ${best.metric}`}>
      <a href={href(runPath(experiment.workspace, run.ref!.run))}><Text text={run.displayName || run.ref!.run} /></a>{" "}
      {value !== undefined && <span class="quiet"><Text text={best.metric} /> <Num value={value} /></span>}
    </span>
  );
}
