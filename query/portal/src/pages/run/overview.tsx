// The first look at a run: is it fine, what is it, what did it say last.

import { useMemo, useState } from "preact/hooks";
import { runs as service } from "../../api/clients";
import { failureOf, type Failure } from "../../api/failure";
import { AttributeKind } from "../../api/gen/run_pb";
import type { Attribute, Run } from "../../api/gen/query_service_pb";
import { shell } from "../../api/shell";
import { runPath } from "../../data/address";
import { count, plural } from "../../data/numbers";
import { isSystem, panelsOf, wordOf } from "../../data/series";
import { toMs } from "../../data/times";
import { Ago, Empty, Lasted, Num, Problem, Text } from "../parts";
import { href } from "../router";
import type { RunStore } from "./store";

export function Overview({ store }: { store: RunStore }) {
  const run = store.run.value!;
  const params = run.attributes.filter((one) => one.kind === AttributeKind.PARAM);
  const properties = run.attributes.filter((one) => one.kind === AttributeKind.PROPERTY);
  const system = run.attributes.filter((one) => one.kind === AttributeKind.SYSTEM);
  return (
    <div class="overview">
      {run.errorMessage && (
        <section class="failure">
          <h2>{run.errorCode || "Failed"}</h2>
          <pre tabIndex={0}>{run.errorMessage}</pre>
        </section>
      )}
      {run.description && <p class="description">{run.description}</p>}
      <div class="overview-columns">
        <div>
          <Facts store={store} run={run} />
          <Tags store={store} run={run} />
          <Attributes title="Parameters" attributes={params} />
        </div>
        <div>
          <Latest store={store} />
        </div>
      </div>
      <Attributes title="Properties" attributes={properties} />
      <Attributes title="Environment" attributes={system} folded />
    </div>
  );
}

function Facts({ store, run }: { store: RunStore; run: Run }) {
  return (
    <section>
      <h2 class="hidden">Facts</h2>
      <dl class="facts">
        <div><dt>Id</dt><dd><code>{store.id}</code></dd></div>
        {run.number > 0n && <div><dt>Number</dt><dd>{count(run.number)}</dd></div>}
        <div><dt>Started</dt><dd><Ago ms={toMs(run.startedTimeNs)} alone /></dd></div>
        {run.endedTimeNs > 0n && <div><dt>Ended</dt><dd><Ago ms={toMs(run.endedTimeNs)} alone /></dd></div>}
        <div><dt>Duration</dt><dd><Lasted from={toMs(run.startedTimeNs)} to={toMs(run.endedTimeNs)} /></dd></div>
        {run.attempts > 1 && <div><dt>Attempts</dt><dd>{run.attempts}</dd></div>}
        {run.runType && <div><dt>Type</dt><dd><Text text={run.runType} /></dd></div>}
        {run.parent && (
          <div><dt>Parent</dt><dd><a href={href(runPath(store.workspace, run.parent))}><Text text={run.parent} /></a></dd></div>
        )}
        {run.archived && <div><dt>Archived</dt><dd>yes</dd></div>}
      </dl>
    </section>
  );
}

function Tags({ store, run }: { store: RunStore; run: Run }) {
  const tags = run.attributes.filter((one) => one.kind === AttributeKind.TAG);
  const [adding, setAdding] = useState(false);
  const [key, setKey] = useState("");
  const [value, setValue] = useState("");
  const [failure, setFailure] = useState<Failure>();
  const editable = !shell.share;
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      setFailure(undefined);
      await work();
    } catch (error) {
      setFailure(failureOf(error));
    }
  };
  const add = (event: Event): void => {
    event.preventDefault();
    if (!key.trim()) return;
    void attempt(async () => {
      const tag = value ? { key: key.trim(), value } : { key: key.trim() };
      const answer = await service.setTags({ runs: [store.ref], tags: [tag] });
      await store.changed(answer.positions);
      setAdding(false);
      setKey("");
      setValue("");
    });
  };
  const remove = (name: string): void =>
    void attempt(async () => {
      const answer = await service.removeTags({ runs: [store.ref], keys: [name] });
      await store.changed(answer.positions);
    });
  return (
    <section class="tags">
      <h2>Tags</h2>
      <ul class="tag-list">
        {tags.map((tag) => (
          <li key={tag.key} class="tag">
            <Text text={tag.value === undefined ? tag.key : `${tag.key}: ${tag.value}`} />
            {editable && (
              <button type="button" class="plain" aria-label={`Remove the tag ${tag.key}`} onClick={() => remove(tag.key)}>
                ✕
              </button>
            )}
          </li>
        ))}
        {editable && !adding && (
          <li>
            <button type="button" class="plain add" onClick={() => setAdding(true)}>
              + tag
            </button>
          </li>
        )}
        {!editable && tags.length === 0 && <li class="quiet">none</li>}
      </ul>
      {adding && (
        <form class="row" onSubmit={add} onKeyDown={(event) => event.key === "Escape" && setAdding(false)}>
          <label class="field"><span class="hidden">Key</span>
            <input placeholder="key" value={key} maxLength={1000} autofocus onInput={(event) => setKey(event.currentTarget.value)} />
          </label>
          <label class="field"><span class="hidden">Value</span>
            <input placeholder="value (may be empty)" value={value} onInput={(event) => setValue(event.currentTarget.value)} />
          </label>
          <button type="submit" class="primary">Add</button>
          <button type="button" onClick={() => setAdding(false)}>Leave</button>
        </form>
      )}
      {failure && <Problem failure={failure} />}
    </section>
  );
}

export function Attributes({ title, attributes, folded = false }: { title: string; attributes: readonly Attribute[]; folded?: boolean }) {
  if (!attributes.length) return null;
  const table = (
    <table class="pairs">
      <tbody>
        {attributes.map((one) => (
          <tr key={one.key}>
            <th scope="row"><Text text={one.key} /></th>
            <td class="value">{one.value ?? ""}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
  return folded ? (
    <details class="section">
      <summary><h2>{title}</h2> <span class="count">{attributes.length}</span></summary>
      {table}
    </details>
  ) : (
    <section>
      <h2>{title}</h2>
      {table}
    </section>
  );
}

const SHOWN = 24;

function Latest({ store }: { store: RunStore }) {
  const series = store.series.value;
  const panels = useMemo(
    () => panelsOf(series ?? []).filter((panel) => panel.last !== undefined && panel.columns[0] === "" && !isSystem(panel)),
    [series],
  );
  if (!series) return null;
  if (!series.length) {
    return (
      <Empty title="This run has logged no metric yet." code={'run.log("loss", 0.31)\nrun.log_list("accuracies", [0.6, 0.7, 0.9])\nrun.log_row("roc", fpr=0.1, tpr=0.7)'} />
    );
  }
  if (!panels.length) return null;
  return (
    <section>
      <h2>Last values</h2>
      <table class="pairs latest">
        <tbody>
          {panels.slice(0, SHOWN).map((panel) => (
            <tr key={panel.metric}>
              <th scope="row"><Text text={panel.metric} /></th>
              <td class="number">{wordOf(panel) ?? <Num value={panel.last!} digits={6} />}</td>
              <td class="quiet number">{panel.count > 1 ? plural(panel.count, "value") : ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {panels.length > SHOWN && <p><a href={href(runPath(store.workspace, store.id, "metrics"))}>All {plural(panels.length, "metric")}</a></p>}
    </section>
  );
}
