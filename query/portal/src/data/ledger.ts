// The ledger of a run: what was logged, and what became of it.

import type { Run, WriterInfo } from "../api/gen/query_service_pb";
import { WriterOutcome, WriterRole } from "../api/gen/run_pb";
import { count } from "./numbers";

export interface Ledger {
  /** Elements that the drained writers logged. */
  logged: bigint;
  /** Of them, refused for good. */
  rejected: bigint;
  /** Calls that could not be kept by the client, and records it could not read back. */
  lost: bigint;
  /** Writers whose last word is not in the log yet. */
  open: number;
  /** All is accounted for and stored. */
  whole: boolean;
}

export function ledgerOf(run: Run): Ledger {
  const ledger: Ledger = { logged: 0n, rejected: 0n, lost: 0n, open: 0, whole: false };
  for (const writer of run.writers) {
    if (!writer.drained) {
      ledger.open++;
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
