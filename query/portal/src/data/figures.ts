// Confusion matrices, accuracy tables, residuals and predictions, as they were logged: JSON with a schema_type.

export type Figure =
  | { kind: "confusion_matrix"; labels: string[]; matrix: number[][] }
  | { kind: "accuracy_table"; labels: string[]; curves: Curve[] }
  | { kind: "residuals"; edges: number[]; counts: number[] }
  | { kind: "predictions"; centres: number[]; averages: number[]; errors: number[]; counts: number[] };

export interface Curve {
  label: string;
  /** At falling thresholds. */
  roc: { fpr: number[]; tpr: number[] };
  precisionRecall: { recall: number[]; precision: number[] };
}

/** A figure; null for what is none, so that it is shown as the JSON that it is. */
export function figureOf(json: unknown): Figure | null {
  if (!isRecord(json) || !isRecord(json["data"])) return null;
  const data = json["data"];
  switch (json["schema_type"]) {
    case "confusion_matrix": {
      const matrix = rowsOf(data["matrix"]);
      const labels = textsOf(data["class_labels"]);
      if (!matrix || !matrix.length || matrix.some((row) => row.length !== matrix.length)) return null;
      return { kind: "confusion_matrix", matrix, labels: matrix.map((_, i) => labels[i] ?? String(i)) };
    }
    case "accuracy_table":
      return accuracy(data);
    case "residuals": {
      const edges = numbersOf(data["bin_edges"]);
      const counts = numbersOf(data["bin_counts"]);
      return edges && counts && edges.length === counts.length + 1 ? { kind: "residuals", edges, counts } : null;
    }
    case "predictions": {
      const edges = numbersOf(data["bin_edges"]);
      const averages = numbersOf(data["bin_averages"]);
      const errors = numbersOf(data["bin_errors"]);
      const counts = numbersOf(data["bin_counts"]);
      if (!edges || !averages || !errors || !counts || edges.length !== averages.length + 1) return null;
      return { kind: "predictions", centres: averages.map((_, i) => (edges[i]! + edges[i + 1]!) / 2), averages, errors, counts };
    }
    default:
      return null;
  }
}

function accuracy(data: Record<string, unknown>): Figure | null {
  const tables = Array.isArray(data["probability_tables"]) ? data["probability_tables"] : null;
  if (!tables) return null;
  const labels = textsOf(data["class_labels"]);
  const curves: Curve[] = [];
  for (const [at, table] of tables.entries()) {
    const rows = rowsOf(table);
    if (!rows || rows.some((row) => row.length < 4)) return null;
    const curve: Curve = { label: labels[at] ?? String(at), roc: { fpr: [], tpr: [] }, precisionRecall: { recall: [], precision: [] } };
    for (const row of [...rows].reverse()) {
      const [tp, fp, tn, fn] = row as [number, number, number, number];
      if (tp + fn > 0 && fp + tn > 0) {
        curve.roc.fpr.push(fp / (fp + tn));
        curve.roc.tpr.push(tp / (tp + fn));
      }
      if (tp + fp > 0 && tp + fn > 0) {
        curve.precisionRecall.recall.push(tp / (tp + fn));
        curve.precisionRecall.precision.push(tp / (tp + fp));
      }
    }
    curves.push(curve);
  }
  return curves.length ? { kind: "accuracy_table", labels, curves } : null;
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

function numberOf(value: unknown): number {
  if (typeof value === "number") return value;
  return value === "Infinity" ? Infinity : value === "-Infinity" ? -Infinity : NaN;
}

const numbersOf = (value: unknown): number[] | null => (Array.isArray(value) ? value.map(numberOf) : null);
const textsOf = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

function rowsOf(value: unknown): number[][] | null {
  if (!Array.isArray(value)) return null;
  const rows = value.map(numbersOf);
  return rows.every((row) => row !== null) ? rows : null;
}
