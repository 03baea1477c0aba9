// Where the reader is. The address is the state: pages read it, and change it.

import { computed, signal } from "@preact/signals";
import { shell } from "../api/shell";
import { routeOf } from "../data/address";

const here = signal({ path: location.pathname, query: location.search.slice(1) });

function below(path: string): string {
  return path.startsWith(shell.prefix) ? path.slice(shell.prefix.length) || "/" : path;
}

export const route = computed(() => routeOf(below(here.value.path), here.value.query));
export const params = computed(() => new URLSearchParams(here.value.query));

/** The address of a path of the portal, for `href`. */
export function href(path: string): string {
  return shell.prefix + path;
}

function look(): void {
  here.value = { path: location.pathname, query: location.search.slice(1) };
}

export function go(path: string): void {
  history.pushState(null, "", href(path));
  look();
  window.scrollTo(0, 0);
}

/** Changes parts of the query; an empty text removes one. A view that is one step back needs `push`. */
export function setParams(changes: Record<string, string>, push = false): void {
  const next = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) next.set(name, value);
    else next.delete(name);
  }
  const text = next.toString();
  if (text === location.search.slice(1)) return;
  const address = location.pathname + (text ? `?${text}` : "");
  if (push) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  look();
}

addEventListener("popstate", look);

// Links within the portal load no page, unless the reader wants a new one.
addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest?.("a[href]") as HTMLAnchorElement | null;
  if (!link || link.target || link.hasAttribute("download") || link.dataset["plain"] !== undefined) return;
  if (link.origin !== location.origin || !link.pathname.startsWith(shell.prefix)) return;
  if (link.pathname === location.pathname && link.search === location.search && link.hash) return;
  if (routeOf(below(link.pathname), link.search.slice(1)).page === "nowhere") return;
  event.preventDefault();
  if (link.href !== location.href) history.pushState(null, "", link.href);
  const samePage = link.pathname === here.peek().path;
  look();
  if (!samePage) window.scrollTo(0, 0);
});
