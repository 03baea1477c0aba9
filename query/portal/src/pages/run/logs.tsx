// The logs of a run: a long list of lines of which only those in sight are on the page, followed while they grow.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { logs as service } from "../../api/clients";
import { failureOf, type Failure } from "../../api/failure";
import type { LogFile } from "../../api/gen/log_service_pb";
import { plainText, spansOf } from "../../data/ansi";
import { hex } from "../../data/ledger";
import { LogLines } from "../../data/loglines";
import { bytes, count } from "../../data/numbers";
import { clock, toMs } from "../../data/times";
import { windowOf } from "../../data/windowed";
import { useAnswer } from "../answer";
import { Empty, Problem, Select, Waiting } from "../parts";
import { params, setParams } from "../router";
import type { RunStore } from "./store";

const ROW = 19;
const TAIL_BYTES = 8 << 20;

export function Logs({ store }: { store: RunStore }) {
  const live = store.connection.value.state !== "ended";
  const { data, failure, again } = useAnswer(`${store.id}\nlogs`, (signal) => service.listLogs({ run: store.ref }, { signal }), live ? 5000 : 0);
  const chosen = params.value.get("log") ?? "";
  if (failure && !data) return <Problem failure={failure} again={again} />;
  if (!data) return <Waiting />;
  if (!data.logs.length) {
    return <Empty title="This run has printed nothing." code={'print("epoch 1 done")   # kept when the run captures its output\n# or write text files into ./logs'} />;
  }
  const log = data.logs.find((one) => one.path === chosen) ?? preferred(data.logs);
  return <Log key={log.path} store={store} log={log} all={data.logs} />;
}

function preferred(all: readonly LogFile[]): LogFile {
  return all.find((one) => /user_log|std_log|70_driver/.test(one.path)) ?? all[0]!;
}

interface State {
  version: number;
  ended: boolean;
  failure: Failure | undefined;
  lostMs: number;
}

/** Follows a log from its tail; goes on by itself where it broke. */
function useLog(store: RunStore, path: string, ranks: readonly number[], whole: boolean): { lines: LogLines; state: State } {
  const lines = useMemo(() => new LogLines(), [path, ranks.join(), whole]);
  const [state, setState] = useState<State>({ version: 0, ended: false, failure: undefined, lostMs: 0 });
  useEffect(() => {
    const ends = new AbortController();
    let token = "";
    let frame = 0;
    const tell = (change: Partial<State>): void => setState((before) => ({ ...before, ...change, version: before.version + 1 }));
    const follow = async (): Promise<void> => {
      let wait = 500;
      while (!ends.signal.aborted) {
        try {
          const start = whole ? { case: undefined } : { case: "tailBytes" as const, value: BigInt(TAIL_BYTES) };
          const request = { run: store.ref, path, ranks: [...ranks], start, pageToken: token };
          for await (const message of service.watchLog({ request }, { signal: ends.signal })) {
            wait = 500;
            for (const part of message.parts) lines.add(hex(part.writer), part.data, part.rank, toMs(part.timeNs));
            token = message.pageToken;
            // Many small messages are one change of the page.
            frame ||= requestAnimationFrame(() => {
              frame = 0;
              tell({ lostMs: 0, failure: undefined });
            });
          }
          tell({ ended: true, lostMs: 0 });
          return;
        } catch (error) {
          if (ends.signal.aborted) return;
          const failure = failureOf(error);
          if (failure.kind !== "unreachable" && failure.kind !== "broken") {
            tell({ failure });
            return;
          }
          setState((before) => ({ ...before, lostMs: before.lostMs || Date.now() }));
        }
        await new Promise((done) => setTimeout(done, wait));
        wait = Math.min(wait * 2, 10_000);
      }
    };
    void follow();
    return () => {
      ends.abort();
      cancelAnimationFrame(frame);
    };
  }, [lines]);
  return { lines, state };
}

function Log({ store, log, all }: { store: RunStore; log: LogFile; all: readonly LogFile[] }) {
  const query = params.value;
  const rank = query.get("rank") ?? "";
  const whole = query.get("whole") === "1";
  const { lines, state } = useLog(store, log.path, rank === "" ? [] : [Number(rank)], whole);
  const wanted = query.get("q") ?? "";
  const times = query.get("times") === "1";
  const ranks = useMemo(() => [...new Set(lines.lines.map((line) => line.rank))].filter((one) => one !== undefined).sort((a, b) => a - b), [lines, state.version]);
  const hits = useMemo(() => {
    if (!wanted) return [];
    const word = wanted.toLowerCase();
    const found: number[] = [];
    lines.lines.forEach((line, i) => plainText(line.text).toLowerCase().includes(word) && found.push(i));
    return found;
  }, [lines, state.version, wanted]);
  const [at, setAt] = useState(-1);  // none yet: the first Enter leads to the first hit
  const box = useRef<HTMLDivElement>(null);
  const [scroll, setScroll] = useState({ top: 0, height: 600 });
  const [follow, setFollow] = useState(true);
  const following = useRef(follow);
  following.current = follow;
  const total = lines.lines.length;
  useLayoutEffect(() => {
    const element = box.current!;
    const look = (): void => {
      setScroll({ top: element.scrollTop, height: element.clientHeight });
      setFollow(element.scrollTop + element.clientHeight >= element.scrollHeight - 2 * ROW);
    };
    element.addEventListener("scroll", look, { passive: true });
    // Another size is no wish to let go of the tail.
    const sizes = new ResizeObserver(() => {
      if (following.current) element.scrollTop = element.scrollHeight;
      look();
    });
    sizes.observe(element);
    return () => {
      element.removeEventListener("scroll", look);
      sizes.disconnect();
    };
  }, []);
  useLayoutEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [state.version, follow]);
  const show = (hit: number): void => {
    if (!hits.length) return;
    const next = (Math.max(hit, -1) + hits.length) % hits.length;
    setAt(next);
    setFollow(false);
    box.current!.scrollTop = Math.max(0, hits[next]! * ROW - scroll.height / 2);
  };
  const { from, to } = windowOf(scroll.top, scroll.height, ROW, total, 20);
  const cut = !whole && Number(log.size) > TAIL_BYTES;
  return (
    <div class="logs">
      <div class="controls flat">
        <Select label="log" value={log.path} options={all.map((one) => [one.path, `${one.path} (${bytes(one.size)})`] as const)} onChange={(path) => setParams({ log: path, rank: "" })} />
        {(ranks.length > 1 || rank) && (
          <Select label="rank" value={rank} options={[["", "all"], ...[...new Set([...ranks, ...(rank ? [Number(rank)] : [])])].map((one) => [String(one), String(one)] as const)]} onChange={(value) => setParams({ rank: value })} />
        )}
        <input
          type="search" data-filter placeholder="search ( / )" aria-label="Search the log" value={wanted}
          onInput={(event) => { setParams({ q: event.currentTarget.value }); setAt(-1); }}
          onKeyDown={(event) => {
            if (event.key === "Enter") show(event.shiftKey ? at - 1 : at + 1);
            else if (event.key === "Escape") event.currentTarget.blur();
          }}
        />
        {wanted && (
          <span class="row">
            <span class="quiet" role="status">{hits.length ? at < 0 ? count(hits.length) : `${count(at + 1)} of ${count(hits.length)}` : "not found"}</span>
            <button type="button" aria-label="Previous" disabled={!hits.length} onClick={() => show(at - 1)}>↑</button>
            <button type="button" aria-label="Next" disabled={!hits.length} onClick={() => show(at + 1)}>↓</button>
          </span>
        )}
        <label class="check"><input type="checkbox" checked={times} onChange={(event) => setParams({ times: event.currentTarget.checked ? "1" : "" })} />times</label>
        <label class="check"><input type="checkbox" checked={follow} onChange={(event) => setFollow(event.currentTarget.checked)} />follow</label>
        <span class="quiet">{count(total + lines.dropped)} lines{state.ended ? "" : state.lostMs ? `, no connection since ${clock(state.lostMs)}` : ", following"}</span>
      </div>
      {state.failure && <Problem failure={state.failure} />}
      {cut && (
        <p class="quiet">
          The last {bytes(TAIL_BYTES)} of {bytes(log.size)}.{" "}
          <button type="button" class="small" onClick={() => setParams({ whole: "1" })}>All of it</button>
        </p>
      )}
      {lines.dropped > 0 && <p class="quiet">The first {count(lines.dropped)} lines were let go of.</p>}
      <div class="log-lines" ref={box} tabIndex={0} role="log" aria-live="off" aria-label={log.path} data-testid="log">
        <div style={{ height: `${total * ROW}px` }}>
          <div style={{ transform: `translateY(${from * ROW}px)` }}>
            {lines.lines.slice(from, to).map((line, i) => (
              <div key={from + i} class={`log-line ${hits[at] === from + i ? "log-hit" : ""}`}>
                <span class="log-number">{lines.dropped + from + i + 1}</span>
                {times && <span class="log-number">{clock(line.timeMs)}</span>}
                {ranks.length > 1 && <span class="log-rank">{line.rank ?? ""}</span>}
                <Line text={line.text} wanted={wanted} />
              </div>
            ))}
          </div>
        </div>
      </div>
    </div>
  );
}

function Line({ text, wanted }: { text: string; wanted: string }) {
  const { spans } = useMemo(() => spansOf(text.slice(0, 10_000)), [text]);
  return (
    <span class="log-text">
      {spans.map((span, i) => <span key={i} class={span.style || undefined}>{marked(span.text, wanted)}</span>)}
    </span>
  );
}

function marked(text: string, wanted: string): preact.ComponentChildren {
  if (!wanted) return text;
  const word = wanted.toLowerCase();
  const low = text.toLowerCase();
  const parts: preact.ComponentChildren[] = [];
  let from = 0;
  for (let at = low.indexOf(word); at >= 0 && parts.length < 200; at = low.indexOf(word, at + word.length)) {
    parts.push(text.slice(from, at), <mark key={at}>{text.slice(at, at + word.length)}</mark>);
    from = at + word.length;
  }
  return [...parts, text.slice(from)];
}
