// What is around every page: the brand, where one is, the switches.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { experimentsPath } from "../data/address";
import { shell } from "../api/shell";
import { moment } from "../data/times";
import { Text } from "./parts";
import { href } from "./router";
import { choice, nextTheme } from "./theme";
import { help } from "./help";

export function Page({ title, crumbs, children, wide, fill }: {
  title: string; crumbs?: ComponentChildren; children: ComponentChildren; wide?: boolean;
  /** Its table takes the height that is left, and no more. */
  fill?: boolean;
}) {
  useEffect(() => {
    document.title = title ? `${title} · runstream` : "runstream";
  }, [title]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href={href(experimentsPath())} title="Experiments (g e)">
          <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
            <path d="M2 14c3 0 3-8 6-8s3 8 6 8 2-4 4-4" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" />
          </svg>
          runstream
        </a>
        {crumbs}
        {shell.share && <span class="badge" title={`Until ${moment(shell.share.expiresMs)}`}>shared, read only</span>}
        <span class="top-end">
          <button type="button" class="plain" onClick={nextTheme} title={`Colours: ${choice.value}`} aria-label={`Colours: ${choice.value}. Change`}>
            {choice.value === "dark" ? "☾" : choice.value === "light" ? "☀" : "◐"}
          </button>
          <button type="button" class="plain" onClick={() => (help.value = true)} title="Keys (?)" aria-label="Keys">
            ?
          </button>
        </span>
      </header>
      <main id="main" class={`${wide ? "wide" : ""} ${fill ? "fill" : ""}`} tabIndex={-1}>
        {children}
      </main>
    </>
  );
}

export function Crumbs({ parts, here }: { parts: readonly (readonly [string, string])[]; here: string }) {
  return (
    <nav class="crumbs" aria-label="Where this is">
      {parts.map(([name, path]) => (
        <span key={path}>
          <a href={href(path)}>
            <Text text={name} />
          </a>
          <i aria-hidden="true">/</i>
        </span>
      ))}
      <span class="crumb-here">
        <Text text={here} />
      </span>
    </nav>
  );
}
