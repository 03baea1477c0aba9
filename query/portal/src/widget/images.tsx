// The images of a run: a row for each name, with a slider over its steps. The kernel reads them when they are looked at.

import { useEffect, useMemo, useState } from "preact/hooks";
import { enlarge } from "../charts/enlarge";
import { plural } from "../data/numbers";
import type { Wishes } from "./wishes";

interface ImageValue {
  path: string;
  step: number | null;
}

interface ImageMetric {
  metric: string;
  values: ImageValue[];
}

const SLOW_MS = 600;
const KEPT = 64;

/** What was read stays for a while, so that the slider can go back and forth. */
class Pictures {
  private readonly found = new Map<string, Promise<string>>();

  constructor(private readonly wishes: Wishes) {}

  get(path: string): Promise<string> {
    const known = this.found.get(path);
    const url = known ?? this.read(path);
    if (!known) url.catch(() => this.found.delete(path)); // it may be there when it is asked for again
    this.found.delete(path);
    this.found.set(path, url);
    const [oldest] = this.found.keys();
    if (this.found.size > KEPT && oldest !== undefined) this.drop(oldest);
    return url;
  }

  close(): void {
    for (const path of [...this.found.keys()]) this.drop(path);
  }

  private async read(path: string): Promise<string> {
    const { media, data } = (await this.wishes.ask("image", { path })) as unknown as { media: string; data: DataView<ArrayBuffer> };
    return URL.createObjectURL(new Blob([data], { type: media }));
  }

  private drop(path: string): void {
    this.found.get(path)?.then((url) => URL.revokeObjectURL(url), () => undefined);
    this.found.delete(path);
  }
}

export const imagesOf = (told: unknown): ImageMetric[] => (told as { rows?: ImageMetric[] } | null)?.rows ?? [];

export function Images({ told, wishes }: { told: unknown; wishes: Wishes }) {
  const metrics = imagesOf(told);
  const pictures = useMemo(() => new Pictures(wishes), [wishes]);
  useEffect(() => () => pictures.close(), [pictures]);
  if (!metrics.length) return null;
  return (
    <section class="images" aria-label="Images">
      {metrics.map((one) => <Row key={one.metric} metric={one} pictures={pictures} />)}
    </section>
  );
}

function Row({ metric, pictures }: { metric: ImageMetric; pictures: Pictures }) {
  const { values } = metric;
  // The last one is followed while the run goes on, until the reader has moved.
  const [at, setAt] = useState<number | null>(null);
  const index = at === null ? values.length - 1 : Math.min(at, values.length - 1);
  const value = values[index]!;
  const place = `${index + 1} of ${values.length}`;
  return (
    <div class="image-row" data-images={metric.metric}>
      <h3><span class="text" title={metric.metric}>{metric.metric}</span> <span class="count">{plural(values.length, "image")}</span></h3>
      {values.length > 1 && (
        <label class="field image-slider">
          {value.step !== null && <span>step {value.step}</span>}
          <input
            type="range" min={0} max={values.length - 1} value={index} aria-label={`Which image of ${metric.metric}`}
            aria-valuetext={value.step === null ? place : `step ${value.step}`} onInput={(event) => setAt(Number(event.currentTarget.value))}
          />
          <span>{place}</span>
        </label>
      )}
      <Picture path={value.path} label={`${metric.metric}, ${value.step === null ? place : `step ${value.step}`}`} pictures={pictures} />
    </div>
  );
}

/** The image before stays until this one is there. */
function Picture({ path, label, pictures }: { path: string; label: string; pictures: Pictures }) {
  const [state, setState] = useState<{ path: string; url: string; label: string; note: string }>({ path: "", url: "", label: "", note: "" });
  useEffect(() => {
    let wanted = true;
    const slow = setTimeout(() => setState((before) => ({ ...before, note: "The image comes when the kernel is free." })), SLOW_MS);
    pictures
      .get(path)
      .then((url) => wanted && setState({ path, url, label, note: "" }))
      .catch((error: Error) => wanted && setState({ path, url: "", label, note: error.message }))
      .finally(() => clearTimeout(slow));
    return () => {
      wanted = false;
      clearTimeout(slow);
    };
  }, [path, label, pictures]);
  return (
    <figure class="image-pair">
      {state.url && <img src={state.url} alt={state.label} data-path={state.path} onLoad={enlarge} />}
      {state.note && <figcaption class="chart-note">{state.note}</figcaption>}
    </figure>
  );
}
