// Files of runs: where they are, what they are, and the tree that they form.

import type { Artifact } from "../api/gen/artifact_service_pb";

const PREFIX = "aml://artifactId/ExperimentRun/dcid.";

/** Run and path of a file that stands among metrics; null for other values. */
export function parseUri(value: unknown): { run: string; path: string } | null {
  if (typeof value !== "string" || !value.startsWith(PREFIX)) return null;
  const rest = value.slice(PREFIX.length);
  const slash = rest.indexOf("/");
  if (slash < 0 || slash === rest.length - 1) return null;
  try {
    return { run: decodeURIComponent(rest.slice(0, slash)), path: decodeURIComponent(rest.slice(slash + 1)) };
  } catch {
    return null;
  }
}

/** The address of a file's bytes, below the portal's prefix. */
export function filePath(workspace: string, run: string, path: string, version = 0): string {
  const parts = path.split("/").map(encodeURIComponent).join("/");
  return `/w/${encodeURIComponent(workspace)}/r/${encodeURIComponent(run)}/files/${parts}${version ? `?version=${version}` : ""}`;
}

export type FileKind = "image" | "csv" | "json" | "markdown" | "text" | "media" | "other";

const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/avif"]);
const TEXTS = /\.(txt|log|py|ya?ml|toml|ini|cfg|sh|r|c|h|cpp|rs|go|js|ts|html?|xml|css|sql|ipynb|env|dockerfile|gitignore|err|out)$/i;

/** How a file is shown. What is not known is only downloaded. */
export function fileKind(path: string, mediaType: string): FileKind {
  const media = mediaType.split(";")[0]!.trim().toLowerCase();
  if (IMAGES.has(media)) return "image";
  if (/^(audio|video)\//.test(media)) return "media";
  if (media === "text/csv" || media === "text/tab-separated-values" || /\.(csv|tsv)$/i.test(path)) return "csv";
  if (media === "application/json" || /\.json$/i.test(path)) return "json";
  if (media === "text/markdown" || /\.(md|markdown)$/i.test(path)) return "markdown";
  if (media.startsWith("text/") || media === "image/svg+xml" || media === "application/yaml" || media === "application/toml" || TEXTS.test(path)) return "text";
  if (media === "" && /\.(png|jpe?g|gif|webp|bmp|avif)$/i.test(path)) return "image";
  return "other";
}

/** A file with its place and size in bytes. */
export interface Sized {
  path: string;
  size: bigint | number;
}

export interface Folder<T extends Sized = Artifact> {
  name: string;
  path: string;
  folders: Folder<T>[];
  files: T[];
  size: number;
  count: number;
}

const DEEPEST = 64;

const NAMES = new Intl.Collator("en", { numeric: true });
const stem = (path: string): string => path.replace(/\.[^./]*$/, "");

/** In the order sample.png, sample_2.png, sample_10.png. */
export function byName(a: string, b: string): number {
  return NAMES.compare(stem(a), stem(b)) || NAMES.compare(a, b);
}

/** Files as folders, by name. What lies deeper than 64 folders has the rest of its path as its name. */
export function treeOf<T extends Sized>(files: readonly T[]): Folder<T> {
  const root: Folder<T> = { name: "", path: "", folders: [], files: [], size: 0, count: 0 };
  const known = new Map<string, Folder<T>>([["", root]]);
  const folder = (path: string): Folder<T> => {
    const found = known.get(path);
    if (found) return found;
    const above = parentOf(path);
    const made: Folder<T> = { name: path.slice(above ? above.length + 1 : 0), path, folders: [], files: [], size: 0, count: 0 };
    known.set(path, made);
    folder(above).folders.push(made);
    return made;
  };
  for (const file of files) {
    let path = parentOf(file.path);
    folder(path).files.push(file);
    for (;;) {
      const one = folder(path);
      one.size += Number(file.size);
      one.count++;
      if (!path) break;
      path = parentOf(path);
    }
  }
  for (const one of known.values()) {
    one.folders.sort((a, b) => NAMES.compare(a.name, b.name));
    one.files.sort((a, b) => byName(a.path, b.path));
  }
  return root;
}

function parentOf(path: string): string {
  let end = -1;
  for (let depth = 0; depth < DEEPEST; depth++) {
    const next = path.indexOf("/", end + 1);
    if (next < 0) break;
    end = next;
  }
  return path.slice(0, Math.max(0, end));
}

/** The name of a file within its folder. */
export function nameIn(folder: { path: string }, path: string): string {
  return folder.path ? path.slice(folder.path.length + 1) : path;
}
