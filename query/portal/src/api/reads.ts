// Reads of metrics. Charts that ask at about the same time are answered by one call.

import { create } from "@bufbuild/protobuf";
import { RunRefSchema, type RunRef } from "./gen/point_pb";
import type { BucketChunk, MetricChunk } from "./gen/query_service_pb";
import { query } from "./clients";

export interface Wanted {
  run: RunRef;
  metric: string;
  /** 0: every element. */
  buckets: number;
  /** Empty: all. */
  ranks: readonly number[];
  minStep?: bigint;
  maxStep?: bigint;
}

export interface Answer {
  buckets: BucketChunk[];
  elements: MetricChunk[];
  /** There are more elements than are given at once. */
  cut: boolean;
}

/** Most elements that are read as they are. */
export const MOST_ELEMENTS = 20_000;
const SERIES_A_CALL = 128;
const CALLS = 3;

export interface Waiting {
  wanted: Wanted;
  done: (answer: Answer) => void;
  failed: (error: unknown) => void;
}

export function runRef(workspace: string, run: string): RunRef {
  return create(RunRefSchema, { workspace, run });
}

/** Gathers wishes for a moment and asks for those that differ in the metric only together. */
export class MetricReads {
  private waiting: Waiting[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly queue: Waiting[][] = [];
  private running = 0;
  private readonly ends = new AbortController();

  /** With the number of an attempt all reads are of that one; 0: of what counts. */
  constructor(private readonly attempt = 0) {}

  read(wanted: Wanted): Promise<Answer> {
    return new Promise((done, failed) => {
      this.waiting.push({ wanted, done, failed });
      this.timer ??= setTimeout(() => this.send(), 8);
    });
  }

  /** Nothing that is asked for is wanted any more. */
  close(): void {
    clearTimeout(this.timer);
    this.queue.length = 0;
    this.ends.abort();
  }

  private send(): void {
    this.timer = undefined;
    const groups = new Map<string, Waiting[]>();
    for (const one of this.waiting) {
      const { run, buckets, ranks, minStep, maxStep } = one.wanted;
      const key = [run.workspace, buckets, ranks.join(), minStep, maxStep].join("\n");
      groups.set(key, [...(groups.get(key) ?? []), one]);
    }
    this.waiting = [];
    for (const group of groups.values()) this.queue.push(...callsOf(group));
    this.next();
  }

  private next(): void {
    while (this.running < CALLS && this.queue.length) {
      const group = this.queue.shift()!;
      this.running++;
      void ask(group, this.attempt, this.ends.signal).finally(() => {
        this.running--;
        this.next();
      });
    }
  }
}

/** Wishes as calls. A call is for all of its metrics in all of its runs, so only those that go together are joined. */
export function callsOf(group: readonly Waiting[]): Waiting[][] {
  const byMetric = new Map<string, Waiting[]>();
  for (const one of group) byMetric.set(one.wanted.metric, [...(byMetric.get(one.wanted.metric) ?? []), one]);
  const bySet = new Map<string, Waiting[]>();
  for (const members of byMetric.values()) {
    const key = members.map((one) => one.wanted.run.run).sort().join("\n");
    bySet.set(key, [...(bySet.get(key) ?? []), ...members]);
  }
  const calls: Waiting[][] = [];
  for (const members of bySet.values()) {
    const metrics = [...new Set(members.map((one) => one.wanted.metric))];
    const runs = members.length / metrics.length;
    const size = Math.max(1, Math.floor(SERIES_A_CALL / runs));
    for (let at = 0; at < metrics.length; at += size) {
      const some = new Set(metrics.slice(at, at + size));
      calls.push(members.filter((one) => some.has(one.wanted.metric)));
    }
  }
  return calls;
}

async function ask(group: readonly Waiting[], attempt: number, signal: AbortSignal): Promise<void> {
  const { buckets, ranks, minStep, maxStep } = group[0]!.wanted;
  const answers = new Map<string, Answer>();
  const keyOf = (run: string | undefined, metric: string): string => `${run}\n${metric}`;
  for (const { wanted } of group) answers.set(keyOf(wanted.run.run, wanted.metric), { buckets: [], elements: [], cut: false });
  const runs = [...new Map(group.map(({ wanted }) => [wanted.run.run, wanted.run])).values()];
  const metrics = [...new Set(group.map(({ wanted }) => wanted.metric))];
  const request = {
    selection: { runs, metrics, ranks: [...ranks], minStep, maxStep, attempt },
    barrier: { allowSettling: true },
  };
  try {
    if (buckets) {
      for await (const { content } of query.getMetrics({ ...request, reduction: { buckets } }, { signal })) {
        if (content.case === "buckets") answers.get(keyOf(content.value.run?.run, content.value.metric))?.buckets.push(content.value);
      }
    } else {
      const pageSize = Math.min(1_000_000, MOST_ELEMENTS * group.length);
      const page = await query.getMetricsPage({ request, pageSize }, { signal });
      for (const chunk of page.points) answers.get(keyOf(chunk.run?.run, chunk.metric))?.elements.push(chunk);
      // One comes after the other: the last that came is not whole, and those after it did not come.
      if (page.nextPageToken) {
        const last = page.points.at(-1);
        for (const [key, answer] of answers) {
          if (answer.elements.length === 0 || (last && key === keyOf(last.run?.run, last.metric))) answer.cut = true;
        }
      }
    }
    for (const { wanted, done } of group) done(answers.get(keyOf(wanted.run.run, wanted.metric))!);
  } catch (error) {
    for (const { failed } of group) failed(error);
  }
}
