// The filter: completed from what runs have, its error under the character where it is.

import { useEffect, useId, useRef, useState } from "preact/hooks";
import { query } from "../../api/clients";
import type { Completion, FilterError } from "../../api/gen/query_service_pb";
import { codePoints, offsetOf, sentence } from "../../data/text";

interface Completed {
  completions: readonly Completion[];
  start: number;
  end: number;
  error: FilterError | undefined;
}

const NOTHING: Completed = { completions: [], start: 0, end: 0, error: undefined };

export function FilterField({ workspace, experiment, value, error: told, onChange }: {
  workspace: string; experiment: string; value: string;
  /** What the server said of `value`. */
  error: FilterError | undefined;
  onChange: (filter: string) => void;
}) {
  const [text, setText] = useState(value);
  const [completed, setCompleted] = useState<Completed>(NOTHING);
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(-1);
  const field = useRef<HTMLInputElement>(null);
  const id = useId();
  const asking = useRef<AbortController | undefined>(undefined);
  useEffect(() => setText(value), [value]);
  const complete = async (filter: string, cursor: number): Promise<void> => {
    asking.current?.abort();
    const ends = (asking.current = new AbortController());
    try {
      const answer = await query.completeFilter(
        { workspace, experiments: [experiment], filter, cursor: codePoints(filter.slice(0, cursor)), limit: 12 },
        { signal: ends.signal },
      );
      setCompleted({ completions: answer.completions, start: answer.start, end: answer.end, error: answer.error });
      setAt(-1);
    } catch {
      if (!ends.signal.aborted) setCompleted(NOTHING);
    }
  };
  const apply = (filter: string): void => {
    setOpen(false);
    onChange(filter.trim());
  };
  const take = (completion: Completion): void => {
    const from = offsetOf(text, completed.start);
    const to = offsetOf(text, completed.end);
    const next = text.slice(0, from) + completion.text + text.slice(to);
    const cursor = from + completion.text.length;
    setText(next);
    requestAnimationFrame(() => field.current?.setSelectionRange(cursor, cursor));
    void complete(next, cursor);
  };
  const keys = (event: KeyboardEvent): void => {
    const { completions } = completed;
    if (event.key === "ArrowDown" && completions.length) {
      setOpen(true);
      setAt((at + 1) % completions.length);
    } else if (event.key === "ArrowUp" && completions.length) setAt((at <= 0 ? completions.length : at) - 1);
    else if (event.key === "Tab" && open && completions.length && text) take(completions[Math.max(0, at)]!);
    else if (event.key === "Enter") {
      if (open && at >= 0) take(completions[at]!);
      else apply(text);
    } else if (event.key === "Escape") {
      if (open) setOpen(false);
      else field.current?.blur();
    } else return;
    event.preventDefault();
  };
  const { completions } = completed;
  const wrong = text.trim() && !open ? (text.trim() === value.trim() ? told : completed.error) : undefined;
  return (
    <div class="filter">
      <input
        ref={field} type="text" data-filter spellcheck={false} autocomplete="off" role="combobox"
        aria-label="Filter runs" aria-expanded={open && completions.length > 0} aria-controls={`${id}-list`} aria-autocomplete="list"
        aria-activedescendant={at >= 0 ? `${id}-${at}` : undefined} aria-invalid={wrong ? "true" : undefined}
        aria-describedby={wrong ? `${id}-error` : undefined}
        placeholder="metrics.mse < 3500 and params.alpha >= 0.1   ( / )" value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setOpen(true);
          void complete(event.currentTarget.value, event.currentTarget.selectionStart ?? 0);
          if (!event.currentTarget.value) apply("");
        }}
        onFocus={(event) => {
          setOpen(true);
          void complete(event.currentTarget.value, event.currentTarget.selectionStart ?? 0);
        }}
        onBlur={() => setOpen(false)}
        onKeyDown={keys}
      />
      {open && completions.length > 0 && (
        <ul class="completions" id={`${id}-list`} role="listbox" aria-label="Completions">
          {completions.map((one, i) => (
            <li key={`${one.text} ${i}`} id={`${id}-${i}`} role="option" aria-selected={i === at} onPointerDown={(event) => { event.preventDefault(); take(one); }}>
              <code>{one.text}</code>
              {one.runs > 0n && <span class="quiet">{String(one.runs)}</span>}
            </li>
          ))}
        </ul>
      )}
      {wrong && <Wrong id={`${id}-error`} text={text} error={wrong} />}
    </div>
  );
}

/** The filter again with the place underlined, and what is wrong there. */
function Wrong({ id, text, error }: { id: string; text: string; error: FilterError }) {
  const from = offsetOf(text, error.position);
  const to = offsetOf(text, error.position + Math.max(1, error.length));
  return (
    <p class="filter-error" id={id} role="alert">
      <code>
        {text.slice(0, from)}
        <mark>{text.slice(from, to) || " "}</mark>
        {text.slice(to)}
      </code>
      <span>
        {sentence(error.message)}
        {error.expected.length > 0 && ` Expected: ${error.expected.slice(0, 6).join(", ")}.`}
      </span>
    </p>
  );
}
