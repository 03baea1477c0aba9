// The snapshot of a run: the folder that it was made from, a zip file among its files of which only what is looked at is read.

import { Code, ConnectError } from "@connectrpc/connect";
import { artifacts } from "../../api/clients";
import type { Artifact } from "../../api/gen/artifact_service_pb";
import type { Run } from "../../api/gen/query_service_pb";
import { AttributeKind } from "../../api/gen/run_pb";
import { readEntry, readIndex, ZipError, type ReadRange, type ZipEntry } from "../../data/zip";

interface Ref {
  workspace: string;
  run: string;
}

export interface Snapshot {
  artifact: Artifact;
  id: string;
  entries: ZipEntry[];
  read: (entry: ZipEntry, most: number, signal: AbortSignal) => Promise<{ data: Uint8Array; cut: boolean }>;
}

export const PROPERTY = "ContentSnapshotId";
const FOLDER = ".runstream/snapshot/";

/** Id of a run's snapshot, where it is known. */
export function snapshotId(run: Run): string | undefined {
  return run.attributes.find((one) => one.kind === AttributeKind.PROPERTY && one.key === PROPERTY)?.value;
}

/** Bytes of a file of a run. */
export async function readFile(run: Ref, file: Artifact, offset: number, length: number, signal: AbortSignal): Promise<Uint8Array> {
  const pieces: BlobPart[] = [];
  const request = { run, path: file.path, version: file.version, offset: BigInt(offset), length: BigInt(length) };
  for await (const { content } of artifacts.getArtifact(request, { signal })) {
    if (content.case === "data") pieces.push(content.value as Uint8Array<ArrayBuffer>);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

/** The snapshot, or null when the run has none. `id` is the one that the run names. */
export async function openSnapshot(run: Ref, id: string | undefined, signal: AbortSignal): Promise<Snapshot | null> {
  const listed = await artifacts.listArtifacts({ run, prefix: FOLDER, pageSize: 100 }, { signal });
  const kept = listed.artifacts.filter((file) => file.path.endsWith(".zip"));
  const artifact = kept.find((file) => file.path === `${FOLDER}${id}.zip`) ?? kept.at(-1);
  if (!artifact) return null;
  const reads = (signal: AbortSignal): ReadRange => (offset, length) => readFile(run, artifact, offset, length, signal);
  return {
    artifact,
    id: artifact.path.slice(FOLDER.length, -".zip".length),
    entries: await told(readIndex(reads(signal), Number(artifact.size))),
    read: (entry, most, signal) => told(readEntry(reads(signal), entry, most)),
  };
}

/** What is wrong with a zip file is told like what a service refuses. */
async function told<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw error instanceof ZipError ? new ConnectError(error.message, Code.FailedPrecondition) : error;
  }
}
