// Which columns the table has.

import { useMemo, useState } from "preact/hooks";
import type { Run } from "../../api/gen/query_service_pb";
import { columnsOf, parsed, quoted, titleOf, type Column } from "../../data/columns";
import { Popover, Text } from "../parts";

const SPACES: readonly (readonly [string, string])[] = [
  ["params", "Parameters"],
  ["metrics", "Metrics, last value"],
  ["spark", "Metrics, as a line"],
  ["tags", "Tags"],
  ["properties", "Properties"],
];

export function ColumnChooser({ columns, runs, onChange }: { columns: readonly Column[]; runs: readonly Run[]; onChange: (columns: readonly Column[]) => void }) {
  return (
    <Popover label="Columns" title="Choose the columns" class="chooser" end>
      {() => <Choices columns={columns} runs={runs} onChange={onChange} />}
    </Popover>
  );
}

function Choices({ columns, runs, onChange }: { columns: readonly Column[]; runs: readonly Run[]; onChange: (columns: readonly Column[]) => void }) {
  const [wanted, setWanted] = useState("");
  const all = useMemo(() => {
    const known = columnsOf(runs);
    const lines = [...new Set(runs.flatMap((run) => run.metrics.filter((one) => one.count > 1n && one.column === "" && one.last !== undefined).map((one) => one.metric)))];
    return [...new Set([...known, ...lines.map((name) => `spark.${quoted(name)}`), ...columns])];
  }, [runs, columns]);
  const toggle = (column: Column, on: boolean): void => onChange(on ? [...columns, column] : columns.filter((one) => one !== column));
  const move = (column: Column, by: number): void => {
    const at = columns.indexOf(column);
    const next = [...columns];
    next.splice(at, 1);
    next.splice(Math.max(0, at + by), 0, column);
    onChange(next);
  };
  return (
    <div class="choices">
      <input type="search" placeholder="find a column" aria-label="Find a column" value={wanted} autofocus onInput={(event) => setWanted(event.currentTarget.value)} />
      {columns.length > 0 && (
        <fieldset>
          <legend>Shown</legend>
          {columns.map((column, i) => (
            <div key={column} class="choice">
              <label><input type="checkbox" checked onChange={() => toggle(column, false)} /><Text text={label(column)} /></label>
              <button type="button" class="plain" disabled={i === 0} aria-label={`Move ${label(column)} to the left`} onClick={() => move(column, -1)}>←</button>
              <button type="button" class="plain" disabled={i === columns.length - 1} aria-label={`Move ${label(column)} to the right`} onClick={() => move(column, 1)}>→</button>
            </div>
          ))}
        </fieldset>
      )}
      {SPACES.map(([space, title]) => {
        const members = all
          .filter((column) => parsed(column).space === space && !columns.includes(column) && titleOf(column).toLowerCase().includes(wanted.toLowerCase()))
          .slice(0, 100);
        if (!members.length) return null;
        return (
          <fieldset key={space}>
            <legend>{title}</legend>
            {members.map((column) => (
              <div key={column} class="choice">
                <label><input type="checkbox" checked={false} onChange={() => toggle(column, true)} /><Text text={titleOf(column)} /></label>
              </div>
            ))}
          </fieldset>
        );
      })}
    </div>
  );
}

function label(column: Column): string {
  const { kind } = parsed(column);
  return kind === "spark" ? `${titleOf(column)} (line)` : titleOf(column);
}
