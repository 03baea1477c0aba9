import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { GetLedgerResponseSchema, LedgerState, RunSchema, WriterLedgerSchema } from "../src/api/gen/query_service_pb";
import { WriterOutcome, WriterRole } from "../src/api/gen/run_pb";
import { attemptsOf, missingText, ownState, rangesText, verdictOf } from "../src/data/ledger";

test("every state of the ledger has its own words", () => {
  const states = Object.values(LedgerState).filter((state) => typeof state === "number");
  expect(new Set(states.map((state) => verdictOf(state).text)).size).toBe(states.length);
  expect(verdictOf(LedgerState.MISSING).tone).toBe("bad");
});

test("who looks at a run from outside does not keep its verdict open", () => {
  const [main, watcher] = [Uint8Array.of(1), Uint8Array.of(2)];
  const run = create(RunSchema, {
    writers: [{ writer: main, started: { role: WriterRole.MAIN } }, { writer: watcher, started: { role: WriterRole.ATTACHED } }],
  });
  const ledger = (state: LedgerState, other: LedgerState) =>
    create(GetLedgerResponseSchema, { state: Math.max(state, other), writers: [{ writer: main, state }, { writer: watcher, state: other }] });
  expect(ownState(run, ledger(LedgerState.PROVEN, LedgerState.OPEN))).toEqual({ state: LedgerState.PROVEN, attached: 1 });
  expect(ownState(run, ledger(LedgerState.OPEN, LedgerState.OPEN))).toEqual({ state: LedgerState.OPEN, attached: 1 });
  expect(ownState(run, ledger(LedgerState.PROVEN, LedgerState.MISSING))).toEqual({ state: LedgerState.MISSING, attached: 0 });
});

test("what is missing", () => {
  expect(missingText(create(WriterLedgerSchema, { missing: 1n, missingEvents: 2n }))).toBe("1 element, 2 events");
  expect(missingText(create(WriterLedgerSchema, { missing: -3n }))).toBe("3 elements too many");
  expect(missingText(create(WriterLedgerSchema, {}))).toBe("");
});

test("attempts in the server's order, with their ranks", () => {
  const writer = (attempt: number, launch: string, restart: number, rank: number, startedTimeNs: bigint, endedTimeNs: bigint, outcome = WriterOutcome.CLEAN) => ({
    attempt, started: { launch, restart, rank }, startedTimeNs, endedTimeNs, ...(endedTimeNs ? { ended: { outcome } } : {}),
  });
  const run = create(RunSchema, {
    writers: [writer(2, "b", 1, 0, 2n, 0n), writer(1, "a", 0, 1, 11n, 15n, WriterOutcome.EXCEPTION), writer(1, "a", 0, 0, 10n, 14n), writer(2, "b", 1, 2, 21n, 30n), { started: { launch: "" } }],
  });
  expect(attemptsOf(run)).toEqual([
    { number: 1, launch: "a", restart: 0, startedNs: 10n, endedNs: 15n, ranks: [0, 1], writers: 2, failed: 1 },
    { number: 2, launch: "b", restart: 1, startedNs: 2n, endedNs: 0n, ranks: [0, 2], writers: 2, failed: 0 },
  ]);
  expect([rangesText([0, 1, 2, 5, 7, 8]), rangesText([])]).toEqual(["0–2, 5, 7–8", ""]);
});
