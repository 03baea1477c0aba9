// Small lines and bars without axes, as paths of an SVG.

/** The path of a line through values in a box; NaN breaks it. Empty when nothing can be drawn. */
export function sparkPath(values: readonly number[], width: number, height: number): string {
  const finite = values.filter((value) => Number.isFinite(value));
  if (!finite.length) return "";
  const low = Math.min(...finite);
  const high = Math.max(...finite);
  const half = high / 2 - low / 2;
  const y = (value: number): number => (half ? height - 1 - ((value / 2 - low / 2) / half) * (height - 2) : height / 2);
  const step = values.length > 1 ? (width - 2) / (values.length - 1) : 0;
  let path = "";
  let drawing = false;
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) {
      drawing = false;
      return;
    }
    const x = 1 + i * step;
    path += `${drawing ? "L" : "M"}${x.toFixed(1)} ${y(value).toFixed(1)}`;
    // A value between two gaps shows as a dot.
    if (!drawing && !Number.isFinite(values[i + 1] ?? NaN)) path += "h0.01";
    drawing = true;
  });
  return path;
}

/** The path of bars from the bottom of a box. */
export function barsPath(values: readonly number[], width: number, height: number): string {
  const most = Math.max(1, ...values);
  const step = width / Math.max(1, values.length);
  return values
    .map((value, i) => {
      if (!value) return "";
      const tall = Math.max(1.5, (value / most) * height);
      return `M${(i * step).toFixed(1)} ${height}v${(-tall).toFixed(1)}h${Math.max(1, step - 1).toFixed(1)}v${tall.toFixed(1)}z`;
    })
    .join("");
}
