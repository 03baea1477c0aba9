// Statuses of runs as words.

import { RunStatus } from "../api/gen/run_pb";

interface Words {
  word: string;
  /** Name in the filter language and of the class of its colour. */
  name: string;
}

const WORDS: Record<number, Words> = {
  [RunStatus.UNSPECIFIED]: { word: "unknown", name: "Unknown" },
  [RunStatus.NOT_STARTED]: { word: "not started", name: "NotStarted" },
  [RunStatus.QUEUED]: { word: "queued", name: "Queued" },
  [RunStatus.PREPARING]: { word: "preparing", name: "Preparing" },
  [RunStatus.STARTING]: { word: "starting", name: "Starting" },
  [RunStatus.RUNNING]: { word: "running", name: "Running" },
  [RunStatus.NOT_RESPONDING]: { word: "not responding", name: "NotResponding" },
  [RunStatus.CANCEL_REQUESTED]: { word: "being cancelled", name: "CancelRequested" },
  [RunStatus.FINALIZING]: { word: "finishing", name: "Finalizing" },
  [RunStatus.COMPLETED]: { word: "completed", name: "Completed" },
  [RunStatus.FAILED]: { word: "failed", name: "Failed" },
  [RunStatus.CANCELED]: { word: "cancelled", name: "Canceled" },
};

export function statusWords(status: RunStatus): Words {
  return WORDS[status] ?? WORDS[RunStatus.UNSPECIFIED]!;
}

/** Whether nothing more is expected of the run. */
export function isFinal(status: RunStatus): boolean {
  return status === RunStatus.COMPLETED || status === RunStatus.FAILED || status === RunStatus.CANCELED;
}

/** Names that the filter language knows. */
export const STATUS_NAMES: readonly string[] = Object.values(WORDS).map((words) => words.name);
