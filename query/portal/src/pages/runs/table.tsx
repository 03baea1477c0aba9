// The table of runs: only the rows near the screen are on the page.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Run } from "../../api/gen/query_service_pb";
import { beginsGroup, cellOf, metricOf, parsed, titleOf, type Column, type Sort } from "../../data/columns";
import { runPath } from "../../data/address";
import { tellingDigits } from "../../data/numbers";
import { toMs } from "../../data/times";
import { windowOf } from "../../data/windowed";
import { isTyping } from "../help";
import { Ago, Lasted, Num, StatusBadge, Text } from "../parts";
import { go, href } from "../router";
import { Spark } from "../spark";
import type { RunList } from "./list";

const ROW = 34;

export function RunTable({ list, total, columns, sort, selected, best, group, onSort, onSelect }: {
  list: RunList; total: number; columns: readonly Column[]; sort: Sort | null; selected: readonly string[];
  /** Id of the run that is best. */
  best?: string | undefined;
  /** Its value stands before the first run of each group. */
  group?: Column | undefined;
  onSort: (sort: Sort | null) => void; onSelect: (runs: readonly string[]) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [scroll, setScroll] = useState({ top: 0, height: 800 });
  const [current, setCurrent] = useState(-1);
  const anchor = useRef(-1);
  const version = list.version.value;
  useLayoutEffect(() => {
    const element = box.current!;
    const look = (): void => setScroll({ top: element.scrollTop, height: element.clientHeight });
    const sizes = new ResizeObserver(look);
    sizes.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      sizes.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);
  const { from, to } = windowOf(scroll.top, scroll.height, ROW, total);
  useEffect(() => list.want(from, to), [list, from, to]);
  const rows = useMemo(() => Array.from({ length: to - from }, (_, i) => list.at(from + i)), [list, version, from, to]);
  const digits = useMemo(() => digitsOf(rows, columns), [rows, columns]);
  const chosen = new Set(selected);

  // Keys may come faster than the page is drawn: they read and move these, never what was last drawn.
  const cursor = useRef(current);
  const picked = useRef(selected);
  picked.current = selected;

  const toggle = (row: number, range: boolean): void => {
    const run = list.at(row)?.ref?.run;
    if (!run) return;
    const next = new Set(picked.current);
    if (range && anchor.current >= 0) {
      for (let i = Math.min(anchor.current, row); i <= Math.max(anchor.current, row); i++) {
        const id = list.at(i)?.ref?.run;
        if (id) next.add(id);
      }
    } else if (!next.delete(run)) next.add(run);
    anchor.current = row;
    picked.current = [...next];
    onSelect(picked.current);
  };
  useLayoutEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      if (isTyping(event)) return;
      const move = (row: number): void => {
        const next = Math.max(0, Math.min(total - 1, row));
        cursor.current = next;
        setCurrent(next);
        show(box.current!, next);
        event.preventDefault();
      };
      const at = cursor.current;
      const key = event.key.toLowerCase();
      if (event.key === "j") move(at + 1);
      else if (event.key === "k") move(at - 1);
      else if (key === "x" && at >= 0) toggle(at, event.shiftKey);
      else if (event.key === "Enter" && at >= 0 && !(event.target as HTMLElement).closest("a, button")) {
        const ref = list.at(at)?.ref;
        if (ref) go(runPath(ref.workspace, ref.run));
      }
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  });
  return (
    <div class="run-table" ref={box} tabIndex={0} role="region" aria-label="Runs">
      <table class="grid rows" aria-rowcount={total + 1}>
        <thead>
          <tr aria-rowindex={1}>
            <th class="pick"><span class="hidden">Selected</span></th>
            {group && <th class="col-group"><Text text={titleOf(group)} /></th>}
            {columns.map((column) => <Heading key={column} column={column} number={isNumber(column) || digits.has(column)} sort={sort} onSort={onSort} />)}
          </tr>
        </thead>
        <tbody>
          {from > 0 && <tr aria-hidden="true" style={{ height: `${from * ROW}px` }} />}
          {rows.map((run, i) => (
            <Row
              key={run?.ref?.run ?? `row ${from + i}`} run={run} row={from + i} columns={columns} digits={digits}
              selected={!!run && chosen.has(run.ref!.run)} current={from + i === current} best={!!run && run.ref?.run === best} group={group}
              begins={!!group && !!run && beginsGroup(i > 0 ? rows[i - 1] : list.at(from - 1), run, group)} onToggle={toggle}
            />
          ))}
          {to < total && <tr aria-hidden="true" style={{ height: `${(total - to) * ROW}px` }} />}
        </tbody>
      </table>
    </div>
  );
}

function show(box: HTMLElement, row: number): void {
  const top = row * ROW;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + 2 * ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + 2 * ROW - box.clientHeight + 8;
}

function isNumber(column: Column): boolean {
  const { kind } = parsed(column);
  return kind === "metric" || column === "duration" || column === "number";
}

function Heading({ column, number, sort, onSort }: { column: Column; number: boolean; sort: Sort | null; onSort: (sort: Sort | null) => void }) {
  const { kind, space } = parsed(column);
  const field = sortField(column);
  const active = sort && sort.field === field ? (sort.descending ? "descending" : "ascending") : undefined;
  const next = (): void => {
    if (!active) onSort({ field, descending: column === "started" });
    else if ((active === "ascending") === (column !== "started")) onSort({ field, descending: active === "ascending" });
    else onSort(null);
  };
  const title = titleOf(column);
  if (kind === "spark") return <th class="col-spark"><Text text={title} /></th>;
  return (
    <th class={`${number ? "number" : ""} col-${kind === "field" ? column : space}`} aria-sort={active ?? "none"}>
      <button type="button" class="plain" onClick={next} title={`Sort by ${field}`}>
        <Text text={title} />
        <span class="sort" aria-hidden="true">{active === "ascending" ? "▴" : active === "descending" ? "▾" : ""}</span>
      </button>
    </th>
  );
}

/** The age of a run rises as its start falls. */
function sortField(column: Column): string {
  return column;
}

/** Of the columns with numbers. */
function digitsOf(rows: readonly (Run | undefined)[], columns: readonly Column[]): Map<Column, number> {
  const digits = new Map<Column, number>();
  for (const column of columns) {
    if (parsed(column).kind === "field") continue;
    const values = rows.map((run) => (run ? cellOf(run, column) : undefined)).filter((value) => typeof value === "number");
    if (values.length) digits.set(column, tellingDigits(values));
  }
  return digits;
}

function Row({ run, row, columns, digits, selected, current, best, group, begins, onToggle }: {
  run: Run | undefined; row: number; columns: readonly Column[]; digits: Map<Column, number>;
  selected: boolean; current: boolean; best: boolean; group: Column | undefined; begins: boolean; onToggle: (row: number, range: boolean) => void;
}) {
  if (!run?.ref) {
    return (
      <tr class="run-row" aria-rowindex={row + 2}>
        <td class="pick" />
        {group && <td />}
        {columns.map((column) => <td key={column} class="quiet">…</td>)}
      </tr>
    );
  }
  const name = run.displayName || run.ref.run;
  return (
    <tr
      class={`run-row ${current ? "current" : ""} ${selected ? "selected" : ""} ${begins ? "begins" : ""}`} aria-rowindex={row + 2} aria-selected={selected}
      data-run={run.ref.run}
    >
      <td class="pick">
        <input type="checkbox" checked={selected} aria-label={`Select ${name}`} onClick={(event) => onToggle(row, event.shiftKey)} />
      </td>
      {group && <td class="col-group">{begins && <GroupName run={run} group={group} />}</td>}
      {columns.map((column) => <CellOf key={column} run={run} column={column} digits={digits.get(column)} best={best} />)}
    </tr>
  );
}

function GroupName({ run, group }: { run: Run; group: Column }) {
  const value = cellOf(run, group);
  if (value === undefined) return <span class="quiet">none</span>;
  if (typeof value === "number") return <b><Num value={value} digits={12} /></b>;
  return group === "parent" ? <a href={href(runPath(run.ref!.workspace, value))}><Text text={value} /></a> : <b><Text text={value} /></b>;
}

function CellOf({ run, column, digits, best }: { run: Run; column: Column; digits: number | undefined; best: boolean }) {
  switch (column) {
    case "name":
      return (
        <td class="col-name">
          <a href={href(runPath(run.ref!.workspace, run.ref!.run))}><Text text={run.displayName || run.ref!.run} /></a>
          {best && <span class="best">best</span>}
          {run.archived && <span class="badge">archived</span>}
        </td>
      );
    case "status":
      return <td><StatusBadge status={run.status} /></td>;
    case "started":
      return <td><Ago ms={toMs(run.startedTimeNs)} /></td>;
    case "duration":
      return <td class="number"><Lasted from={toMs(run.startedTimeNs)} to={toMs(run.endedTimeNs)} /></td>;
    default:
  }
  const { kind, name } = parsed(column);
  if (kind === "spark") {
    const line = run.sparklines.find((one) => one.metric === name);
    const last = metricOf(run, name)?.last;
    return <td class="col-spark">{line && <Spark values={line.values} label={`${name}${last === undefined ? "" : `, last ${last}`}`} />}</td>;
  }
  const value = cellOf(run, column);
  if (value === undefined) return <td class={`quiet ${isNumber(column) || digits !== undefined ? "number" : ""}`}>–</td>;
  if (typeof value === "number") return <td class="number"><Num value={value} {...(digits ? { digits } : {})} /></td>;
  return <td><Text text={value} /></td>;
}
