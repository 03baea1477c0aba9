// Images: a row for each name, with a slider over its steps. Another run may stand beside with the same step.

import { useEffect, useMemo, useState } from "preact/hooks";
import { query } from "../../api/clients";
import { shell } from "../../api/shell";
import { enlarge } from "../../charts/enlarge";
import { filePath } from "../../data/files";
import { bytes, plural } from "../../data/numbers";
import { sentence } from "../../data/text";
import { useAnswer } from "../answer";
import { useNear } from "../chart";
import { Empty, Text, Waiting, Words } from "../parts";
import { href, params, setParams } from "../router";
import { useFileMetrics, type FileMetric, type FileValue } from "./file-metrics";
import { RunStore } from "./store";

const MOST_OTHERS = 200;

export function Images({ store }: { store: RunStore }) {
  const metrics = useFileMetrics(store);
  const other = params.value.get("with") ?? "";
  const images = useMemo(() => imagesOf(metrics), [metrics]);
  if (!images) return <Waiting />;
  if (!images.length) {
    return <Empty title="This run has logged no image." code={'run.log_image("confusion", plot=plt)\nrun.log_image("sample", path="sample.png")'} />;
  }
  const wanted = (params.value.get("q") ?? "").toLowerCase();
  return (
    <div class="images">
      <div class="controls">
        <input type="search" data-filter placeholder="filter by name ( / )" aria-label="Filter by name" value={params.value.get("q") ?? ""} onInput={(event) => setParams({ q: event.currentTarget.value })} />
        <label class="field"><span>beside run</span>
          <input placeholder="run id" list="images-beside" value={other} onChange={(event) => setParams({ with: event.currentTarget.value.trim() })} />
          <Others store={store} />
        </label>
      </div>
      {images.filter((one) => one.metric.toLowerCase().includes(wanted)).map((one) => <Row key={one.metric} metric={one} store={store} other={other} />)}
    </div>
  );
}

/** The runs of the experiment, to choose from by name. */
function Others({ store }: { store: RunStore }) {
  const experiment = store.run.value?.experiment ?? "";
  const { data } = useAnswer(shell.share || !experiment ? undefined : `${store.workspace}\n${experiment}`, async (signal) =>
    (await query.searchRuns({ workspace: store.workspace, experiments: [experiment], pageSize: MOST_OTHERS, columns: ["tags.*"], barrier: { allowSettling: true } }, { signal })).runs,
  );
  const others = (data ?? []).filter((one) => one.ref!.run !== store.id);
  return <datalist id="images-beside">{others.map((one) => <option key={one.ref!.run} value={one.ref!.run}>{one.displayName}</option>)}</datalist>;
}

function imagesOf(metrics: FileMetric[] | undefined): FileMetric[] | undefined {
  return metrics
    ?.map((one) => ({ ...one, values: one.values.filter((value) => value.kind === "image") }))
    .filter((one) => one.values.length)
    .sort((a, b) => a.metric.localeCompare(b.metric));
}

const placeOf = (value: FileValue): number => value.step ?? value.row;

function Row({ metric, store, other }: { metric: FileMetric; store: RunStore; other: string }) {
  const [ref, near] = useNear<HTMLElement>();
  const values = useMemo(() => [...metric.values].sort((a, b) => placeOf(a) - placeOf(b)), [metric]);
  // The last one is followed while the run goes on, until the reader has moved.
  const [at, setAt] = useState<number | null>(null);
  const index = at === null ? values.length - 1 : Math.min(at, values.length - 1);
  const value = values[index]!;
  const word = value.step === null ? "number" : "step";
  return (
    <section ref={ref} class="image-row" data-images={metric.metric}>
      <h2><Text text={metric.metric} /> <span class="count">{plural(values.length, "image")}</span></h2>
      {values.length > 1 && (
        <label class="field image-slider">
          {value.step !== null && <span>step {value.step}</span>}
          <input
            type="range" min={0} max={values.length - 1} value={index} aria-label={`${word} of ${metric.metric}`} aria-valuetext={value.step === null ? `${index + 1} of ${values.length}` : `step ${value.step}`}
            onInput={(event) => setAt(Number(event.currentTarget.value))}
          />
          <span>{index + 1} of {values.length}</span>
        </label>
      )}
      <div class="image-pair">
        {near && <Image store={store} metric={metric.metric} value={value} />}
        {near && other && <Beside workspace={store.workspace} run={other} metric={metric.metric} place={placeOf(value)} />}
      </div>
    </section>
  );
}

function Image({ store, metric, value }: { store: RunStore; metric: string; value: FileValue }) {
  const [failed, setFailed] = useState("");
  const address = href(filePath(store.workspace, store.id, value.path));
  const caption = [value.step === null ? "" : `step ${value.step}`, value.artifact ? bytes(value.artifact.size) : ""].filter(Boolean).join(" · ");
  return (
    <figure>
      {failed === address ? (
        <p class="quiet">The image cannot be shown here. It may not be uploaded yet.</p>
      ) : (
        <a href={address} target="_blank" rel="noopener noreferrer">
          <img src={address} alt={`${metric}, ${caption}`} decoding="async" onLoad={enlarge} onError={() => setFailed(address)} />
        </a>
      )}
      <figcaption class="quiet"><Text text={value.path} /> {caption && `· ${caption}`}</figcaption>
    </figure>
  );
}

/** The image of another run that is nearest to a step. */
function Beside({ workspace, run, metric, place }: { workspace: string; run: string; metric: string; place: number }) {
  const store = useMemo(() => new RunStore(workspace, run), [workspace, run]);
  useEffect(() => {
    void store.start();
    return () => store.stop();
  }, [store]);
  const metrics = useFileMetrics(store);
  const values = metrics?.find((one) => one.metric === metric)?.values.filter((value) => value.kind === "image") ?? [];
  const failure = store.failure.value;
  if (failure) return <p class="bad"><Words text={sentence(failure.text)} /></p>;
  if (!values.length) return <p class="quiet">{metrics ? "The other run has no such image." : ""}</p>;
  const nearest = values.reduce((best, value) => (Math.abs(placeOf(value) - place) < Math.abs(placeOf(best) - place) ? value : best));
  return <Image store={store} metric={metric} value={nearest} />;
}
