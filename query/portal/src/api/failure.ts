// Errors, as people should read them: what happened, and what to do.

import { Code, ConnectError } from "@connectrpc/connect";
import { isUnreachable } from "./transport";

export interface Failure {
  kind: "unreachable" | "signed-out" | "not-found" | "refused" | "cancelled" | "broken";
  text: string;
  hint: string;
}

export function failureOf(error: unknown): Failure {
  if (error instanceof DOMException && error.name === "AbortError") {
    return { kind: "cancelled", text: "Cancelled.", hint: "" };
  }
  if (isUnreachable(error)) {
    return {
      kind: "unreachable",
      text: "The server does not answer.",
      hint: "The page tries again by itself. On your own machine, start it with: runstream up",
    };
  }
  const known = ConnectError.from(error);
  switch (known.code) {
    case Code.Unauthenticated:
      return { kind: "signed-out", text: "You are not signed in.", hint: "Reload the page to sign in." };
    case Code.NotFound:
      return { kind: "not-found", text: known.rawMessage, hint: "" };
    case Code.Canceled:
      return { kind: "cancelled", text: "Cancelled.", hint: "" };
    case Code.InvalidArgument:
    case Code.PermissionDenied:
    case Code.FailedPrecondition:
      return { kind: "refused", text: known.rawMessage, hint: "" };
    case Code.DeadlineExceeded:
      return { kind: "broken", text: known.rawMessage, hint: "It may help to try again." };
    default:
      return { kind: "broken", text: known.rawMessage || "Something went wrong.", hint: "The server's log says more." };
  }
}
