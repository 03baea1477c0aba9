// api → data → charts → pages: a module imports only what is left of it. Charts know no framework. The widget is
// beside the pages, of which it takes styles only.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve, dirname } from "node:path";
import { expect, test } from "vitest";

const ROOT = resolve(import.meta.dirname, "../src");
const LAYERS = ["api", "data", "charts", "pages"];

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? (entry.name === "gen" ? [] : sources(path)) : /\.tsx?$/.test(path) ? [path] : [];
  });
}

const layerOf = (path: string): number => LAYERS.indexOf(relative(ROOT, path).split("/")[0]!);

test.each(sources(ROOT).map((path) => relative(ROOT, path)))("%s", (name) => {
  const path = join(ROOT, name);
  const layer = layerOf(path);
  if (layer < 0 && !name.startsWith("widget/")) return;
  const text = readFileSync(path, "utf8");
  for (const [, type, from] of text.matchAll(/^(?:import|export)\s+(type\s)?[^;]*?from\s+"([^"]+)"/gm)) {
    if (from!.startsWith(".")) {
      const target = layerOf(resolve(dirname(path), from!));
      if (layer >= 0) expect(target, `${name} imports ${from}`).toBeLessThanOrEqual(layer);
      else if (!from!.includes(".css")) expect(target, `${name} imports ${from}`).toBeLessThan(LAYERS.indexOf("pages"));
    } else if (layer >= 0 && layer < 3) {
      expect(from, name).not.toMatch(/preact/);
      if (layer === 2) expect(type === undefined && /connectrpc/.test(from!), name).toBe(false);
    }
  }
});
