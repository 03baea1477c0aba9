// Metrics whose values are files: images, and figures as JSON.

import { useMemo } from "preact/hooks";
import { artifacts, query } from "../../api/clients";
import type { Artifact } from "../../api/gen/artifact_service_pb";
import { ValueType } from "../../api/gen/point_pb";
import { valuesOf } from "../../data/elements";
import { fileKind, parseUri, type FileKind } from "../../data/files";
import { NO_STEP } from "../../data/lines";
import { panelsOf } from "../../data/series";
import { useAnswer } from "../answer";
import type { RunStore } from "./store";

export interface FileValue {
  path: string;
  step: number | null;
  row: number;
  kind: FileKind;
  artifact: Artifact | undefined;
}

export interface FileMetric {
  metric: string;
  values: FileValue[];
}

const MOST_FILES = 10_000;
const MOST_METRICS = 500;

/** The files of the run, newest version of each. */
export async function listFiles(store: RunStore, signal: AbortSignal, prefix = ""): Promise<{ files: Artifact[]; total: number }> {
  const answer = await artifacts.listArtifacts({ run: store.ref, prefix, pageSize: MOST_FILES }, { signal });
  return { files: answer.artifacts, total: Number(answer.total) };
}

/** Undefined until they are known. Read again when a text is added to a metric. */
export function useFileMetrics(store: RunStore): FileMetric[] | undefined {
  const texts = useMemo(
    () => panelsOf(store.series.value ?? []).filter((panel) => panel.columns[0] === "" && panel.types.includes(ValueType.STRING)).slice(0, MOST_METRICS),
    [store.series.value],
  );
  const key = texts.map((panel) => `${panel.metric}\n${panel.count}`).join("\n");
  const { data } = useAnswer(store.series.value ? `${store.id}\n${key}` : undefined, async (signal) => {
    if (!texts.length) return [];
    const selection = { runs: [store.ref], metrics: texts.map((panel) => panel.metric) };
    const request = { selection, barrier: { allowSettling: true } };
    const [page, listed] = await Promise.all([
      query.getMetricsPage({ request, pageSize: 100_000 }, { signal }),
      listFiles(store, signal),
    ]);
    const files = new Map(listed.files.map((file) => [file.path, file]));
    const found = new Map<string, FileValue[]>();
    for (const chunk of page.points) {
      valuesOf(chunk).forEach((value, i) => {
        const at = parseUri(value);
        if (!at || at.run !== store.id) return;
        const artifact = files.get(at.path);
        const step = chunk.step[i];
        const list = found.get(chunk.metric) ?? [];
        found.set(chunk.metric, list);
        list.push({
          path: at.path, step: step === undefined || step === NO_STEP ? null : Number(step), row: list.length,
          kind: fileKind(at.path, artifact?.mediaType ?? ""), artifact,
        });
      });
    }
    return [...found].map(([metric, values]) => ({ metric, values }));
  });
  return data;
}
