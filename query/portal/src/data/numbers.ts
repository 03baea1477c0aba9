// Numbers for people. The exact value belongs in a tooltip.

const FORMATS: Intl.NumberFormat[] = [];

/** A number with separators and at most so many decimals. Making a format takes longer than using it a hundred times: each is made once. */
export function decimal(value: number | bigint, most: number, least = 0): string {
  const at = 32 * least + most;
  return (FORMATS[at] ??= new Intl.NumberFormat("en-US", { maximumFractionDigits: most, minimumFractionDigits: least })).format(value);
}

/** A whole number with separators. */
export function count(value: number | bigint): string {
  return decimal(value, 0);
}

/** "1 run", "2 runs". */
export function plural(value: number | bigint, one: string, many = `${one}s`): string {
  return `${count(value)} ${Number(value) === 1 ? one : many}`;
}

/** The shortest text that reads back as the same number. */
export function exact(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "−Inf";
  return Object.is(value, -0) ? "−0" : String(value).replace("-", "−");
}

/** About `digits` significant digits, without zeros that say nothing. */
export function short(value: number, digits = 5): string {
  if (!Number.isFinite(value) || value === 0) return exact(value);
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e9) return count(value).replace("-", "−");
  if (size >= 1e9 || size < 1e-4) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e") as [string, string];
    const trimmed = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
    return `${trimmed}e${exponent.replace("+", "")}`.replaceAll("-", "−");
  }
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return decimal(value, Math.min(decimals, 20)).replace("-", "−");
}

/** Digits that tell the different ones of these numbers apart: at least 5, at most 12. */
export function tellingDigits(values: readonly number[]): number {
  const different = [...new Set(values.filter((value) => Number.isFinite(value)))];
  for (let digits = 5; digits < 12; digits++) {
    if (new Set(different.map((value) => short(value, digits))).size === different.length) return digits;
  }
  return 12;
}

/** Bytes in units of 1,000. */
export function bytes(value: number | bigint): string {
  let size = Number(value);
  if (size < 1000) return `${size} B`;
  for (const unit of ["kB", "MB", "GB", "TB"]) {
    size /= 1000;
    if (size < 999.5) return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${unit}`;
  }
  return `${Math.round(size / 1000)} PB`;
}
