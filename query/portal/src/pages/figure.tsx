// A confusion matrix and the like, drawn as what it is.

import { useMemo, useState } from "preact/hooks";
import type { PlotLine, View } from "../charts/draw";
import { lineStyle, type Palette } from "../charts/palette";
import type { Range } from "../charts/scale";
import type { Figure } from "../data/figures";
import { count, short } from "../data/numbers";
import { Chart } from "./chart";
import { Legend } from "./metric-chart";
import { Text } from "./parts";
import { palette } from "./theme";

export function FigureOf({ title, figure }: { title: string; figure: Figure }) {
  switch (figure.kind) {
    case "confusion_matrix":
      return <Matrix title={title} labels={figure.labels} matrix={figure.matrix} />;
    case "accuracy_table":
      return (
        <>
          <Lines title={`${title}: ROC`} xLabel="false positive rate" make={(colors) => [
            ...figure.curves.map((curve, i) => lineOf(curve.label, curve.roc.fpr, curve.roc.tpr, colors, i)),
          ]} />
          <Lines title={`${title}: precision and recall`} xLabel="recall" make={(colors) => figure.curves.map((curve, i) => lineOf(curve.label, curve.precisionRecall.recall, curve.precisionRecall.precision, colors, i))} />
        </>
      );
    case "residuals":
      return <Lines title={title} xLabel="residual" make={(colors) => [histogram(figure.edges, figure.counts, colors)]} />;
    case "predictions":
      return (
        <Lines title={title} xLabel="true value" make={(colors) => [
          dashed(lineOf("as true", figure.centres, figure.centres, colors, 7)),
          banded(lineOf("predicted", figure.centres, figure.averages, colors, 0), figure.errors),
        ]} />
      );
  }
}

function lineOf(label: string, x: readonly number[], y: readonly number[], colors: Palette, number: number): PlotLine {
  const values = Float64Array.from(y);
  return { label, style: lineStyle(colors, number), x: Float64Array.from(x), y: values, min: values, max: values, flags: new Uint8Array(x.length), dots: x.length <= 60 };
}

function dashed(line: PlotLine): PlotLine {
  return { ...line, style: { ...line.style, dash: [4, 4] }, dots: false };
}

function banded(line: PlotLine, errors: readonly number[]): PlotLine {
  return { ...line, min: line.y.map((value, i) => value - errors[i]!), max: line.y.map((value, i) => value + errors[i]!) };
}

/** Counts between edges, as a line with the area below it. */
function histogram(edges: readonly number[], counts: readonly number[], colors: Palette): PlotLine {
  const x = [edges[0]!, ...counts.flatMap((_, i) => [edges[i]!, edges[i + 1]!]), edges.at(-1)!];
  const y = [0, ...counts.flatMap((value) => [value, value]), 0];
  const line = lineOf("count", x, y, colors, 0);
  return { ...line, dots: false, min: new Float64Array(x.length), max: line.y };
}

function Lines({ title, xLabel, make }: { title: string; xLabel: string; make: (colors: Palette) => PlotLine[] }) {
  const [zoom, setZoom] = useState<Range | null>(null);
  const lines = useMemo(() => make(palette.value), [palette.value, title]);
  const view: View = useMemo(() => ({ xKind: "linear", yKind: "linear", zoom, xLabel }), [zoom, xLabel]);
  return (
    <div class="chart-slot">
      <Chart title={title} lines={lines} view={view} onZoom={setZoom} figure={<span class="quiet">{xLabel}</span>} legend={lines.length > 1 ? <Legend lines={lines} /> : undefined} />
    </div>
  );
}

function Matrix({ title, labels, matrix }: { title: string; labels: readonly string[]; matrix: readonly (readonly number[])[] }) {
  const most = Math.max(1, ...matrix.flat().filter(Number.isFinite));
  return (
    <figure class="chart matrix" data-chart={title}>
      <figcaption><Text text={title} class="chart-title" /><span class="chart-figure">true ↓ predicted →</span></figcaption>
      <div class="scroll" tabIndex={0} role="region" aria-label={title}>
        <table>
          <thead><tr><td />{labels.map((label) => <th key={label} scope="col"><Text text={label} /></th>)}</tr></thead>
          <tbody>
            {matrix.map((row, i) => {
              const sum = row.reduce((a, b) => a + b, 0);
              return (
                <tr key={i}>
                  <th scope="row"><Text text={labels[i]!} /></th>
                  {row.map((value, j) => (
                    <td key={j} title={`${labels[i]} as ${labels[j]}: ${value} (${sum ? Math.round((100 * value) / sum) : 0} %)`}>
                      <i style={{ opacity: String(Math.min(1, Math.max(0, value / most)) * 0.5) }} />
                      <span>{Number.isInteger(value) ? count(value) : short(value, 4)}</span>
                    </td>
                  ))}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </figure>
  );
}
