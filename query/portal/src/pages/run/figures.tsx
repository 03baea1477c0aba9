// Confusion matrices and the like among the metrics of a run.

import { useMemo } from "preact/hooks";
import { artifacts } from "../../api/clients";
import { figureOf } from "../../data/figures";
import { useAnswer } from "../answer";
import { useNear } from "../chart";
import { FigureOf } from "../figure";
import type { FileMetric, FileValue } from "./file-metrics";
import type { RunStore } from "./store";

const MOST_BYTES = 4 << 20;

export function Figures({ store, metrics }: { store: RunStore; metrics: readonly FileMetric[] }) {
  const figures = useMemo(
    () => metrics.map((one) => ({ metric: one.metric, value: one.values.filter(isFigure).at(-1) })).filter((one) => one.value),
    [metrics],
  );
  if (!figures.length) return null;
  return (
    <section class="group">
      <div class="charts">{figures.map(({ metric, value }) => <One key={metric} store={store} metric={metric} value={value!} />)}</div>
    </section>
  );
}

/** A figure has the name of its metric, mostly without an ending. */
function isFigure(value: FileValue): boolean {
  return value.kind === "json" || (value.kind === "other" && value.artifact === undefined);
}

function One({ store, metric, value }: { store: RunStore; metric: string; value: FileValue }) {
  const [ref, near] = useNear<HTMLDivElement>();
  const { data } = useAnswer(near ? `${store.id}\n${value.path}\n${value.artifact?.version}` : undefined, async (signal) => {
    const page = await artifacts.getArtifactPage({ request: { run: store.ref, path: value.path }, pageBytes: MOST_BYTES }, { signal });
    try {
      return figureOf(JSON.parse(new TextDecoder().decode(page.data)));
    } catch {
      return null; // no JSON, or a part of it: it is under the files
    }
  });
  if (data === null) return null;
  return <div ref={ref} class="figure-slot">{data && <FigureOf title={metric} figure={data} />}</div>;
}
