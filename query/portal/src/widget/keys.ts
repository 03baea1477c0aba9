// Keys in the widget. JupyterLab takes keys on the way down to the page's elements: with the focus on a slider of ours an arrow would fold cells.

const SUPPRESS = "data-lm-suppress-shortcuts";

/** Has JupyterLab leave keys without Ctrl and the like to what has the focus in the widget. Returns what ends that. */
export function ownKeys(host: HTMLElement, root: ShadowRoot): () => void {
  const pressed = (event: KeyboardEvent): void => {
    const ours = event.composedPath().includes(root) && !event.ctrlKey && !event.metaKey && !event.altKey && event.key !== "Escape";
    if (ours) host.setAttribute(SUPPRESS, "true");
    else host.removeAttribute(SUPPRESS);
  };
  window.addEventListener("keydown", pressed, true);
  return () => window.removeEventListener("keydown", pressed, true);
}
