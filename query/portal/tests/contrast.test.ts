// Text is readable and lines can be told apart, in both themes, also by those who see fewer colours.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { DARK, LIGHT } from "../src/charts/palette";

const css = readFileSync(new URL("../src/pages/styles/tokens.css", import.meta.url), "utf8");

function tokens(selector: string): Record<string, string> {
  const block = css.slice(css.indexOf(selector));
  return Object.fromEntries([...block.slice(0, block.indexOf("}")).matchAll(/--([a-z-]+):\s*(#[0-9a-f]{6})/g)].map((m) => [m[1]!, m[2]!]));
}

type Rgb = [number, number, number];
const channels = (hex: string): Rgb => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255) as Rgb;
const linear = (rgb: Rgb): Rgb => rgb.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)) as Rgb;
const luminance = ([r, g, b]: Rgb): number => 0.2126 * r + 0.7152 * g + 0.0722 * b;

function contrast(a: string, b: string): number {
  const [x, y] = [a, b].map((hex) => luminance(linear(channels(hex)))).sort((p, q) => q - p) as [number, number];
  return (x + 0.05) / (y + 0.05);
}

const themes = { light: tokens(":root {"), dark: tokens(':root[data-theme="dark"]') };

test.each(Object.entries(themes))("text in the %s theme", (_, theme) => {
  for (const ground of ["bg", "sunken", "raised", "hover", "chosen"]) {
    for (const ink of ["fg", "quiet", "accent", "good", "bad", "wait", "magenta", "cyan"]) {
      expect(contrast(theme[ink]!, theme[ground]!), `${ink} on ${ground}`).toBeGreaterThanOrEqual(4.5);
    }
  }
  expect(contrast(theme["on-accent"]!, theme["accent"]!)).toBeGreaterThanOrEqual(4.5);
  expect(contrast(theme["edge"]!, theme["bg"]!), "borders of fields").toBeGreaterThanOrEqual(3);
});

test("canvas colours are those of the page", () => {
  expect(LIGHT.background).toBe(themes.light["bg"]);
  expect(DARK.background).toBe(themes.dark["bg"]);
});

// Machado, Oliveira, Fernandes 2009, severity 1.
const SEEN: Record<string, number[][]> = {
  "all colours": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
};

function lab(hex: string, matrix: number[][]): Rgb {
  const rgb = linear(channels(hex));
  const seen = matrix.map((row) => Math.min(1, Math.max(0, row[0]! * rgb[0] + row[1]! * rgb[1] + row[2]! * rgb[2])));
  const [r, g, b] = seen as Rgb;
  const f = (t: number): number => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
  const y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
  const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const distance = (a: Rgb, b: Rgb): number => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);

test.each([["light", LIGHT], ["dark", DARK]] as const)("lines in the %s theme", (_, palette) => {
  for (const color of palette.lines) expect(contrast(color, palette.background), color).toBeGreaterThanOrEqual(3);
  for (const [name, matrix] of Object.entries(SEEN)) {
    palette.lines.forEach((a, i) => {
      for (const b of palette.lines.slice(i + 1)) {
        expect(distance(lab(a, matrix), lab(b, matrix)), `${a} and ${b} with ${name}`).toBeGreaterThanOrEqual(25);
      }
    });
  }
});
