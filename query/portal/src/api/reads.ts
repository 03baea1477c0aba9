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
const METRICS_A_CALL = 24;
const CALLS = 3;

interface Waiting {
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
      const key = [run.workspace, run.run, buckets, ranks.join(), minStep, maxStep].join("\n");
      groups.set(key, [...(groups.get(key) ?? []), one]);
    }
    this.waiting = [];
    for (const group of groups.values()) {
      const size = group[0]!.wanted.buckets ? METRICS_A_CALL : 100;
      for (let at = 0; at < group.length; at += size) this.queue.push(group.slice(at, at + size));
    }
    this.next();
  }

  private next(): void {
    while (this.running < CALLS && this.queue.length) {
      const group = this.queue.shift()!;
      this.running++;
      void ask(group, this.ends.signal).finally(() => {
        this.running--;
        this.next();
      });
    }
  }
}

async function ask(group: readonly Waiting[], signal: AbortSignal): Promise<void> {
  const { run, buckets, ranks, minStep, maxStep } = group[0]!.wanted;
  const answers = new Map<string, Answer>();
  for (const { wanted } of group) answers.set(wanted.metric, { buckets: [], elements: [], cut: false });
  const request = {
    selection: { runs: [run], metrics: [...answers.keys()], ranks: [...ranks], minStep, maxStep },
    barrier: { allowSettling: true },
  };
  try {
    if (buckets) {
      for await (const { content } of query.getMetrics({ ...request, reduction: { buckets } }, { signal })) {
        if (content.case === "buckets") answers.get(content.value.metric)?.buckets.push(content.value);
      }
    } else {
      const pageSize = Math.min(1_000_000, MOST_ELEMENTS * group.length);
      const page = await query.getMetricsPage({ request, pageSize }, { signal });
      for (const chunk of page.points) answers.get(chunk.metric)?.elements.push(chunk);
      // Metrics come one after the other: the last that came is not whole, and those after it did not come.
      if (page.nextPageToken) {
        const last = page.points.at(-1)?.metric;
        for (const [metric, answer] of answers) {
          if (metric === last || answer.elements.length === 0) answer.cut = true;
        }
      }
    }
    for (const { wanted, done } of group) done(answers.get(wanted.metric)!);
  } catch (error) {
    for (const { failed } of group) failed(error);
  }
}
