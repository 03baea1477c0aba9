// How the server is, in words.

import { EngineRole, type GetHealthResponse } from "../api/gen/health_service_pb";
import { bytes, plural } from "./numbers";

const ROLES: Partial<Record<EngineRole, string>> = {
  [EngineRole.LOG]: "event log",
  [EngineRole.TABLES]: "tables",
  [EngineRole.OBJECTS]: "object storage",
  [EngineRole.HOT_STATE]: "hot state",
};

export function roleName(role: EngineRole): string {
  return ROLES[role] ?? "other";
}

const LITTLE_SPACE = 0.05;
const MUCH_WAITING = 10_000n;

export interface Concern {
  /** Something does not work, or data was lost; otherwise it is only to be looked at. */
  bad: boolean;
  text: string;
}

/** What whoever runs the server should know, the worst first. */
export function concernsOf(health: GetHealthResponse): Concern[] {
  const found: Concern[] = [];
  for (const one of health.engines) if (one.problem) found.push({ bad: true, text: `The ${roleName(one.role)} can't be used: ${one.problem}` });
  const lost = health.expired.reduce((sum, one) => sum + one.records, 0n);
  if (lost) found.push({ bad: true, text: `${plural(lost, "record")} of the event log expired before the writers read ${lost === 1n ? "it" : "them"}.` });
  const dead = health.deadLetters.reduce((sum, one) => sum + one.records, 0n);
  if (dead) found.push({ bad: true, text: `${plural(dead, "record")} could not be stored.` });
  for (const disk of health.disks) {
    if (Number(disk.freeBytes) < LITTLE_SPACE * Number(disk.totalBytes)) found.push({ bad: false, text: `The disk ${disk.name} has only ${bytes(disk.freeBytes)} free.` });
  }
  const waiting = health.lags.reduce((sum, one) => sum + one.waiting, 0n);
  if (waiting > MUCH_WAITING) found.push({ bad: false, text: `${plural(waiting, "record")} of the event log wait for the writers.` });
  const silent = health.hosts.reduce((sum, one) => sum + one.writers - one.responding, 0n);
  if (silent) found.push({ bad: false, text: `${plural(silent, "process", "processes")} that logged ${silent === 1n ? "has" : "have"} neither ended nor been heard of lately.` });
  return found;
}
