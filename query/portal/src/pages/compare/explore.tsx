// Parallel coordinates and a scatter over what differs. What is chosen in them filters the tables.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Run } from "../../api/gen/query_service_pb";
import { lineStyle } from "../../charts/palette";
import { ParallelPlot } from "../../charts/parallel";
import { ScatterPlot } from "../../charts/scatter";
import { axesOf, type Difference } from "../../data/compare";
import { count, plural } from "../../data/numbers";
import { Popover, Select, Text } from "../parts";
import { params, setParams } from "../router";
import { palette } from "../theme";

const FIRST_AXES = 6;
const MOST_AXES = 12;

export function Explore({ runs, rows, colors, onInside }: {
  runs: readonly Run[]; rows: readonly Difference[]; colors: ReadonlyMap<string, number>; onInside: (inside: ReadonlySet<string> | null) => void;
}) {
  const axes = useMemo(() => axesOf(rows), [rows]);
  const kind = params.value.get("plot") ?? "parallel";
  if (runs.length < 2 || axes.length < 2) return null;
  const tell = (inside: boolean[] | null): void => onInside(inside && new Set(runs.filter((_, i) => inside[i]).map((run) => run.ref!.run)));
  const shades = runs.map((run) => lineStyle(palette.value, runs.length > 32 ? 0 : colors.get(run.ref!.run)!).color);
  const change = (value: string): void => {
    onInside(null);
    setParams({ plot: value === "parallel" ? "" : value });
  };
  return (
    <section id="explore">
      <div class="page-head">
        <h2>Explore</h2>
        <Select label="plot" value={kind} options={[["parallel", "parallel coordinates"], ["scatter", "scatter"], ["none", "none"]]} onChange={change} />
      </div>
      {kind === "parallel" && <Parallel axes={axes} colors={shades} onBrush={tell} />}
      {kind === "scatter" && <Scatter axes={axes} runs={runs} colors={shades} onBrush={tell} />}
    </section>
  );
}

const keyOf = (row: Difference): string => `${row.kind}.${row.name}`;

function Parallel({ axes, colors, onBrush }: { axes: readonly Difference[]; colors: readonly string[]; onBrush: (inside: boolean[] | null) => void }) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<ParallelPlot | null>(null);
  const latest = useRef(onBrush);
  latest.current = onBrush;
  const [left, setLeft] = useState<number | null>(null);
  const asked = params.value.get("axes");
  const names = asked ? asked.split("\n") : axes.slice(0, FIRST_AXES).map(keyOf);
  const shown = names.map((name) => axes.find((row) => keyOf(row) === name)).filter((row) => row !== undefined);
  useEffect(() => {
    plot.current = new ParallelPlot(host.current!, palette.peek(), (inside) => {
      setLeft(inside && inside.filter(Boolean).length);
      latest.current(inside);
    });
    return () => plot.current?.destroy();
  }, []);
  useEffect(() => plot.current?.set(shown.map((row) => ({ name: row.name, values: row.cells })), colors, palette.value));
  return (
    <>
      <div class="controls flat">
        <Popover label="Axes" title="Choose the axes">
          {() => (
            <div class="choices">
              {axes.map((row) => {
                const key = keyOf(row);
                return (
                  <div key={key} class="choice">
                    <label>
                      <input
                        type="checkbox" checked={names.includes(key)} disabled={!names.includes(key) && names.length >= MOST_AXES}
                        onChange={(event) => setParams({ axes: (event.currentTarget.checked ? [...names, key] : names.filter((name) => name !== key)).join("\n") })}
                      />
                      <Text text={`${row.name} (${row.kind})`} />
                    </label>
                  </div>
                );
              })}
            </div>
          )}
        </Popover>
        <span class="quiet">Drag along an axis to keep a part of it; click the axis to let go.</span>
        {left !== null && (
          <>
            <span role="status">{count(left)} of {plural(colors.length, "run")} kept</span>
            <button type="button" class="small" onClick={() => plot.current?.clear()}>Let go of all</button>
          </>
        )}
      </div>
      <div class="explore-canvas" ref={host} role="img" aria-label={`Parallel coordinates of ${shown.map((row) => row.name).join(", ")}`} />
    </>
  );
}

function Scatter({ axes, runs, colors, onBrush }: {
  axes: readonly Difference[]; runs: readonly Run[]; colors: readonly string[]; onBrush: (inside: boolean[] | null) => void;
}) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<ScatterPlot | null>(null);
  const latest = useRef(onBrush);
  latest.current = onBrush;
  const numeric = axes.filter((row) => row.cells.some((cell) => typeof cell === "number"));
  const pick = (name: string | null, other: number): Difference | undefined => numeric.find((row) => keyOf(row) === name) ?? numeric[other];
  const x = pick(params.value.get("sx"), 0);
  const y = pick(params.value.get("sy"), Math.max(0, numeric.findIndex((row) => row.kind === "metric")) || Math.min(1, numeric.length - 1));
  useEffect(() => {
    plot.current = new ScatterPlot(host.current!, palette.peek(), (inside) => latest.current(inside));
    return () => plot.current?.destroy();
  }, []);
  useEffect(() => {
    if (!x || !y) return;
    const numbers = (row: Difference): number[] => row.cells.map((cell) => (typeof cell === "number" ? cell : NaN));
    plot.current?.set(
      { xName: x.name, yName: y.name, x: numbers(x), y: numbers(y), colors, labels: runs.map((run) => run.displayName || run.ref!.run) },
      palette.value,
    );
  });
  const options = numeric.map((row) => [keyOf(row), row.name] as const);
  return (
    <>
      <div class="controls flat">
        {x && <Select label="x" value={keyOf(x)} options={options} onChange={(value) => setParams({ sx: value })} />}
        {y && <Select label="y" value={keyOf(y)} options={options} onChange={(value) => setParams({ sy: value })} />}
        <span class="quiet">Drag to keep the runs in a rectangle; click to let go.</span>
      </div>
      <div class="explore-canvas" ref={host} role="img" aria-label={`Scatter of ${y?.name ?? ""} over ${x?.name ?? ""}`} />
    </>
  );
}
