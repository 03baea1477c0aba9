// Text as a terminal shows it: colours, and lines that were drawn over. It stays at its end unless the reader has scrolled away from there.

import { useEffect, useMemo, useRef } from "preact/hooks";
import { spansOf, type Span } from "../data/ansi";
import { overwritten } from "../data/loglines";

export function Terminal({ text, label, tone }: { text: string; label: string; tone: "log" | "problem" }) {
  const box = useRef<HTMLPreElement>(null);
  const follows = useRef(true);
  const lines = useMemo(() => linesOf(text), [text]);
  const toEnd = (): void => {
    if (follows.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  };
  useEffect(toEnd, [lines]);
  useEffect(() => {
    const watcher = new ResizeObserver(toEnd);
    watcher.observe(box.current!);
    return () => watcher.disconnect();
  }, []);
  const scrolled = (): void => {
    const { scrollTop, clientHeight, scrollHeight } = box.current!;
    follows.current = scrollTop + clientHeight > scrollHeight - 8;
  };
  return (
    <pre ref={box} class={`terminal ${tone}`} onScroll={scrolled} tabIndex={0} role="region" aria-label={label}>
      {lines.map((spans, at) => [
        at > 0 && "\n",
        ...spans.map((span) => (span.style ? <span class={span.style}>{span.text}</span> : span.text)),
      ])}
    </pre>
  );
}

function linesOf(text: string): Span[][] {
  let style = "";
  return text.replace(/\n$/, "").split("\n").map((line) => {
    const told = spansOf(overwritten(line), style);
    style = told.style;
    return told.spans;
  });
}
