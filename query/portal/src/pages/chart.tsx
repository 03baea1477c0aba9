// A chart on a page: reads when it is near the screen, asks again when zoomed, draws with the chart package.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { isBlank, type PlotLine, type View } from "../charts/draw";
import { csvOfLines, save } from "../charts/export";
import type { Linked } from "../charts/linked";
import { LinePlot } from "../charts/plot";
import type { Range } from "../charts/scale";
import { Dialog, Popover, Text } from "./parts";
import { palette } from "./theme";

/** Whether an element is, or was, near the screen. */
export function useNear<T extends Element>(): [{ current: T | null }, boolean] {
  const ref = useRef<T>(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    const watcher = new IntersectionObserver(
      (entries) => setNear(entries.some((entry) => entry.isIntersecting)),
      { rootMargin: "300px 0px" },
    );
    if (ref.current) watcher.observe(ref.current);
    return () => watcher.disconnect();
  }, []);
  return [ref, near];
}

interface Drawn {
  lines: readonly PlotLine[];
  view: View;
  linked?: Linked | undefined;
  onZoom: (range: Range | null) => void;
  onWidth?: ((width: number) => void) | undefined;
  label: string;
  plotRef?: { current: LinePlot | null };
}

/** The canvas. One plot for its whole life; new lines are set into it. */
export function Plot({ lines, view, linked, onZoom, onWidth, label, plotRef }: Drawn) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<LinePlot | null>(null);
  const events = useRef({ onZoom, linked });
  events.current = { onZoom, linked };
  useEffect(() => {
    const made: LinePlot = new LinePlot(host.current!, palette.peek(), {
      onZoom: (range) => events.current.onZoom(range),
      onCursor: (x) => events.current.linked?.tell(made, x),
    });
    plot.current = made;
    if (plotRef) plotRef.current = made;
    const leave = linked?.add(made);
    onWidth?.(made.plotWidth);
    const unwatch = palette.subscribe((value) => made.setPalette(value));
    return () => {
      unwatch();
      leave?.();
      made.destroy();
      plot.current = null;
    };
  }, [linked]);
  useEffect(() => plot.current?.set(lines, view), [lines, view]);
  return <div class="chart-canvas" ref={host} role="img" aria-label={label} tabIndex={0} data-testid="plot" />;
}

export interface ChartProps {
  title: string;
  /** After the title: last value and the like. */
  figure?: ComponentChildren;
  description?: string;
  lines: readonly PlotLine[];
  view: View;
  linked?: Linked | undefined;
  onZoom: (range: Range | null) => void;
  onWidth?: ((width: number) => void) | undefined;
  note?: ComponentChildren;
  /** Says that what is drawn is being replaced. */
  loading?: boolean | undefined;
  legend?: ComponentChildren;
  controls?: ComponentChildren;
}

export function Chart(props: ChartProps) {
  const { title, figure, description, lines, view, note, loading, legend, controls } = props;
  const [large, setLarge] = useState(false);
  const plot = useRef<LinePlot | null>(null);
  const label = useMemo(() => summary(title, lines, view), [title, lines, view]);
  const blank = useMemo(() => !loading && view.zoom !== null && isBlank(lines, view.zoom), [loading, lines, view]);
  const exportAs = async (kind: "png" | "svg" | "csv"): Promise<void> => {
    if (kind === "csv") save(`${title}.csv`, new Blob([csvOfLines(lines, view.xKind === "time" ? "time_ms" : view.xKind === "duration" ? "after_ms" : view.xLabel)], { type: "text/csv" }));
    else if (kind === "svg") save(`${title}.svg`, new Blob([plot.current?.toSvg() ?? ""], { type: "image/svg+xml" }));
    else {
      const png = await plot.current?.toPng();
      if (png) save(`${title}.png`, png);
    }
  };
  const body = (
    <>
      <Plot {...props} label={label} plotRef={plot} />
      {legend}
      {(blank || note) && <p class="chart-note">{blank && "It has no value in what is shown. "}{note}</p>}
    </>
  );
  return (
    <figure class="chart" aria-busy={loading ? "true" : undefined} data-chart={title}>
      <figcaption>
        <Text text={title} class="chart-title" />
        {figure && <span class="chart-figure">{figure}</span>}
        {controls}
        {view.zoom && (
          <button type="button" class="plain small" onClick={() => props.onZoom(null)} title="Show all (double-click)">
            reset
          </button>
        )}
        <Popover label="⋯" title={`Options of ${title}`} class="chart-menu" end>
          {(close) => (
            <ul class="menu">
              <li><button type="button" onClick={() => { close(); setLarge(true); }}>Enlarge</button></li>
              {(["png", "svg", "csv"] as const).map((kind) => (
                <li key={kind}>
                  <button type="button" onClick={() => { close(); void exportAs(kind); }}>Save as {kind.toUpperCase()}</button>
                </li>
              ))}
            </ul>
          )}
        </Popover>
      </figcaption>
      {description && <p class="chart-description"><Text text={description} /></p>}
      {large ? (
        <>
          <div class="chart-canvas" />
          <Dialog title={title} close={() => setLarge(false)} wide>
            <div class="chart-large">{body}</div>
          </Dialog>
        </>
      ) : (
        body
      )}
    </figure>
  );
}

/** What the chart says, for those who do not see it. */
function summary(title: string, lines: readonly PlotLine[], view: View): string {
  const entries = lines.reduce((sum, line) => sum + line.x.length, 0);
  if (!entries) return `${title}: no values to draw`;
  let low = Infinity;
  let high = -Infinity;
  for (const line of lines) {
    for (let i = 0; i < line.x.length; i++) {
      if (line.min[i]! < low) low = line.min[i]!;
      if (line.max[i]! > high) high = line.max[i]!;
    }
  }
  const span = low <= high ? `, from ${low} to ${high}` : "";
  const count = lines.length === 1 ? "a line" : `${lines.length} lines`;
  return `${title}: ${count} over ${view.xKind === "duration" ? "the time since its start" : view.xLabel}${span}`;
}
