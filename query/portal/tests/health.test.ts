import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EngineRole, GetHealthResponseSchema } from "../src/api/gen/health_service_pb";
import { routeOf } from "../src/data/address";
import { concernsOf } from "../src/data/health";

test("what whoever runs the server should know, the worst first", () => {
  const well = create(GetHealthResponseSchema, {
    engines: [{ role: EngineRole.LOG, engine: "sqlite" }], lags: [{ topic: "points", nextOffset: 9n, waiting: 2n }],
    disks: [{ name: "default", freeBytes: 10n, totalBytes: 100n }], hosts: [{ host: "a", writers: 1n, responding: 1n }],
  });
  expect(concernsOf(well)).toEqual([]);
  const ill = create(GetHealthResponseSchema, {
    engines: [{ role: EngineRole.TABLES, problem: "no answer within 5 s" }], lags: [{ waiting: 20_000n }, { waiting: 1n }],
    disks: [{ name: "default", freeBytes: 4_000n, totalBytes: 100_000n }], hosts: [{ host: "a", writers: 3n, responding: 1n }],
    deadLetters: [{ records: 1n }], expired: [{ records: 7n }],
  });
  expect(concernsOf(ill)).toEqual([
    { bad: true, text: "The tables can't be used: no answer within 5 s" },
    { bad: true, text: "7 records of the event log expired before the writers read them." },
    { bad: true, text: "1 record could not be stored." },
    { bad: false, text: "The disk default has only 4.0 kB free." },
    { bad: false, text: "20,001 records of the event log wait for the writers." },
    { bad: false, text: "2 processes that logged have neither ended nor been heard of lately." },
  ]);
});

test("its address", () => expect(routeOf("/health", "")).toEqual({ page: "health" }));
