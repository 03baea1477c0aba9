// The children of a run as points: a metric over what varies among them.

export interface ChildValues {
  parameters: Record<string, string | null>;
  metrics: Record<string, number | null>;
}

/** Metrics of the children, those that most of them have first. */
export function childMetrics(children: readonly ChildValues[]): string[] {
  const counts = new Map<string, number>();
  for (const child of children) {
    for (const name of Object.keys(child.metrics)) {
      if (!name.startsWith("system/")) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  return [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).map(([name]) => name);
}

/** Parameters that are numbers wherever they are, and not the same everywhere. */
export function varying(children: readonly ChildValues[]): string[] {
  const names = new Set(children.flatMap((child) => Object.keys(child.parameters)));
  return [...names].sort().filter((name) => {
    const texts = children.map((child) => child.parameters[name]).filter((text) => text != null);
    const values = texts.map(Number);
    return values.length > 1 && texts.every((text) => text.trim() !== "") && values.every(Number.isFinite) && new Set(values).size > 1;
  });
}

/** Points by x, from left to right. Without a parameter x is the place in the order in which they are given. */
export function childPoints(children: readonly ChildValues[], metric: string, parameter: string): { x: Float64Array; y: Float64Array } {
  const points = children.flatMap((child, place) => {
    const y = child.metrics[metric];
    const text = child.parameters[parameter];
    const x = parameter ? (text == null || text.trim() === "" ? NaN : Number(text)) : place + 1;
    return y == null || !Number.isFinite(x) ? [] : [[x, y] as const];
  });
  points.sort(([a], [b]) => a - b);
  return { x: Float64Array.from(points, ([x]) => x), y: Float64Array.from(points, ([, y]) => y) };
}
