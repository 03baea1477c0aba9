// The widget of a notebook: one module for anywidget. Its styles and the notebook's do not touch each other.

import { render as show } from "preact";
import { DARK, LIGHT } from "../charts/palette";
import base from "../pages/styles/base.css?inline";
import charts from "../pages/styles/charts.css?inline";
import parts from "../pages/styles/parts.css?inline";
import run from "../pages/styles/run.css?inline";
import tables from "../pages/styles/tables.css?inline";
import tokens from "../pages/styles/tokens.css?inline";
import own from "./widget.css?inline";
import { ownKeys } from "./keys";
import { Pulse } from "./pulse";
import { isDark, onTheme } from "./theme";
import type { Model } from "./state";
import { Widget } from "./widget";
import { Wishes } from "./wishes";

const STYLES = [
  tokens.replace(/:root\[data-theme="?dark"?\]/g, ":host([data-theme=dark])").replaceAll(":root", ":host"),
  base, parts, charts, tables, run, own,
].join("\n");

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  el.dataset["runstream"] = "";
  const root = el.attachShadow({ mode: "open" });
  const style = document.createElement("style");
  style.textContent = STYLES;
  const place = document.createElement("div");
  place.className = "runstream";
  root.append(style, place);
  const wishes = new Wishes(model);
  let frame = 0;
  const draw = (): void => {
    frame = 0;
    const dark = isDark(el);
    el.dataset["theme"] = dark ? "dark" : "light";
    show(<Widget model={model} wishes={wishes} palette={dark ? DARK : LIGHT} lost={pulse.isLost()} />, place);
  };
  const later = (): void => {
    frame ||= requestAnimationFrame(draw);
  };
  const pulse = new Pulse(model, later);
  const unwatch = onTheme(later);
  const free = ownKeys(el, root);
  draw();
  return () => {
    unwatch();
    free();
    cancelAnimationFrame(frame);
    pulse.close();
    wishes.close();
    show(null, place);
  };
}

export default { render };
