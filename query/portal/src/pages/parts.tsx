// Small parts that all pages are made of.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Failure } from "../api/failure";
import type { RunStatus } from "../api/gen/run_pb";
import { exact, short } from "../data/numbers";
import { statusWords } from "../data/status";
import { sentence } from "../data/text";
import { age, ago, duration, moment } from "../data/times";
import { now } from "./clock";

export function StatusBadge({ status }: { status: RunStatus }) {
  const { word, name } = statusWords(status);
  return (
    <span class={`status status-${name}`}>
      <i aria-hidden="true" />
      {word}
    </span>
  );
}

/** How long ago, with the time itself in the tooltip; `alone`: where no head of a column says that it is an age. */
export function Ago({ ms, alone = false }: { ms: number; alone?: boolean }) {
  if (!ms) return <span class="quiet">–</span>;
  return (
    <time dateTime={new Date(ms).toISOString()} title={moment(ms)}>
      {(alone ? ago : age)(ms, now.value)}
    </time>
  );
}

/** From a start to an end; while there is no end it goes on. */
export function Lasted({ from, to }: { from: number; to: number }) {
  if (!from) return <span class="quiet">–</span>;
  return <span>{duration((to || now.value) - from)}</span>;
}

export function Num({ value, digits }: { value: number; digits?: number }) {
  return (
    <span class={Number.isFinite(value) ? undefined : "bad"} title={exact(value)}>
      {short(value, digits)}
    </span>
  );
}

/** Text of others: kept to one line, whole in the tooltip, and never stronger than what is around it. */
export function Text({ text, class: more = "" }: { text: string; class?: string }) {
  return (
    <bdi class={`text ${more}`} title={text}>
      {text}
    </bdi>
  );
}

/** Text of the server, in which code stands between backquotes. */
export function Words({ text }: { text: string }) {
  return <>{text.split("`").map((part, i) => (i % 2 ? <code key={i}>{part}</code> : part))}</>;
}

export function Problem({ failure, again }: { failure: Failure; again?: (() => void) | undefined }) {
  if (failure.kind === "cancelled") return null;
  return (
    <div class="problem" role="alert">
      <p><Words text={sentence(failure.text)} /></p>
      {failure.hint && <p class="quiet">{failure.hint}</p>}
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

/** An empty place: why, and the lines that would fill it. `whole`: there is nothing else on the page. */
export function Empty({ title, children, code, whole = false }: { title: string; children?: ComponentChildren; code?: string; whole?: boolean }) {
  return (
    <div class="empty">
      {whole ? <h1 class="empty-title">{title}</h1> : <p class="empty-title">{title}</p>}
      {children && <p class="quiet">{children}</p>}
      {code && (
        <div class="code">
          <pre>
            <code>{code}</code>
          </pre>
          <Copy text={code} />
        </div>
      )}
    </div>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  return (
    <button
      type="button"
      class="copy"
      onClick={() => {
        void navigator.clipboard?.writeText(text).then(() => setDone(true));
        setTimeout(() => setDone(false), 1500);
      }}
    >
      {done ? "Copied" : label}
    </button>
  );
}

const EDGE = 8;

/** A button with a small window below it, which Escape and a click elsewhere close. */
export function Popover({
  label,
  title,
  children,
  class: more = "",
  end = false,
}: {
  label: ComponentChildren;
  title?: string | undefined;
  children: (close: () => void) => ComponentChildren;
  class?: string;
  end?: boolean;
}) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const id = useId();
  // Its button may stand at either edge of the screen.
  useLayoutEffect(() => {
    if (!open) return;
    const fit = (): void => {
      if (!box.current) return;
      box.current.style.translate = "";
      const { left, right } = box.current.getBoundingClientRect();
      const edge = document.documentElement.clientWidth - EDGE;
      const by = left < EDGE ? EDGE - left : Math.min(0, edge - right);
      box.current.style.translate = by ? `${by}px` : "";
    };
    fit();
    window.addEventListener("resize", fit);
    return () => window.removeEventListener("resize", fit);
  }, [open]);
  useEffect(() => {
    if (!open) return;
    const outside = (event: Event): void => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    const escape = (event: KeyboardEvent): void => {
      if (event.key !== "Escape") return;
      setOpen(false);
      root.current?.querySelector("button")?.focus();
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("keydown", escape);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("keydown", escape);
    };
  }, [open]);
  return (
    <div class={`popover ${more}`} ref={root}>
      <button type="button" title={title} aria-label={title} aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
        {label}
      </button>
      <div id={id} ref={box} class={`popover-box ${end ? "popover-end" : ""}`} hidden={!open}>
        {open && children(() => setOpen(false))}
      </div>
    </div>
  );
}

/** A window above the page. */
export function Dialog({ title, close, children, wide }: { title: string; close: () => void; children: ComponentChildren; wide?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current!;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return (
    <dialog
      ref={ref}
      aria-labelledby={id}
      class={wide ? "wide" : undefined}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onClick={(event) => event.target === ref.current && close()}
    >
      <div class="dialog-body">
        <header>
          <h2 id={id}>{title}</h2>
          <button type="button" class="plain" aria-label="Close" onClick={close}>
            ✕
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

export function Select<T extends string>({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}) {
  return (
    <label class="field">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value as T)}>
        {options.map(([name, text]) => (
          <option key={name} value={name}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Grey bars where something is about to be. */
export function Waiting({ lines = 3 }: { lines?: number }) {
  return (
    <div class="waiting" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, i) => (
        <i key={i} />
      ))}
    </div>
  );
}
