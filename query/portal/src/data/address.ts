// Addresses: every view is a link. Paths are those that scripts make offline; the rest is in the query.

export type RunTab = "overview" | "metrics" | "tables" | "images" | "system" | "logs" | "files" | "source" | "children" | "attempts" | "ledger";

export const RUN_TABS: readonly RunTab[] = [
  "overview", "metrics", "tables", "images", "system", "logs", "files", "source", "children", "attempts", "ledger",
];

export type Route =
  | { page: "experiments"; workspace: string }
  | { page: "runs"; workspace: string; experiment: string }
  | { page: "run"; workspace: string; run: string; tab: RunTab }
  | { page: "compare"; workspace: string; runs: string[] }
  | { page: "models"; workspace: string; model: string }
  | { page: "health" }
  | { page: "nowhere" };

/** The route of a path below the prefix; `query` as it stands after the question mark. */
export function routeOf(path: string, query: string): Route {
  const parts = path.split("/").filter(Boolean).map(decoded);
  const [first, workspace = "", kind, name = "", tab = "overview"] = parts;
  if (first === undefined) return { page: "experiments", workspace: "" };
  if (first === "compare" && parts.length === 1) return compare("", query);
  if (first === "health" && parts.length === 1) return { page: "health" };
  if (first !== "w" || !workspace) return { page: "nowhere" };
  if (kind === undefined) return { page: "experiments", workspace };
  if (kind === "compare" && parts.length === 3) return compare(workspace, query);
  if (kind === "models" && parts.length <= 4) return { page: "models", workspace, model: name };
  if (kind === "e" && name && parts.length === 4) return { page: "runs", workspace, experiment: name };
  if (kind === "r" && name && parts.length <= 5 && (RUN_TABS as readonly string[]).includes(tab)) {
    return { page: "run", workspace, run: name, tab: tab as RunTab };
  }
  return { page: "nowhere" };
}

function compare(workspace: string, query: string): Route {
  const runs = (new URLSearchParams(query).get("runs") ?? "").split(",").filter(Boolean);
  return { page: "compare", workspace, runs: [...new Set(runs)] };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const quoted = (text: string): string => encodeURIComponent(text);

export function experimentsPath(workspace = ""): string {
  return workspace ? `/w/${quoted(workspace)}` : "/";
}

export function experimentPath(workspace: string, experiment: string): string {
  return `/w/${quoted(workspace)}/e/${quoted(experiment)}`;
}

export function runPath(workspace: string, run: string, tab: RunTab = "overview"): string {
  const base = `/w/${quoted(workspace)}/r/${quoted(run)}`;
  return tab === "overview" ? base : `${base}/${tab}`;
}

export function modelsPath(workspace: string, model = ""): string {
  return `/w/${quoted(workspace)}/models${model ? `/${quoted(model)}` : ""}`;
}

export const HEALTH_PATH = "/health";

export function comparePath(workspace: string, runs: readonly string[]): string {
  return `/w/${quoted(workspace)}/compare?runs=${runs.map(quoted).join(",")}`;
}

/** A range in the query: "10..500". */
export function rangeText(range: { min: number; max: number } | null): string {
  return range ? `${compact(range.min)}..${compact(range.max)}` : "";
}

const compact = (value: number): string => String(Number(value.toPrecision(9)));

export function rangeOf(text: string): { min: number; max: number } | null {
  const [min, max] = text.split("..").map(Number);
  return text.includes("..") && min! < max! ? { min: min!, max: max! } : null;
}
