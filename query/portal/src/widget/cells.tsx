// What is no line: texts one after the other, and rows of which fewer than two columns are numbers. The first of them, as tables.

import { count } from "../data/numbers";
import type { Panel } from "../data/series";
import type { ChartMessage } from "./state";

export function Cells({ panel, told, url }: { panel: Panel; told: ChartMessage; url: string }) {
  const rows = panel.columns[0] !== "";
  const { heads, columns } = rows ? told.table! : { heads: [], columns: [told.texts!] };
  const shown = columns.reduce((most, column) => Math.max(most, column.length), 0);
  const numbers = heads.map((head) => panel.numeric.includes(head));
  return (
    <section class="cells" aria-label={panel.metric} data-cells={panel.metric}>
      <h3><span class="text" title={panel.metric}>{panel.metric}</span> <span class="count">{count(panel.count)}</span></h3>
      <div class="scroll" tabIndex={0} role="region" aria-label={`Values of ${panel.metric}`}>
        <table class="grid rows">
          {rows && (
            <thead>
              <tr>{heads.map((head, at) => <th key={at} class={numbers[at] ? "number" : ""}><span class="text" title={head}>{head}</span></th>)}</tr>
            </thead>
          )}
          <tbody>
            {Array.from({ length: shown }, (_, row) => (
              <tr key={row}>
                {columns.map((column, at) => (
                  <td key={at} class={numbers[at] ? "number" : ""}><span class="text" title={column[row]}>{column[row]}</span></td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {panel.count > shown && <p class="quiet small">The first {shown}; the <a href={url} target="_blank" rel="noopener noreferrer">details page</a> has all.</p>}
    </section>
  );
}

/** Whether the kernel has told what is in it. */
export function hasCells(panel: Panel, told: ChartMessage | undefined): told is ChartMessage {
  return Boolean(panel.columns[0] === "" ? told?.texts : told?.table);
}
