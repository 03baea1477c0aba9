// A client of runstream made from proto/ alone: logs a run over gRPC, and reads it back.
//
//   node client.mjs <host:port> <token> <run id>
//
// Prints what it read as JSON.
import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, token, runId] = process.argv.slice(2);
const proto = join(dirname(fileURLToPath(import.meta.url)), "../../../proto");
const definition = loader.loadSync(
  ["runstream/v1/ingest_service.proto", "runstream/v1/query_service.proto"],
  { includeDirs: [proto], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
);
const { runstream } = grpc.loadPackageDefinition(definition);
const ingest = new runstream.v1.IngestService(address, grpc.credentials.createInsecure());
const query = new runstream.v1.QueryService(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${token}`);

const run = { workspace: "node", run: runId };
const writer = randomBytes(16);
const now = BigInt(Date.now()) * 1_000_000n;
const times = (count) => Array.from({ length: count }, (_, i) => String(now + BigInt(i)));

// seq 0..4: a curve with steps and what numbers can be; 5: a text; 6: an integer that no double holds;
// 7: a table of two rows.
const values = [0.5, NaN, Infinity, -0.0, 1e-300];
const points = [
  {
    writer, first_seq: "0", count: 5, runs: [run], series: [{ metric: "loss" }],
    step: ["0", "10", "20", "30", "40"], doubles: values, time_ns: times(5),
  },
  {
    writer, first_seq: "5", count: 2, runs: [run], series: [{ metric: "note" }, { metric: "big" }],
    series_index: [0, 1], type: [5, 2], strings: ["grüße"], integers: ["0", "9007199254740993"], time_ns: times(2),
  },
  {
    writer, first_seq: "7", count: 4, runs: [run],
    series: [{ metric: "table", column: "a" }, { metric: "table", column: "b" }],
    series_index: [0, 1, 0, 1], seq_offset: [0, 0, 0, 0], idx: [0, 0, 1, 1], type: [2, 3, 2, 3],
    integers: ["1", "1", "2", "0"], time_ns: Array(4).fill(String(now)),
  },
];
const begin = {
  writer,
  events: [
    { run, seq: "0", time_ns: String(now), writer_started: { role: "WRITER_ROLE_MAIN", launch: "l", host: "node", pid: 1 } },
    { run, seq: "0", time_ns: String(now), run_started: { experiment: "node", launch: "l" } },
    { run, seq: "8", time_ns: String(now), attribute_set: { kind: "ATTRIBUTE_KIND_TAG", key: "made by", value: "node" } },
  ],
};
// A run that has ended is read once all that its writers logged is stored: the last event says up to where that is.
const end = (positions) => ({
  writer,
  events: [
    { run, seq: "9", time_ns: String(now), run_ended: { status: "RUN_STATUS_COMPLETED" } },
    { run, seq: "0", time_ns: String(now), writer_ended: { role: "WRITER_ROLE_MAIN", launch: "l", outcome: "WRITER_OUTCOME_CLEAN", seq_end: "10", observed: true } },
    { run, seq: "0", time_ns: String(now), writer_drained: { seq_end: "10", positions, logged: "11" } },
  ],
});

/** Sends requests over one stream, and resolves with the responses when all are acknowledged. */
function publish(requests) {
  return new Promise((resolve, reject) => {
    const stream = ingest.Publish(metadata);
    const responses = [];
    stream.on("error", reject);
    stream.on("data", (response) => {
      responses.push(response);
      if (responses.length === requests.length) stream.end();
    });
    stream.on("end", () => resolve(responses));
    requests.forEach((request) => stream.write(request));
  });
}

/** Reads all elements of the run, after the given positions are in the tables. */
function read(positions, wanted = run, timeout_ms = 0) {
  return new Promise((resolve, reject) => {
    const stream = query.GetMetrics({ selection: { runs: [wanted] }, include_identity: true, barrier: { positions, timeout_ms } }, metadata);
    const chunks = [];
    stream.on("error", reject);
    stream.on("data", (response) => response.points && chunks.push(response.points));
    stream.on("end", () => resolve(chunks));
  });
}

const call = (method, request, with_ = metadata) =>
  new Promise((resolve, reject) =>
    query[method](request, with_, (error, response) => (error ? reject(error) : resolve(response))),
  );

const requests = [
  { request_id: "1", records: points.map((batch) => ({ points: batch })) },
  { request_id: "2", records: [{ run_events: begin }] },
  { request_id: "3", records: points.map((batch) => ({ points: batch })) }, // again: changes nothing
  { request_id: "4", records: [{ points: { ...points[0], doubles: [1] } }] }, // columns of unequal length
];
const responses = await publish(requests);
const logged = responses.flatMap((response) => response.positions);
const ended = await publish([{ request_id: "1", records: [{ run_events: end(logged) }] }]);
const positions = [...logged, ...ended[0].positions];
const chunks = await read(positions);
const found = (await call("GetRun", { run, barrier: { positions } })).run;
// The plainest client says when its run began and ended, and nothing of itself. Who reads it then waits for nothing but
// what was acknowledged before the end.
const plain = { workspace: "node", run: `${runId}-plain` };
const event = (seq, content) => ({ run: plain, seq, time_ns: String(now), ...content });
const plainWriter = randomBytes(16);
await publish([
  { request_id: "1", records: [{ run_events: { writer: plainWriter, events: [event("0", { run_started: { experiment: "node", launch: "p" } })] } }] },
  { request_id: "2", records: [{ points: { ...points[0], writer: plainWriter, first_seq: "1", runs: [plain] } }] },
]);
const endPlain = event("6", { run_ended: { status: "RUN_STATUS_FAILED", error_message: "it broke" } });
await publish([{ request_id: "1", records: [{ run_events: { writer: plainWriter, events: [endPlain] } }] }]);
const plainChunks = await read([], plain, 20_000);
const plainRun = (await call("GetRun", { run: plain })).run;
const unknown = await read([], { workspace: "node", run: "no such run" }).catch((error) => error.code);
const refused = await call("GetRun", { run }, new grpc.Metadata()).catch((error) => error.code);
console.log(
  JSON.stringify({
    ids: responses.map((response) => response.request_id),
    errors: responses.map((response) => response.errors.map((error) => error.code)),
    version: responses[0].server.version,
    refused, unknown,
    plain: { status: plainRun.status, settling: plainRun.settling, seq: plainChunks.flatMap((chunk) => chunk.seq) },
    run: { status: found.status, experiment: found.experiment, attributes: found.attributes, rejections: found.rejections },
    chunks: chunks.map((chunk) => ({
      metric: chunk.metric, column: chunk.column, count: chunk.count, step: chunk.step, type: chunk.type,
      doubles: chunk.doubles.map((value) => (Object.is(value, -0) ? "-0" : String(value))),
      integers: chunk.integers, strings: chunk.strings, seq: chunk.seq, idx: chunk.idx,
      mine: chunk.writers.every((id) => id.equals(writer)),
    })),
  }),
);
ingest.close();
query.close();
