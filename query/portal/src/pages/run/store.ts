// What the page knows of a run, kept up to date while the run goes on.

import { Code, ConnectError } from "@connectrpc/connect";
import { signal, type Signal } from "@preact/signals";
import { query } from "../../api/clients";
import { failureOf, type Failure } from "../../api/failure";
import type { LogPosition } from "../../api/gen/run_pb";
import type { Run, RunChange, SeriesInfo } from "../../api/gen/query_service_pb";
import { isUnreachable } from "../../api/transport";
import { isFinal } from "../../data/status";

export type Connection =
  | { state: "starting" | "live" | "ended" }
  | { state: "lost"; sinceMs: number };

const LATER_MS = 700;
const MOST_WAIT_MS = 10_000;
const HIDDEN_MS = 20_000;

export class RunStore {
  readonly run: Signal<Run | undefined> = signal(undefined);
  readonly series: Signal<readonly SeriesInfo[] | undefined> = signal(undefined);
  readonly failure: Signal<Failure | undefined> = signal(undefined);
  readonly connection: Signal<Connection> = signal({ state: "starting" });

  private readonly ends = new AbortController();
  private watching: AbortController | undefined;
  private cursor = "";
  private runTimer: ReturnType<typeof setTimeout> | undefined;
  private seriesTimer: ReturnType<typeof setTimeout> | undefined;
  private hiddenTimer: ReturnType<typeof setTimeout> | undefined;
  private positions: LogPosition[] = [];

  constructor(
    readonly workspace: string,
    readonly id: string,
  ) {}

  get ref(): { workspace: string; run: string } {
    return { workspace: this.workspace, run: this.id };
  }

  /** `patient`: looks again for a run that is not there; it may have been started a moment ago, and still be on its way. */
  async start(patient = false): Promise<void> {
    document.addEventListener("visibilitychange", this.seen, { signal: this.ends.signal });
    let wait = 500;
    while (!this.ends.signal.aborted) {
      try {
        await Promise.all([this.readRun(), this.readSeries()]);
        this.failure.value = undefined;
        break;
      } catch (error) {
        if (this.ends.signal.aborted) return;
        const failure = failureOf(error);
        this.failure.value = failure;
        if (isUnreachable(error)) this.lost();
        else if (failure.kind !== "not-found" || !patient) return;
        await visible(this.ends.signal);
        await pause(wait, this.ends.signal);
        wait = Math.min(wait * 2, MOST_WAIT_MS);
      }
    }
    await this.follow();
  }

  stop(): void {
    this.ends.abort();
    this.watching?.abort();
    for (const timer of [this.runTimer, this.seriesTimer, this.hiddenTimer]) clearTimeout(timer);
  }

  /** Reads the run again so that what was just changed is in it. */
  async changed(positions: LogPosition[]): Promise<void> {
    this.positions = positions;
    await this.readRun();
  }

  private async readRun(): Promise<void> {
    const barrier = { positions: this.positions, allowSettling: true };
    const answer = await query.getRun({ run: this.ref, barrier }, { signal: this.ends.signal });
    this.run.value = answer.run;
  }

  private async readSeries(): Promise<void> {
    const request = { run: this.ref, barrier: { allowSettling: true } };
    this.series.value = (await query.listSeries(request, { signal: this.ends.signal })).series;
  }

  private get over(): boolean {
    const run = this.run.peek();
    return run !== undefined && isFinal(run.status) && !run.settling;
  }

  private async follow(): Promise<void> {
    let wait = 500;
    while (!this.ends.signal.aborted) {
      if (this.over) {
        this.connection.value = { state: "ended" };
        return;
      }
      this.watching = new AbortController();
      try {
        for await (const { change } of query.watchRun(
          { run: this.ref, cursor: this.cursor, intervalMs: 1000 },
          { signal: this.watching.signal },
        )) {
          if (this.ends.signal.aborted) return;
          if (this.connection.peek().state !== "live") this.connection.value = { state: "live" };
          wait = 500;
          if (change) this.take(change);
        }
        if (this.ends.signal.aborted) return;
        await Promise.all([this.readRun(), this.readSeries()]);
      } catch (error) {
        if (this.ends.signal.aborted) return;
        if (this.watching.signal.aborted) {
          await visible(this.ends.signal);
          continue;
        }
        if (ConnectError.from(error).code === Code.Unimplemented) {
          await this.poll();
          return;
        }
        if (failureOf(error).kind === "signed-out") this.failure.value = failureOf(error);
        this.lost();
      }
      await pause(wait, this.ends.signal);
      wait = Math.min(wait * 2, MOST_WAIT_MS);
    }
  }

  /** For a server that cannot be watched. */
  private async poll(): Promise<void> {
    while (!this.ends.signal.aborted && !this.over) {
      await pause(2000, this.ends.signal);
      await visible(this.ends.signal);
      try {
        await Promise.all([this.readRun(), this.readSeries()]);
        this.connection.value = { state: "live" };
      } catch {
        this.lost();
      }
    }
    if (this.over) this.connection.value = { state: "ended" };
  }

  private lost(): void {
    if (this.connection.peek().state !== "lost") this.connection.value = { state: "lost", sinceMs: Date.now() };
  }

  private take(change: RunChange): void {
    this.cursor = change.cursor;
    const { run } = change;
    const before = this.run.peek();
    if (run && before) {
      // What only a whole read gives stays until there is one.
      run.writers = before.writers;
      run.rejections = before.rejections;
      if (run.attributes.length === 0) run.attributes = before.attributes;
      this.run.value = run;
      this.runTimer ??= setTimeout(() => {
        this.runTimer = undefined;
        this.readRun().catch(() => undefined);
      }, LATER_MS);
    }
    if (change.series.length) this.takeSeries(change);
  }

  private takeSeries(change: RunChange): void {
    const known = this.series.peek() ?? [];
    const news = new Map(change.series.map((one) => [`${one.metric}\n${one.column}`, one]));
    let moved = false;
    const next = known.map((info) => {
      const key = `${info.series?.metric}\n${info.series?.column}`;
      const one = news.get(key);
      news.delete(key);
      if (!one || (one.count === info.count && one.last === info.last)) return info;
      moved = true;
      return { ...info, count: one.count, last: one.last } as SeriesInfo;
    });
    if (moved) this.series.value = next;
    // A name that was not there before: its types are in the whole list.
    if (news.size) {
      this.seriesTimer ??= setTimeout(() => {
        this.seriesTimer = undefined;
        this.readSeries().catch(() => undefined);
      }, LATER_MS);
    }
  }

  private readonly seen = (): void => {
    clearTimeout(this.hiddenTimer);
    // A page that nobody sees holds no connection: browsers have few for one server.
    if (document.hidden) this.hiddenTimer = setTimeout(() => this.watching?.abort(), HIDDEN_MS);
  };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });
}

function visible(signal: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => {
    const look = (): void => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      done();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
  });
}
