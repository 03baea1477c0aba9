// Elements of metrics as JavaScript values, and the tables that they form.

import type { MetricChunk } from "../api/gen/query_service_pb";
import { ValueType } from "../api/gen/point_pb";

export type Value = number | bigint | boolean | string | null;

/** The elements of a chunk; a declaration has none. */
export function valuesOf(chunk: MetricChunk): Value[] {
  const values: Value[] = [];
  let doubles = 0;
  let integers = 0;
  for (let i = 0; i < chunk.count; i++) {
    switch (chunk.type.length ? chunk.type[i]! : ValueType.DOUBLE) {
      case ValueType.DOUBLE:
        values.push(chunk.doubles[doubles++]!);
        break;
      case ValueType.INT64: {
        const integer = chunk.integers[integers++]!;
        values.push(safe(integer));
        break;
      }
      case ValueType.BOOL:
        values.push(chunk.integers[integers++] === 1n);
        break;
      case ValueType.STRING:
        values.push(chunk.strings[Number(chunk.integers[integers++])] ?? "");
        break;
      case ValueType.BIG_INTEGER:
        values.push(BigInt(chunk.strings[Number(chunk.integers[integers++])] ?? "0"));
        break;
      case ValueType.NONE:
        values.push(null);
        break;
      default:
    }
  }
  return values;
}

function safe(integer: bigint): number | bigint {
  const number = Number(integer);
  return Number.isSafeInteger(number) ? number : integer;
}

/** The elements that can be drawn, and their places in the chunk. */
export function numbersOf(chunk: MetricChunk): { values: Float64Array; at: Uint32Array } {
  if (chunk.type.length === 0) {
    return { values: Float64Array.from(chunk.doubles), at: Uint32Array.from({ length: chunk.count }, (_, i) => i) };
  }
  const values = new Float64Array(chunk.count);
  const at = new Uint32Array(chunk.count);
  let doubles = 0;
  let integers = 0;
  let to = 0;
  for (let i = 0; i < chunk.count; i++) {
    const type = chunk.type[i]!;
    let value = NaN;
    let drawn = true;
    if (type === ValueType.DOUBLE) value = chunk.doubles[doubles++]!;
    else if (type === ValueType.INT64 || type === ValueType.BOOL) value = Number(chunk.integers[integers++]);
    else {
      drawn = false;
      if (type === ValueType.STRING || type === ValueType.BIG_INTEGER) integers++;
    }
    if (drawn) {
      values[to] = value;
      at[to++] = i;
    }
  }
  return { values: values.subarray(0, to), at: at.subarray(0, to) };
}

export interface Table {
  columns: string[];
  /** Row numbers, rising. */
  rows: number[];
  /** By column, then by place in `rows`; undefined where a row has no such cell. */
  cells: (Value | undefined)[][];
}

/** The rows of one metric, from its chunks of all columns. */
export function tableOf(chunks: readonly MetricChunk[]): Table {
  const byColumn = new Map<string, Map<number, Value>>();
  for (const chunk of chunks) {
    const cells = byColumn.get(chunk.column) ?? new Map<number, Value>();
    byColumn.set(chunk.column, cells);
    const values = valuesOf(chunk);
    const first = Number(chunk.firstRow);
    values.forEach((value, i) => cells.set(first + (chunk.rowOffset[i] ?? i), value));
  }
  const columns = [...byColumn.keys()];
  const rows = [...new Set([...byColumn.values()].flatMap((cells) => [...cells.keys()]))].sort((a, b) => a - b);
  return { columns, rows, cells: columns.map((name) => rows.map((row) => byColumn.get(name)!.get(row))) };
}

/** Whether all that a column has are numbers that can be drawn. */
export function isNumeric(cells: readonly (Value | undefined)[]): boolean {
  let any = false;
  for (const cell of cells) {
    if (cell === undefined || cell === null) continue;
    if (typeof cell !== "number" && typeof cell !== "boolean" && typeof cell !== "bigint") return false;
    any = true;
  }
  return any;
}

/** A drawable number, or NaN. */
export function asNumber(cell: Value | undefined): number {
  if (typeof cell === "number") return cell;
  if (typeof cell === "bigint" || typeof cell === "boolean") return Number(cell);
  return NaN;
}
