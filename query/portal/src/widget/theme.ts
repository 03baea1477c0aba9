// Light or dark: as the notebook is around the widget.

/** JupyterLab and Notebook tell it, Visual Studio Code too; elsewhere the background does. */
export function isDark(host: Element): boolean {
  const { body } = document;
  const told = body.dataset["jpThemeLight"];
  if (told !== undefined) return told === "false";
  if (body.classList.contains("vscode-dark") || body.classList.contains("vscode-high-contrast")) return true;
  if (body.classList.contains("vscode-light")) return false;
  for (let at: Element | null = host; at; at = at.parentElement) {
    const [red, green, blue, alpha = 1] = (getComputedStyle(at).backgroundColor.match(/[\d.]+/g) ?? []).map(Number);
    if (red === undefined || green === undefined || blue === undefined || alpha === 0) continue;
    return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
  }
  return false;
}

/** Hears when the notebook's theme may have changed. Returns what ends that. */
export function onTheme(listener: () => void): () => void {
  const watcher = new MutationObserver(listener);
  watcher.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-jp-theme-name"] });
  return () => watcher.disconnect();
}
