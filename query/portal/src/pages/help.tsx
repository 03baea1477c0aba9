// The keys, and the window that tells them.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Dialog } from "./parts";
import { go } from "./router";

export const help = signal(false);

const KEYS: readonly (readonly [string, string])[] = [
  ["/", "filter"],
  ["j k", "next and previous row"],
  ["x", "select the row"],
  ["Shift-x", "select up to the row"],
  ["Enter", "open the row"],
  ["c", "compare what is selected"],
  ["g e", "experiments"],
  ["?", "this list"],
  ["Esc", "close, leave the filter"],
];
const CHART_KEYS: readonly (readonly [string, string])[] = [
  ["drag", "zoom"],
  ["Shift-drag ← →", "move along"],
  ["wheel + −", "zoom a chart that has the focus (Ctrl-wheel: any)"],
  ["double-click 0", "show all"],
];

/** Whether a key press belongs to a field or a window. */
export function isTyping(event: KeyboardEvent): boolean {
  const target = event.target as HTMLElement | null;
  if (event.ctrlKey || event.metaKey || event.altKey) return true;
  return !!target?.closest("input, textarea, select, [contenteditable], dialog");
}

export function Help() {
  useEffect(() => {
    let before = "";
    const pressed = (event: KeyboardEvent): void => {
      if (isTyping(event)) return;
      if (event.key === "?") help.value = true;
      else if (event.key === "/") {
        const field = document.querySelector<HTMLInputElement>("[data-filter]");
        if (!field) return;
        field.focus();
        event.preventDefault();
      } else if (before === "g" && event.key === "e") go("/");
      before = event.key;
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);
  if (!help.value) return null;
  return (
    <Dialog title="Keys" close={() => (help.value = false)}>
      <dl class="keys">
        {[...KEYS, ...CHART_KEYS].map(([key, text]) => (
          <div key={key}>
            <dt>{key.split(" ").map((one) => <kbd key={one}>{one}</kbd>)}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
