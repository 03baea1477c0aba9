// A long list of which only a window is on the page, read page after page.

export interface Window {
  /** First row that is drawn, and one more than the last. */
  from: number;
  to: number;
}

export function windowOf(scrollTop: number, viewHeight: number, rowHeight: number, total: number, spare = 8): Window {
  const from = Math.max(0, Math.floor(scrollTop / rowHeight) - spare);
  const to = Math.min(total, Math.ceil((scrollTop + viewHeight) / rowHeight) + spare);
  return { from: Math.min(from, to), to };
}

export interface PageOf<T> {
  start: number;
  size: number;
  /** Asks for this page again. */
  token: string;
  /** Undefined when it was let go of to save memory. */
  rows: readonly T[] | undefined;
}

/** Pages that follow each other; far ones are let go of and can be read again. */
export class Paged<T> {
  pages: PageOf<T>[] = [];
  next: string | null = "";

  constructor(private readonly keep = 6000) {}

  get loaded(): number {
    const last = this.pages.at(-1);
    return last ? last.start + last.size : 0;
  }

  add(rows: readonly T[], token: string, next: string): void {
    this.pages.push({ start: this.loaded, size: rows.length, token, rows });
    this.next = next || null;
  }

  at(row: number): T | undefined {
    const page = this.pageAt(row);
    return page?.rows?.[row - page.start];
  }

  pageAt(row: number): PageOf<T> | undefined {
    let low = 0;
    let high = this.pages.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const page = this.pages[middle]!;
      if (row < page.start) high = middle - 1;
      else if (row >= page.start + page.size) low = middle + 1;
      else return page;
    }
    return undefined;
  }

  /** Lets go of the pages furthest from a row. */
  trim(row: number): void {
    const held = this.pages.filter((page) => page.rows);
    let size = held.reduce((sum, page) => sum + page.size, 0);
    const far = (page: PageOf<T>): number => Math.abs(page.start + page.size / 2 - row);
    for (const page of held.sort((a, b) => far(b) - far(a))) {
      if (size <= this.keep) return;
      page.rows = undefined;
      size -= page.size;
    }
  }
}

/** How many to ask for: small at first, more when a reader has jumped far. */
export function pageSize(missing: number): number {
  return missing > 1000 ? Math.min(5000, missing) : 200;
}
