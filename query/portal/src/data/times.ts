// Times and durations for people. Nanoseconds come as bigint and leave as milliseconds.

export function toMs(nanoseconds: bigint): number {
  return Number(nanoseconds / 1000n) / 1000;
}

const pad = (value: number): string => String(Math.floor(value)).padStart(2, "0");

/** "420 ms", "3.1 s", "31 s", "2 min 04 s", "3 h 12 min", "5 d 3 h". */
export function duration(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 0.9995) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
  const hours = Math.floor(minutes / 60);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago, in its largest unit. */
export function age(ms: number, nowMs: number): string {
  const seconds = Math.max(0, nowMs - ms) / 1000;
  if (seconds < 5) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  if (seconds < 30 * 86_400) return `${Math.floor(seconds / 86_400)} d`;
  if (seconds < 365 * 86_400) return `${Math.floor(seconds / (30 * 86_400))} mo`;
  return `${Math.floor(seconds / (365 * 86_400))} y`;
}

/** How long ago, within a sentence. */
export function ago(ms: number, nowMs: number): string {
  const since = age(ms, nowMs);
  return since === "now" ? "just now" : `${since} ago`;
}

/** Date and time on the reader's clock. */
export function moment(ms: number): string {
  const at = new Date(ms);
  if (Number.isNaN(at.getTime())) return "–";
  const date = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${date} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** Time of day on the reader's clock. */
export function clock(ms: number): string {
  return moment(ms).slice(11);
}
