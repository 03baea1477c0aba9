// The ledger of a run: what was logged, and what became of it.

import { LedgerState, type GetLedgerResponse, type Run, type WriterInfo, type WriterLedger } from "../api/gen/query_service_pb";
import { WriterOutcome, WriterRole } from "../api/gen/run_pb";
import { count } from "./numbers";

export interface Ledger {
  /** Elements that the drained writers logged. */
  logged: bigint;
  /** Of them, refused for good. */
  rejected: bigint;
  /** Calls that could not be kept by the client, and records it could not read back. */
  lost: bigint;
  /** Writers whose last word is not in the log yet, but for those that are attached: what looks at a process from outside goes on for as long as any
   * process of the machine. */
  open: number;
  /** All is accounted for and stored. */
  whole: boolean;
}

export function ledgerOf(run: Run): Ledger {
  const ledger: Ledger = { logged: 0n, rejected: 0n, lost: 0n, open: 0, whole: false };
  for (const writer of run.writers) {
    if (!writer.drained) {
      if (writer.started?.role !== WriterRole.ATTACHED) ledger.open++;
      continue;
    }
    ledger.logged += writer.drained.logged;
    ledger.rejected += writer.drained.rejected;
    ledger.lost += writer.drained.dropped + writer.drained.lost;
  }
  for (const rejection of run.rejections) ledger.rejected += rejection.elements;
  ledger.whole = ledger.open === 0 && !run.settling && ledger.rejected === 0n && ledger.lost === 0n;
  return ledger;
}

/** The ledger in one line. */
export function ledgerText(ledger: Ledger, settling: boolean): string {
  if (ledger.rejected || ledger.lost) {
    const parts = [`logged ${count(ledger.logged)}`];
    if (ledger.rejected) parts.push(`refused ${count(ledger.rejected)}`);
    if (ledger.lost) parts.push(`lost ${count(ledger.lost)}`);
    return parts.join(" · ");
  }
  if (ledger.open) return `${count(ledger.open)} ${ledger.open === 1 ? "process" : "processes"} writing`;
  if (settling) return `logged ${count(ledger.logged)}, the last on their way`;
  return `logged ${count(ledger.logged)} = stored ${count(ledger.logged)}`;
}

export function roleText(role: WriterRole): string {
  return role === WriterRole.MAIN ? "main" : role === WriterRole.WORKER ? "worker" : "attached";
}

export function writerState(writer: WriterInfo): string {
  const { ended } = writer;
  if (!ended) return writer.responding ? "writing" : "not responding";
  const code = ended.exitCode ? `, exit code ${ended.exitCode}` : "";
  switch (ended.outcome) {
    case WriterOutcome.CLEAN:
      return `ended${code}`;
    case WriterOutcome.EXCEPTION:
      return `failed${code}`;
    case WriterOutcome.INTERRUPTED:
      return `interrupted${code}`;
    default:
      return `killed${code}`;
  }
}

export function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Ranks that have written to the run, rising. */
export function ranksOf(run: Run): number[] {
  const ranks = new Set<number>();
  for (const writer of run.writers) if (writer.started?.rank !== undefined) ranks.add(writer.started.rank);
  return [...ranks].sort((a, b) => a - b);
}

export interface Verdict {
  word: string;
  text: string;
  tone: "good" | "bad" | "wait" | "quiet";
}

/** What a state of the ledger means. */
export function verdictOf(state: LedgerState): Verdict {
  switch (state) {
    case LedgerState.PROVEN:
      return { word: "proven", tone: "good", text: "Each element that was logged is stored, or was refused and counted: compared one by one." };
    case LedgerState.COUNTED:
      return { word: "counted", tone: "good", text: "As many elements are stored as were logged. They could not all be compared one by one." };
    case LedgerState.APPLIED:
      return { word: "stored", tone: "good", text: "Everything that was accepted is in the tables." };
    case LedgerState.ARRIVING:
      return { word: "arriving", tone: "wait", text: "Everything was accepted; the last of it is on its way into the tables." };
    case LedgerState.OPEN:
      return { word: "open", tone: "wait", text: "More may come: a process goes on, or its sender has not delivered everything." };
    case LedgerState.SURPLUS:
      return { word: "surplus", tone: "bad", text: "More is stored than was said to be logged." };
    case LedgerState.MISSING:
      return { word: "missing", tone: "bad", text: "Something that was accepted is neither stored nor counted as refused." };
    default:
      return { word: "not known", tone: "quiet", text: "Nothing is known yet about the processes that write this run." };
  }
}

/** The verdict on what the run's own processes logged, where only attached ones are open; and how many of these there are. */
export function ownState(run: Run, ledger: GetLedgerResponse): { state: LedgerState; attached: number } {
  const attached = new Set(run.writers.filter((one) => one.started?.role === WriterRole.ATTACHED).map((one) => hex(one.writer)));
  const others = ledger.writers.filter((one) => one.state !== LedgerState.OPEN || !attached.has(hex(one.writer)));
  const open = ledger.writers.length - others.length;
  if (ledger.state !== LedgerState.OPEN || !open || !others.length) return { state: ledger.state, attached: 0 };
  return { state: Math.max(...others.map((one) => one.state)), attached: open };
}

/** What is missing, in words: "3 elements, 1 event"; empty when nothing is. */
export function missingText(ledger: WriterLedger): string {
  const parts: string[] = [];
  for (const [number, one] of [[ledger.missing, "element"], [ledger.missingEvents, "event"]] as const) {
    if (number) parts.push(`${count(number < 0n ? -number : number)} ${one}${number === 1n || number === -1n ? "" : "s"}${number < 0n ? " too many" : ""}`);
  }
  return parts.join(", ");
}

export interface Attempt {
  /** From 1, as the server counts them. */
  number: number;
  launch: string;
  restart: number;
  startedNs: bigint;
  /** 0 while one of its processes goes on. */
  endedNs: bigint;
  ranks: number[];
  writers: number;
  /** Its processes that ended otherwise than cleanly. */
  failed: number;
}

/** The attempts of a run; writers of no launch are left out. */
export function attemptsOf(run: Run): Attempt[] {
  const found = new Map<number, Attempt>();
  for (const writer of run.writers) {
    const { started, ended } = writer;
    if (!started || !writer.attempt) continue;
    const attempt = found.get(writer.attempt) ?? { number: writer.attempt, launch: started.launch, restart: started.restart, startedNs: writer.startedTimeNs, endedNs: 1n, ranks: [], writers: 0, failed: 0 };
    found.set(writer.attempt, attempt);
    attempt.writers++;
    if (writer.startedTimeNs < attempt.startedNs) attempt.startedNs = writer.startedTimeNs;
    if (!writer.endedTimeNs) attempt.endedNs = 0n;
    else if (attempt.endedNs && writer.endedTimeNs > attempt.endedNs) attempt.endedNs = writer.endedTimeNs;
    if (started.rank !== undefined && !attempt.ranks.includes(started.rank)) attempt.ranks.push(started.rank);
    if (ended && ended.outcome !== WriterOutcome.CLEAN) attempt.failed++;
  }
  return [...found.values()]
    .sort((a, b) => a.number - b.number)
    .map((attempt) => ({ ...attempt, ranks: attempt.ranks.sort((a, b) => a - b) }));
}

/** Whole numbers as ranges: "0–3, 7". */
export function rangesText(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length; ) {
    let end = i;
    while (end + 1 < numbers.length && numbers[end + 1] === numbers[end]! + 1) end++;
    parts.push(end > i ? `${numbers[i]}–${numbers[end]}` : String(numbers[i]));
    i = end + 1;
  }
  return parts.join(", ");
}
