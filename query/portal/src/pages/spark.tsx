// Small lines and bars in tables.

import { barsPath, sparkPath } from "../charts/spark";

export function Bars({ values, label }: { values: readonly number[]; label: string }) {
  const [width, height] = [120, 20];
  return (
    <svg class="bars" width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label}>
      <title>{`${label}: ${values.join(", ")}`}</title>
      <path d={`M0 ${height - 0.5}h${width}`} class="bars-base" />
      <path d={barsPath(values, width, height)} class="bars-bars" />
    </svg>
  );
}

export function Spark({ values, label }: { values: readonly number[]; label: string }) {
  const [width, height] = [96, 22];
  return (
    <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label}>
      <path d={sparkPath(values, width, height)} />
    </svg>
  );
}
