// The source of a run: the folder that it was made from, file by file, and what differs from another run's.

import { useEffect, useMemo, useState } from "preact/hooks";
import { query } from "../../api/clients";
import { failureOf, type Failure } from "../../api/failure";
import type { Run } from "../../api/gen/query_service_pb";
import { runPath } from "../../data/address";
import { filePath, treeOf } from "../../data/files";
import { bytes, count, plural } from "../../data/numbers";
import { changesOf, diffRows, isBinary, type SourceFile } from "../../data/source";
import { isFinal } from "../../data/status";
import { ago, toMs } from "../../data/times";
import { useAnswer } from "../answer";
import { now } from "../clock";
import { Empty, Problem, Text, Waiting } from "../parts";
import { href, params, setParams } from "../router";
import { Branch } from "./file-tree";
import { openSnapshot, PROPERTY, snapshotId, type Snapshot } from "./snapshot";
import type { RunStore } from "./store";

const MOST_TEXT = 1 << 20;
const MOST_LINES = 20_000;
const MOST_DIFF = 5_000;
const OTHERS = 200;

export function Source({ store }: { store: RunStore }) {
  const run = store.run.value!;
  const id = snapshotId(run);
  const mine = useAnswer(`${store.id}\n${id}`, (signal) => openSnapshot(store.ref, id, signal), isFinal(run.status) || id ? 0 : 5000);
  const otherRun = params.value.get("with") ?? "";
  const other = useAnswer(otherRun ? `${otherRun}\nsource` : undefined, async (signal) => ({
    run: otherRun,
    snapshot: await openSnapshot({ workspace: store.workspace, run: otherRun }, undefined, signal),
  }));
  const against = otherRun && other.data?.run === otherRun ? other.data.snapshot : undefined;
  if (mine.failure && !mine.data) return <Problem failure={mine.failure} again={mine.again} />;
  if (mine.data === undefined) return <Waiting />;
  if (mine.data === null) return <None store={store} run={run} />;
  const snapshot = mine.data;
  return (
    <>
      <div class="source-head">
        <span>
          Snapshot <code title={snapshot.id}>{snapshot.id.slice(0, 12)}</code>
          <span class="quiet"> · {plural(snapshot.entries.length, "file")}, {bytes(snapshot.entries.reduce((sum, one) => sum + one.size, 0))}</span>
        </span>
        <Others store={store} run={run} id={snapshot.id} chosen={otherRun} />
        <a class="button" href={`${href(filePath(store.workspace, store.id, snapshot.artifact.path))}?download=1`} download data-plain>Download zip</a>
      </div>
      {otherRun && other.failure && <Problem failure={other.failure} again={other.again} />}
      {otherRun && against === null && <p class="bad">The run {otherRun} has no snapshot to compare with.</p>}
      <Files snapshot={snapshot} against={against ?? undefined} />
    </>
  );
}

function None({ store, run }: { store: RunStore; run: Run }) {
  return (
    <Empty title="No source was kept with this run." code={'run = experiment.start_logging(snapshot_directory=".")\n# or experiment.submit(ScriptRunConfig(".", script="train.py")), which always keeps it'}>
      {run.parent && <>Its parent may have it: <a href={href(runPath(store.workspace, run.parent, "source"))}>the source of {run.parent}</a>.</>}
    </Empty>
  );
}

/** The runs whose snapshot this one can be compared with. */
function Others({ store, run, id, chosen }: { store: RunStore; run: Run; id: string; chosen: string }) {
  const { data } = useAnswer(run.experiment ? `${run.experiment}\nsnapshots` : undefined, (signal) =>
    query.searchRuns(
      {
        workspace: store.workspace, experiments: [run.experiment], filter: `properties.${PROPERTY}`,
        columns: [`properties.${PROPERTY}`], pageSize: OTHERS, barrier: { allowSettling: true },
      },
      { signal },
    ),
  );
  const found = (data?.runs ?? []).filter((one) => one.ref?.run !== store.id);
  if (!found.length && !chosen) return data ? <span class="quiet">no other run here has a snapshot</span> : null;
  const differ = found.filter((one) => snapshotId(one) !== id);
  const same = found.filter((one) => snapshotId(one) === id);
  const option = (one: Run) => (
    <option key={one.ref!.run} value={one.ref!.run}>{one.displayName || one.ref!.run} · {ago(toMs(one.startedTimeNs), now.peek())}</option>
  );
  return (
    <label class="field">
      <span>Compare with</span>
      <select class="source-other" value={chosen} onChange={(event) => setParams({ with: event.currentTarget.value }, true)}>
        <option value="">nothing</option>
        {chosen && !found.some((one) => one.ref?.run === chosen) && <option value={chosen}>{chosen}</option>}
        {differ.length > 0 && <optgroup label="Other source">{differ.map(option)}</optgroup>}
        {same.length > 0 && <optgroup label="The same source">{same.map(option)}</optgroup>}
      </select>
    </label>
  );
}

const MARKS = { added: "A", removed: "D", changed: "M", same: "" } as const;
const WORDS = { added: "only in this run", removed: "only in the other run", changed: "changed", same: "the same" } as const;

function Files({ snapshot, against }: { snapshot: Snapshot; against: Snapshot | undefined }) {
  const all = useMemo(() => changesOf(snapshot.entries, against?.entries), [snapshot, against]);
  const chosen = params.value.get("file") ?? "";
  const wanted = (params.value.get("q") ?? "").toLowerCase();
  const whole = !against || params.value.get("all") === "1";
  const changed = useMemo(() => all.filter((file) => file.change !== "same"), [all]);
  const shown = useMemo(() => (whole ? all : changed).filter((file) => file.path.toLowerCase().includes(wanted)), [all, changed, whole, wanted]);
  const tree = useMemo(() => treeOf(shown), [shown]);
  const file = all.find((one) => one.path === chosen);
  const mark = against && ((one: SourceFile) => <b class={`change change-${one.change}`} title={WORDS[one.change]}>{MARKS[one.change]}</b>);
  return (
    <div class="files">
      <div class="file-tree">
        <input type="search" data-filter placeholder="filter by name ( / )" aria-label="Filter by name" value={params.value.get("q") ?? ""} onInput={(event) => setParams({ q: event.currentTarget.value })} />
        {against && (
          <p class="row">
            <span class="quiet">{changed.length ? `${plural(changed.length, "file")} differ${changed.length === 1 ? "s" : ""}` : "No file differs."}</span>
            <label class="check"><input type="checkbox" checked={whole} onChange={(event) => setParams({ all: event.currentTarget.checked ? "1" : "" })} />all files</label>
          </p>
        )}
        <Branch key={`${wanted}\n${whole}`} folder={tree} chosen={chosen} open mark={mark} />
        {!shown.length && whole && <p class="quiet">{all.length ? "No file has such a name." : "The folder was empty."}</p>}
      </div>
      <div class="file-view">
        {file ? <View key={`${file.path}\n${against?.artifact.run?.run}`} file={file} snapshot={snapshot} against={against} /> : <p class="quiet">{chosen ? "There is no such file." : "Choose a file to look into it."}</p>}
      </div>
    </div>
  );
}

interface Read {
  mine: { data: Uint8Array; cut: boolean } | undefined;
  other: { data: Uint8Array; cut: boolean } | undefined;
}

function View({ file, snapshot, against }: { file: SourceFile; snapshot: Snapshot; against: Snapshot | undefined }) {
  const [read, setRead] = useState<Read>();
  const [failure, setFailure] = useState<Failure>();
  useEffect(() => {
    const ends = new AbortController();
    Promise.all([
      file.mine && snapshot.read(file.mine, MOST_TEXT, ends.signal),
      file.change !== "same" && file.other ? against?.read(file.other, MOST_TEXT, ends.signal) : undefined,
    ])
      .then(([mine, other]) => setRead({ mine, other }))
      .catch((error: unknown) => !ends.signal.aborted && setFailure(failureOf(error)));
    return () => ends.abort();
  }, []);
  const facts = [bytes(file.size), file.mine?.link && "a link", file.mine?.executable && "executable", against && WORDS[file.change]].filter(Boolean);
  return (
    <article>
      <header class="file-head">
        <h2><Text text={file.path} /></h2>
        <span class="quiet">{facts.join(" · ")}</span>
      </header>
      {failure ? <Problem failure={failure} /> : read === undefined ? <Waiting /> : <Content read={read} compared={against !== undefined && file.change !== "same"} />}
    </article>
  );
}

function Content({ read: { mine, other }, compared }: { read: Read; compared: boolean }) {
  if ((mine && isBinary(mine.data)) || (other && isBinary(other.data))) return <p class="quiet">No text: not shown here.</p>;
  const text = (part: typeof mine): string => (part ? new TextDecoder().decode(part.data) : "");
  return (
    <>
      {(mine?.cut || other?.cut) && <p class="quiet">The first {bytes(MOST_TEXT)}.</p>}
      {compared ? <Diff before={text(other)} after={text(mine)} /> : <Lines text={text(mine)} />}
    </>
  );
}

function Lines({ text }: { text: string }) {
  const lines = useMemo(() => text.replace(/\n$/, "").split("\n"), [text]);
  if (!text) return <p class="quiet">The file is empty.</p>;
  const shown = lines.slice(0, MOST_LINES);
  return (
    <>
      {lines.length > shown.length && <p class="quiet">The first {count(shown.length)} of {count(lines.length)} lines.</p>}
      <div class="source-text" tabIndex={0} role="region" aria-label="Content of the file">
        <pre class="source-numbers" aria-hidden="true">{shown.map((_, i) => i + 1).join("\n")}</pre>
        <pre class="source-lines">{shown.join("\n")}</pre>
      </div>
    </>
  );
}

const SIGNS = { added: "+", removed: "−", same: " ", gap: "", note: "" } as const;

function Diff({ before, after }: { before: string; after: string }) {
  const rows = useMemo(() => diffRows(before, after), [before, after]);
  if (!rows) {
    return (
      <>
        <p class="quiet">The two are too different to be compared line by line. This is this run's.</p>
        <Lines text={after} />
      </>
    );
  }
  if (!rows.length) return <p class="quiet">The text is the same; whether it is executable or a link, or bytes that are no text, differ.</p>;
  const shown = rows.slice(0, MOST_DIFF);
  return (
    <>
      {rows.length > shown.length && <p class="quiet">The first {count(shown.length)} of {count(rows.length)} lines.</p>}
      <div class="source-text" tabIndex={0} role="region" aria-label="What differs">
        <table class="diff">
          <thead class="hidden"><tr><th>line in the other run</th><th>line in this run</th><th>change</th><th>text</th></tr></thead>
          <tbody>
            {shown.map((row, i) => (
              <tr key={i} class={`diff-${row.kind}`}>
                <td class="diff-number">{row.before ?? ""}</td>
                <td class="diff-number">{row.after ?? ""}</td>
                <td class="diff-sign">{SIGNS[row.kind]}</td>
                <td class="diff-line">{row.text}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
