// An answer of the server in a component: what was answered last stays until the next one is there.

import { useEffect, useRef, useState } from "preact/hooks";
import { failureOf, type Failure } from "../api/failure";

export interface Answered<T> {
  data: T | undefined;
  failure: Failure | undefined;
  /** A newer answer is on its way. */
  loading: boolean;
  again: () => void;
}

/** Asks when `key` changes, and every `everyMs` while the page is seen; how often may depend on what was answered. With the key undefined it does not ask. */
export function useAnswer<T>(
  key: string | undefined,
  ask: (signal: AbortSignal) => Promise<T>,
  everyMs: number | ((data: T) => number) = 0,
): Answered<T> {
  const [state, setState] = useState<{ key?: string | undefined; data?: T; failure?: Failure | undefined; loading: boolean }>({
    loading: key !== undefined,
  });
  const [turn, setTurn] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;
  const latestEvery = useRef(everyMs);
  latestEvery.current = everyMs;
  useEffect(() => {
    if (key === undefined) return;
    const ends = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let wait = 0;
    const once = async (): Promise<void> => {
      setState((before) => ({ ...before, loading: true }));
      try {
        const data = await latest.current(ends.signal);
        if (ends.signal.aborted) return;
        wait = typeof latestEvery.current === "number" ? latestEvery.current : latestEvery.current(data);
        setState({ key, data, loading: false });
      } catch (error) {
        if (ends.signal.aborted) return;
        const failure = failureOf(error);
        if (failure.kind === "unreachable") wait = Math.min(Math.max(wait, 1000) * 1.5, 15_000);
        setState((before) => ({ ...before, failure, loading: false }));
        if (failure.kind !== "unreachable") return;
      }
      if (wait) timer = setTimeout(seen, wait);
    };
    const seen = (): void => {
      if (!document.hidden) void once();
      else document.addEventListener("visibilitychange", seen, { once: true, signal: ends.signal });
    };
    void once();
    return () => {
      ends.abort();
      clearTimeout(timer);
    };
  }, [key, typeof everyMs === "number" ? everyMs : "", turn]);
  return {
    data: state.data,
    failure: state.failure,
    loading: state.loading,
    again: () => setTurn((value) => value + 1),
  };
}
