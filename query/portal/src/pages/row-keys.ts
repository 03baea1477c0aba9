// Rows that are walked with j and k, and opened with Enter.

import { useLayoutEffect, useRef } from "preact/hooks";
import { isTyping } from "./help";

/** For a table whose rows have `data-row` and in each a link with `data-open`. */
export function useRowKeys(rows: number): { current: HTMLTableElement | null } {
  const table = useRef<HTMLTableElement>(null);
  useLayoutEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      if (isTyping(event) || (event.key !== "j" && event.key !== "k")) return;
      const links = [...(table.current?.querySelectorAll<HTMLElement>("[data-open]") ?? [])];
      const at = links.indexOf(document.activeElement as HTMLElement);
      const next = event.key === "j" ? Math.min(at + 1, links.length - 1) : Math.max(at - 1, 0);
      links[next]?.focus();
      event.preventDefault();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [rows]);
  return table;
}
