// Light and dark: as the system says, unless the reader chose.

import { effect, signal } from "@preact/signals";
import { DARK, LIGHT, type Palette } from "../charts/palette";

export type Choice = "system" | "light" | "dark";
const KEY = "runstream-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function stored(): Choice {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system";
  }
}

export const choice = signal<Choice>(stored());
const systemDark = signal(system.matches);
system.addEventListener("change", () => (systemDark.value = system.matches));

export const palette = signal<Palette>(LIGHT);

effect(() => {
  const dark = choice.value === "dark" || (choice.value === "system" && systemDark.value);
  document.documentElement.dataset["theme"] = dark ? "dark" : "light";
  palette.value = dark ? DARK : LIGHT;
  try {
    if (choice.value === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, choice.value);
  } catch {
    // A browser that stores nothing still shows both.
  }
});

export function nextTheme(): void {
  choice.value = choice.value === "system" ? "light" : choice.value === "light" ? "dark" : "system";
}
