// The files of a run as a tree, and a look into one.

import { useEffect, useMemo, useState } from "preact/hooks";
import { failureOf, type Failure } from "../../api/failure";
import type { Artifact } from "../../api/gen/artifact_service_pb";
import { parseCsv } from "../../data/csv";
import { figureOf } from "../../data/figures";
import { fileKind, filePath, treeOf } from "../../data/files";
import { hex } from "../../data/ledger";
import { bytes, count, plural } from "../../data/numbers";
import { isFinal } from "../../data/status";
import { toMs } from "../../data/times";
import { useAnswer } from "../answer";
import { FigureOf } from "../figure";
import { Markdown } from "../markdown";
import { Ago, Empty, Problem, Text, Waiting } from "../parts";
import { href, params, setParams } from "../router";
import { listFiles } from "./file-metrics";
import { Branch } from "./file-tree";
import { readFile } from "./snapshot";
import type { RunStore } from "./store";

const MOST_TEXT = 1 << 20;
const MOST_ROWS = 500;

export function Files({ store }: { store: RunStore }) {
  const live = !isFinal(store.run.value!.status);
  const { data, failure, again } = useAnswer(`${store.id}\nfiles`, (signal) => listFiles(store, signal), live ? 5000 : 0);
  const chosen = params.value.get("file") ?? "";
  const wanted = (params.value.get("q") ?? "").toLowerCase();
  const files = useMemo(() => (data?.files ?? []).filter((file) => file.path.toLowerCase().includes(wanted)), [data, wanted]);
  const tree = useMemo(() => treeOf(files), [files]);
  const file = data?.files.find((one) => one.path === chosen);
  if (failure && !data) return <Problem failure={failure} again={again} />;
  if (!data) return <Waiting />;
  if (!data.files.length) {
    return <Empty title="This run has no files." code={'run.upload_file("outputs/model.pkl", "model.pkl")\n# or write into ./outputs: it is taken in when the run completes'} />;
  }
  return (
    <div class="files">
      <div class="file-tree">
        <input type="search" data-filter placeholder="filter by name ( / )" aria-label="Filter by name" value={params.value.get("q") ?? ""} onInput={(event) => setParams({ q: event.currentTarget.value })} />
        <p class="quiet">{plural(tree.count, "file")}, {bytes(tree.size)}{data.total > data.files.length && `, the first of ${count(data.total)}`}</p>
        <Branch folder={tree} chosen={chosen} open />
      </div>
      <div class="file-view">
        {file ? <View key={`${file.path}\n${file.version}`} store={store} file={file} /> : <p class="quiet">{chosen ? "There is no such file." : "Choose a file to look into it."}</p>}
      </div>
    </div>
  );
}

function View({ store, file }: { store: RunStore; file: Artifact }) {
  const kind = fileKind(file.path, file.mediaType);
  const address = href(filePath(store.workspace, store.id, file.path));
  return (
    <article>
      <header class="file-head">
        <h2><Text text={file.path} /></h2>
        <a class="button" href={`${address}?download=1`} download data-plain>Download</a>
        <span class="quiet">
          {bytes(file.size)} · <Ago ms={toMs(file.timeNs)} alone />{file.versions > 1 && ` · version ${file.version} of ${file.versions}`}
        </span>
        <code class="quiet digest" title="SHA-256 of the content">{hex(file.sha256)}</code>
      </header>
      {kind === "image" ? (
        <img class="file-image" src={address} alt={file.path} />
      ) : kind === "other" || kind === "media" ? (
        <p class="quiet">{file.mediaType || "A kind that is not known"}: not shown here.</p>
      ) : (
        <TextOf store={store} file={file} kind={kind} />
      )}
    </article>
  );
}

/** The beginning of a file as text. It came from somebody else: it is put on the page as text only. */
function TextOf({ store, file, kind }: { store: RunStore; file: Artifact; kind: "csv" | "json" | "markdown" | "text" }) {
  const [text, setText] = useState<string>();
  const [failure, setFailure] = useState<Failure>();
  const [raw, setRaw] = useState(false);
  useEffect(() => {
    const ends = new AbortController();
    readFile(store.ref, file, 0, MOST_TEXT, ends.signal)
      .then((data) => setText(new TextDecoder().decode(data)))
      .catch((error: unknown) => !ends.signal.aborted && setFailure(failureOf(error)));
    return () => ends.abort();
  }, []);
  if (failure) return <Problem failure={failure} />;
  if (text === undefined) return <Waiting />;
  const cut = Number(file.size) > MOST_TEXT;
  return (
    <>
      {kind !== "text" && (
        <label class="check"><input type="checkbox" checked={raw} onChange={(event) => setRaw(event.currentTarget.checked)} />as it is</label>
      )}
      {cut && <p class="quiet">The first {bytes(MOST_TEXT)}.</p>}
      {raw || kind === "text" ? <pre class="file-text" tabIndex={0}>{text}</pre> : kind === "csv" ? <Csv text={text} /> : kind === "json" ? <Json text={text} name={file.path} /> : <Markdown text={text} />}
    </>
  );
}

function Csv({ text }: { text: string }) {
  const { rows, cut } = useMemo(() => parseCsv(text, MOST_ROWS), [text]);
  const [head = [], ...body] = rows;
  const numeric = head.map((_, c) => body.length > 0 && body.every((row) => row[c] === undefined || row[c] === "" || Number.isFinite(Number(row[c]))));
  return (
    <>
      <div class="scroll tall" tabIndex={0} role="region" aria-label="Rows">
        <table class="grid fit">
          <thead><tr>{head.map((name, c) => <th key={c} class={numeric[c] ? "number" : ""}><Text text={name} /></th>)}</tr></thead>
          <tbody>{body.map((row, r) => <tr key={r}>{row.map((cell, c) => <td key={c} class={numeric[c] ? "number" : ""}><Text text={cell} /></td>)}</tr>)}</tbody>
        </table>
      </div>
      {cut && <p class="quiet">The first {count(MOST_ROWS)} rows.</p>}
    </>
  );
}

function Json({ text, name }: { text: string; name: string }) {
  const value = useMemo(() => {
    try {
      return { json: JSON.parse(text) as unknown };
    } catch {
      return null;
    }
  }, [text]);
  if (!value) {
    return (
      <>
        <p class="quiet">It cannot be read as JSON, so it is shown as it is.</p>
        <pre class="file-text" tabIndex={0}>{text}</pre>
      </>
    );
  }
  const figure = figureOf(value.json);
  return figure ? <div class="charts"><FigureOf title={name} figure={figure} /></div> : <pre class="file-text" tabIndex={0}>{JSON.stringify(value.json, null, 2)}</pre>;
}
