// What differs between runs, as a table: a line a name, a column a run.

import type { Run } from "../../api/gen/query_service_pb";
import { bestOf, type Difference } from "../../data/compare";
import { plural, tellingDigits } from "../../data/numbers";
import { Empty, Num, Select, Text } from "../parts";
import { params, setParams } from "../router";
import { RunSwatch } from "./swatch";

const MOST_COLUMNS = 50;

export function Differences({ runs, colors, rows }: { runs: readonly Run[]; colors: ReadonlyMap<string, number>; rows: readonly Difference[] }) {
  const all = params.value.get("all") === "1";
  const best = params.value.get("best") ?? "";
  const greatest = best.startsWith("max ");
  const metric = best.slice(4);
  const shown = rows.filter((row) => (all || row.differs) && row.cells.some((cell) => cell !== undefined));
  const marked = bestOf(rows.find((row) => row.kind === "metric" && row.name === metric)?.cells ?? [], greatest);
  const metrics = rows.filter((row) => row.kind === "metric").map((row) => row.name);
  const some = runs.slice(0, MOST_COLUMNS);
  return (
    <section id="differs">
      <div class="page-head">
        <h2>{all ? "Everything" : "What differs"}</h2>
        {metrics.length > 0 && (
          <Select
            label="best by" value={best}
            options={[["", "nothing"], ...metrics.flatMap((name) => [[`min ${name}`, `least ${name}`] as const, [`max ${name}`, `greatest ${name}`] as const])]}
            onChange={(value) => setParams({ best: value })}
          />
        )}
        <label class="check">
          <input type="checkbox" checked={all} onChange={(event) => setParams({ all: event.currentTarget.checked ? "1" : "" })} />
          also what is the same
        </label>
      </div>
      {shown.length === 0 ? (
        <Empty title={runs.length < 2 ? "With one run there is nothing to compare." : "Nothing differs but the lines."} />
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label="What differs">
          <table class="grid differences">
            <thead>
              <tr>
                <th>kind</th>
                <th>name</th>
                {some.map((run, i) => (
                  <th key={run.ref!.run} class="number">
                    <RunSwatch number={colors.get(run.ref!.run)!} /> <Text text={run.displayName || run.ref!.run} />
                    {i === marked && <span class="best">best</span>}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {shown.map((row) => <RowOf key={`${row.kind}\n${row.name}`} row={row} marked={row.kind === "metric" && row.name === metric ? marked : -1} columns={some.length} />)}
            </tbody>
          </table>
          {runs.length > some.length && <p class="quiet">The first {plural(some.length, "run")}.</p>}
        </div>
      )}
    </section>
  );
}

function RowOf({ row, marked, columns }: { row: Difference; marked: number; columns: number }) {
  const digits = tellingDigits(row.cells.filter((cell) => typeof cell === "number"));
  return (
    <tr>
      <td class="quiet">{row.kind}</td>
      <th scope="row"><Text text={row.name} /></th>
      {row.cells.slice(0, columns).map((cell, i) => (
        <td key={i} class={`number ${i === marked ? "best-cell" : ""}`}>
          {cell === undefined ? <span class="quiet">–</span> : typeof cell === "number" ? <Num value={cell} digits={digits} /> : <Text text={cell} />}
        </td>
      ))}
    </tr>
  );
}
