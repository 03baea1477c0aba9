// Smoothing: an exponential average without the pull of its start.

/** The average of `y` with `weight` (0 to 1, exclusive) on what was before. NaN stays NaN and changes nothing. */
export function smoothed(y: ArrayLike<number>, weight: number): Float64Array {
  const out = new Float64Array(y.length);
  let average = 0;
  let share = 0;
  for (let i = 0; i < y.length; i++) {
    const value = y[i]!;
    if (Number.isFinite(value)) {
      average = average * weight + value * (1 - weight);
      share = share * weight + (1 - weight);
      out[i] = average / share;
    } else out[i] = NaN;
  }
  return out;
}
