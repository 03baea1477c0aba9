// The children of a run: a metric over what varies among them, and the newest of them in a table.

import { useMemo, useState } from "preact/hooks";
import type { PlotLine, View } from "../charts/draw";
import { lineStyle, type Palette } from "../charts/palette";
import type { Range } from "../charts/scale";
import { childMetrics, childPoints, varying } from "../data/children";
import { short } from "../data/numbers";
import { Figure } from "./chart";
import { Choice } from "./choice";
import type { Child, Properties } from "./state";
import { statusWords } from "./words";

const ROWS = 20;

export function Children({ told, parent, palette }: { told: unknown; parent: Properties; palette: Palette }) {
  const newest = (told as { runs?: Child[] } | null)?.runs ?? [];
  const children = useMemo(() => [...newest].reverse(), [told]); // as they were started
  const metrics = useMemo(() => childMetrics(children), [children]);
  const parameters = useMemo(() => varying(children), [children]);
  const [chosen, setChosen] = useState<string>();
  const [over, setOver] = useState<string>();
  const [zoom, setZoom] = useState<Range | null>(null);
  const metric = chosen !== undefined && metrics.includes(chosen) ? chosen : metrics[0];
  const parameter = over !== undefined && (over === "" || parameters.includes(over)) ? over : parameters.length === 1 ? parameters[0]! : "";
  const lines = useMemo((): PlotLine[] => {
    if (metric === undefined) return [];
    const { x, y } = childPoints(children, metric, parameter);
    return [{ label: metric, style: lineStyle(palette, 0), x, y, min: y, max: y, flags: new Uint8Array(x.length), dots: true }];
  }, [children, metric, parameter, palette]);
  const view: View = useMemo(() => ({ xKind: "linear", yKind: "linear", zoom, xLabel: parameter || "child" }), [zoom, parameter]);
  if (!children.length) return null;
  return (
    <section class="children" aria-label="Children">
      <h3>Children <span class="count">{children.length}</span></h3>
      <div class="family">
        {metric !== undefined && (
          <div class="charts">
            <Figure
              title={metric} figure={parameters.length ? undefined : "over the order of their start"} lines={lines} view={view} palette={palette} onZoom={setZoom}
              controls={
                <>
                  {metrics.length > 1 && <Choice label="metric" value={metric} options={metrics.map((name) => [name, name] as const)} onChange={setChosen} />}
                  {parameters.length > 0 && <Choice label="over" value={parameter} options={[["", "their order"], ...parameters.map((name) => [name, name] as const)]} onChange={setOver} />}
                </>
              }
            />
          </div>
        )}
        <div>
          <div class="scroll">
            <table class="grid rows">
              <thead>
                <tr>
                  <th>run</th>
                  <th>status</th>
                  {parameters.map((name) => <th key={name} class="number"><span class="text" title={name}>{name}</span></th>)}
                  {metric !== undefined && <th class="number"><span class="text" title={metric}>{metric}</span></th>}
                </tr>
              </thead>
              <tbody>
                {newest.slice(0, ROWS).map((child) => (
                  <tr key={child.run_id} data-child={child.run_id}>
                    <td><a href={addressOf(child, parent)} target="_blank" rel="noopener noreferrer" class="text">{child.name || child.run_id}</a></td>
                    <td><span class={`status status-${child.status}`}><i aria-hidden="true" />{statusWords(child.status)}</span></td>
                    {parameters.map((name) => <td key={name} class="number"><span class="text">{child.parameters[name] ?? "–"}</span></td>)}
                    {metric !== undefined && <td class="number">{child.metrics[metric] == null ? "–" : short(child.metrics[metric], 6)}</td>}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {newest.length > ROWS && <p class="quiet">The newest {ROWS}; the <a href={parent.portal_url} target="_blank" rel="noopener noreferrer">details page</a> has all.</p>}
        </div>
      </div>
    </section>
  );
}

/** The page of a child is beside its parent's. */
function addressOf(child: Child, parent: Properties): string {
  const own = encodeURIComponent(parent.run_id);
  return parent.portal_url.endsWith(own) ? parent.portal_url.slice(0, -own.length) + encodeURIComponent(child.run_id) : parent.portal_url;
}
