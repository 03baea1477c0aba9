// The runs of an experiment in the order asked for: pages of them, read as they come into view.

import { ConnectError } from "@connectrpc/connect";
import { signal, type Signal } from "@preact/signals";
import { query } from "../../api/clients";
import { failureOf, type Failure } from "../../api/failure";
import { ArchiveView, FilterErrorSchema, type FilterError, type Run } from "../../api/gen/query_service_pb";
import type { LogPosition } from "../../api/gen/run_pb";
import { wantedOf, type Column, type Sort } from "../../data/columns";
import { pageSize, Paged } from "../../data/windowed";

export interface Wish {
  workspace: string;
  experiment: string;
  filter: string;
  sort: Sort | null;
  columns: readonly Column[];
  archived: boolean;
  children: boolean;
  /** Only children of this run. */
  parent?: string;
  /** Runs with the same value of it stand together. */
  group?: Column | undefined;
}

/** The first page asks for everything that runs have, when no columns were chosen. */
export const FIRST_PAGE = 50;
export const ALL_COLUMNS = ["params.*", "tags.*", "properties.*", "metrics.*"];

export function requestOf(wish: Wish): {
  workspace: string;
  experiments: string[];
  filter: string;
  orderBy: { field: string; descending: boolean }[];
  archive: ArchiveView;
  family?: { family: { case: "topLevel"; value: boolean } | { case: "childrenOf"; value: string } };
  barrier: { allowSettling: boolean };
} {
  return {
    workspace: wish.workspace,
    experiments: wish.experiment ? [wish.experiment] : [],
    filter: wish.filter,
    orderBy: [...(wish.group ? [{ field: wish.group, descending: false }] : []), ...(wish.sort && wish.sort.field !== wish.group ? [wish.sort] : [])],
    archive: wish.archived ? ArchiveView.ALL : ArchiveView.UNSPECIFIED,
    ...(wish.parent ? { family: { family: { case: "childrenOf" as const, value: wish.parent } } } : wish.children ? {} : { family: { family: { case: "topLevel" as const, value: true } } }),
    barrier: { allowSettling: true },
  };
}

export class RunList {
  readonly total: Signal<number | undefined> = signal(undefined);
  readonly failure: Signal<Failure | undefined> = signal(undefined);
  /** Where the filter is wrong. */
  readonly filterError: Signal<FilterError | undefined> = signal(undefined);
  /** Rises when rows have come. */
  readonly version: Signal<number> = signal(0);
  private pages = new Paged<Run>();
  private asked = false;
  private wanted = { from: 0, to: FIRST_PAGE };
  private readonly ends = new AbortController();
  private positions: LogPosition[] = [];

  constructor(readonly wish: Wish) {}

  /** Shows rows that are known already, without what only these columns ask for, until the first answer is there. */
  seed(rows: readonly Run[], total: number): void {
    this.pages.add(rows, "", "");
    this.total.value = total;
    this.version.value++;
  }

  stop(): void {
    this.ends.abort();
  }

  at(row: number): Run | undefined {
    return this.pages.at(row);
  }

  /** These rows are to be seen. */
  want(from: number, to: number): void {
    this.wanted = { from, to };
    if (!this.asked) void this.fill();
  }

  /** All rows again, without letting go of those that are shown. */
  async again(positions: LogPosition[] = this.positions): Promise<void> {
    if (this.asked || this.ends.signal.aborted) return;
    this.positions = positions;
    this.asked = true;
    try {
      const size = Math.min(1000, Math.max(FIRST_PAGE, this.wanted.to + 50));
      const fresh = new Paged<Run>();
      const answer = await this.ask("", size);
      fresh.add(answer.runs, "", answer.nextPageToken);
      this.pages = fresh;
      this.total.value = Number(answer.total);
      this.failure.value = undefined;
      this.version.value++;
    } catch (error) {
      this.failed(error);
    } finally {
      this.asked = false;
    }
    if (!this.failure.peek()) void this.fill();
  }

  private async fill(): Promise<void> {
    this.asked = true;
    try {
      while (!this.ends.signal.aborted) {
        const { from, to } = this.wanted;
        const gone = this.missing(from, to);
        if (gone) {
          gone.rows = (await this.ask(gone.token, gone.size)).runs;
        } else if (this.pages.next !== null && this.pages.loaded < to) {
          const token = this.pages.next;
          const first = this.pages.loaded === 0;
          const answer = await this.ask(token, first ? FIRST_PAGE : pageSize(to - this.pages.loaded));
          this.pages.add(answer.runs, token, answer.nextPageToken);
          this.total.value = Number(answer.total);
          this.failure.value = undefined;
        } else return;
        this.pages.trim((this.wanted.from + this.wanted.to) / 2);
        this.version.value++;
      }
    } catch (error) {
      this.failed(error);
    } finally {
      this.asked = false;
    }
  }

  private failed(error: unknown): void {
    if (this.ends.signal.aborted) return;
    const [detail] = ConnectError.from(error).findDetails(FilterErrorSchema);
    this.filterError.value = detail?.subject === "filter" ? detail : undefined;
    this.failure.value = failureOf(error);
  }

  private missing(from: number, to: number): ReturnType<Paged<Run>["pageAt"]> {
    for (let row = from; row < to; ) {
      const page = this.pages.pageAt(row);
      if (!page) return undefined;
      if (!page.rows) return page;
      row = page.start + page.size;
    }
    return undefined;
  }

  private ask(token: string, size: number): ReturnType<typeof query.searchRuns> {
    const request = requestOf(this.wish);
    const { columns, sparklines } = wantedOf(this.wish.group ? [...this.wish.columns, this.wish.group] : this.wish.columns);
    return query.searchRuns(
      {
        ...request,
        barrier: { ...request.barrier, positions: this.positions },
        columns: columns.length ? columns : ["tags.*"],
        sparklines,
        pageSize: size,
        pageToken: token,
      },
      { signal: this.ends.signal },
    );
  }
}
