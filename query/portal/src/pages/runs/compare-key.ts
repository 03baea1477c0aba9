// What is selected stands in the address; a key compares it.

import { useEffect } from "preact/hooks";
import { comparePath } from "../../data/address";
import { isTyping } from "../help";
import { go, params } from "../router";

export function selectedIn(state: URLSearchParams): string[] {
  return (state.get("sel") ?? "").split(",").filter(Boolean);
}

/** Takes what the address says when the key is pressed, which may be before the page is drawn again. */
export function useCompareKey(workspace: string): void {
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      if (isTyping(event) || event.key !== "c") return;
      const selected = selectedIn(params.peek());
      if (selected.length) go(comparePath(workspace, selected));
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [workspace]);
}
