// How calls reach the server: Connect in its binary form, with cookies of this site.

import { equals, fromBinary, type DescMessage, type Message } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { Code, ConnectError, type Interceptor, type UnaryResponse } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { shell } from "./shell";

type Listener = (reachable: boolean) => void;
const listeners = new Set<Listener>();

/** Hears of each call whether the server was reached. Returns what ends that. */
export function onReach(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(reachable: boolean): void {
  for (const listener of listeners) listener(reachable);
}

/** Whether an error means that no server answered, so that the same call may succeed later. */
export function isUnreachable(error: unknown): boolean {
  if (error instanceof TypeError) return true; // fetch's way to say it
  if (!(error instanceof ConnectError)) return false;
  return error.code === Code.Unavailable || (error.code === Code.Unknown && error.cause instanceof TypeError);
}

/** Answers the first call of the page with what the shell carries; each answer serves once. */
const firstAnswers: Interceptor = (next) => async (request) => {
  if (request.stream || shell.answers.length === 0) return next(request);
  const name = `${request.service.typeName}/${request.method.name}`;
  const at = shell.answers.findIndex(
    (answer) => answer.method === name && same(request.method.input, answer.request, request.message),
  );
  if (at < 0) return next(request);
  const [answer] = shell.answers.splice(at, 1);
  const message = fromBinary(request.method.output, base64Decode(answer!.response));
  const response: UnaryResponse = {
    stream: false,
    service: request.service,
    method: request.method,
    header: new Headers(),
    trailer: new Headers(),
    message,
  };
  return response;
};

function same(schema: DescMessage, encoded: string, message: Message): boolean {
  return equals(schema, fromBinary(schema, base64Decode(encoded)), message);
}

const watched: Interceptor = (next) => async (request) => {
  try {
    const response = await next(request);
    tell(true);
    return response;
  } catch (error) {
    if (isUnreachable(error)) tell(false);
    else if (!(error instanceof ConnectError && error.code === Code.Canceled)) tell(true);
    throw error;
  }
};

export const transport = createConnectTransport({
  baseUrl: shell.prefix || (typeof location === "undefined" ? "" : location.origin),
  useBinaryFormat: true,
  interceptors: [firstAnswers, watched],
});
