// The ledger of a run: what became of all that each process logged, and the attempts that they belong to.

import { query } from "../../api/clients";
import type { GetLedgerResponse, Run, WriterInfo, WriterLedger } from "../../api/gen/query_service_pb";
import { runPath } from "../../data/address";
import { attemptsOf, hex, missingText, ownState, roleText, verdictOf, writerState } from "../../data/ledger";
import { count, plural } from "../../data/numbers";
import { isFinal } from "../../data/status";
import { toMs } from "../../data/times";
import { useAnswer } from "../answer";
import { Ago, Problem, Text, Waiting } from "../parts";
import { href, params, setParams } from "../router";
import { AttemptTable } from "./attempts";
import type { RunStore } from "./store";

const AGAIN_MS = 5000;
const MOST = 500;

export function LedgerTab({ store }: { store: RunStore }) {
  const run = store.run.value!;
  const compare = params.value.get("compare") === "1";
  const over = isFinal(run.status) && !run.settling;
  const { data, failure, loading, again } = useAnswer(
    `${store.id}\n${compare}`,
    async (signal) => ({ compared: compare, ledger: await query.getLedger({ run: store.ref, compare, barrier: { allowSettling: true } }, { signal }) }),
    over || compare ? 0 : AGAIN_MS,
  );
  if (failure && !data) return <Problem failure={failure} again={again} />;
  if (!data) return <Waiting />;
  const { state, attached } = ownState(run, data.ledger);
  const verdict = verdictOf(state);
  return (
    <div class="ledger-tab">
      <section class="ledger-verdict">
        <p role="status"><b class={verdict.tone}>{verdict.word}</b> {verdict.text}{attached > 0 && ` ${plural(attached, "attached process goes", "attached processes go")} on, and may add to it.`}</p>
        {!compare ? (
          <button type="button" title="Reads every element of the run" onClick={() => setParams({ compare: "1" })}>Compare with what is stored</button>
        ) : loading ? (
          <span class="quiet">comparing…</span>
        ) : (
          <button type="button" onClick={again}>Compare again</button>
        )}
      </section>
      {failure && <Problem failure={failure} again={again} />}
      <Refused ledger={data.ledger} />
      <Expired ledger={data.ledger} />
      <Writers run={run} ledger={data.ledger} />
      <Attempts store={store} run={run} />
    </div>
  );
}

function Refused({ ledger }: { ledger: GetLedgerResponse }) {
  if (!ledger.rejections.length) return null;
  return (
    <section>
      <h2>Refused</h2>
      <ul class="plain-list">
        {ledger.rejections.map((one, i) => (
          <li key={i}><span class="bad">{plural(one.elements, "element")} in {plural(one.records, "record")}</span> {one.reason}</li>
        ))}
      </ul>
    </section>
  );
}

function Expired({ ledger }: { ledger: GetLedgerResponse }) {
  if (!ledger.expired.length) return null;
  return (
    <section>
      <h2>Expired</h2>
      <p class="quiet">Records that the event log gave up before they were read, and that may have been of this run.</p>
      <ul class="plain-list">
        {ledger.expired.map((one) => (
          <li key={`${one.topic} ${one.partition} ${one.first}`}>
            <span class="bad">{plural(one.records, "record")}</span> of topic {one.topic}, partition {one.partition}, from offset {count(one.first)}, noticed <Ago ms={toMs(one.timeNs)} alone />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Writers({ run, ledger }: { run: Run; ledger: GetLedgerResponse }) {
  const known = new Map(run.writers.map((one) => [hex(one.writer), one]));
  const compared = ledger.writers.some((one) => one.compared);
  const shown = ledger.writers.slice(0, MOST);
  if (!shown.length) return null;
  const sum = (of: (one: WriterLedger) => bigint): string => count(ledger.writers.reduce((all, one) => all + of(one), 0n));
  return (
    <section>
      <h2>Writers</h2>
      <div class="scroll" tabIndex={0} role="region" aria-label="Ledger of the writers">
        <table class="grid">
          <thead>
            <tr>
              <th>writer</th><th>verdict</th><th>part</th><th class="number">rank</th><th>process</th><th>started</th><th>state</th>
              <th class="number">logged</th>{compared && <th class="number">stored</th>}<th class="number">refused</th>
              {compared && <th class="number">not storable</th>}<th class="number">dropped</th><th class="number">lost</th><th>still to come, or missing</th>
            </tr>
          </thead>
          <tbody>{shown.map((one) => <WriterRow key={hex(one.writer)} ledger={one} writer={known.get(hex(one.writer))} compared={compared} />)}</tbody>
          {ledger.writers.length > 1 && (
            <tfoot>
              <tr>
                <th scope="row" colSpan={7}>{plural(ledger.writers.length, "writer")}</th>
                <td class="number">{sum((one) => one.said?.logged ?? 0n)}</td>
                {compared && <td class="number">{sum((one) => one.stored)}</td>}
                <td class="number">{sum((one) => one.said?.rejected ?? 0n)}</td>
                {compared && <td class="number">{sum((one) => one.dead)}</td>}
                <td class="number">{sum((one) => one.said?.dropped ?? 0n)}</td>
                <td class="number">{sum((one) => one.said?.lost ?? 0n)}</td>
                <td />
              </tr>
            </tfoot>
          )}
        </table>
      </div>
      {ledger.writers.length > shown.length && <p class="quiet">The first {plural(shown.length, "writer")}.</p>}
    </section>
  );
}

function WriterRow({ ledger, writer, compared }: { ledger: WriterLedger; writer: WriterInfo | undefined; compared: boolean }) {
  const id = hex(ledger.writer);
  const { said } = ledger;
  const verdict = verdictOf(ledger.state);
  const started = writer?.started;
  const missing = missingText(ledger);
  const gaps = ledger.gaps.slice(0, 10).map((gap) => (gap.first === gap.last ? count(gap.first) : `${count(gap.first)}–${count(gap.last)}`)).join(", ");
  const number = (value: bigint | undefined) => <td class={`number ${value ? "bad" : "quiet"}`}>{value === undefined ? "" : count(value)}</td>;
  return (
    <tr>
      <td><code title={id}>{id.slice(0, 8)}</code></td>
      <td class={verdict.tone} title={verdict.text}>{verdict.word}</td>
      <td>{writer ? roleText(started?.role ?? 0) : ""}</td>
      <td class="number">{started?.rank ?? ""}</td>
      <td><Text text={started?.host ? `${started.host}:${started.pid}` : ""} /></td>
      <td><Ago ms={toMs(writer?.startedTimeNs ?? 0n)} /></td>
      <td>{writer ? writerState(writer) : ledger.ended ? "ended" : "not known"}</td>
      <td class="number" title={said ? `and ${plural(said.events, "event")}` : "Counted when it has ended"}>{said ? count(said.logged) : ""}</td>
      {compared && <td class="number" title={ledger.compared ? `and ${plural(ledger.storedEvents, "event")}` : ""}>{ledger.compared ? count(ledger.stored) : ""}</td>}
      {number(said?.rejected)}
      {compared && number(ledger.compared ? ledger.dead : undefined)}
      {number(said?.dropped)}
      {number(said?.lost)}
      <td>
        {missing && <span class="bad">{missing}{gaps && ` (sequence numbers ${gaps}${ledger.gaps.length > 10 ? ", …" : ""})`}</span>}
        {ledger.awaited.length > 0 && <span class="wait">{ledger.awaited.map((one) => `${one.topic} ${one.partition} to ${count(one.offset)}`).join(", ")}</span>}
        {!said && <span class="quiet">counted when it has ended</span>}
      </td>
    </tr>
  );
}

function Attempts({ store, run }: { store: RunStore; run: Run }) {
  const attempts = attemptsOf(run);
  if (attempts.length < 2 && !attempts.some((one) => one.ranks.length)) return null;
  return (
    <section>
      <h2>Attempts</h2>
      {attempts.length > 1 && <p><a href={href(runPath(store.workspace, store.id, "attempts"))}>What each of them logged</a></p>}
      <AttemptTable attempts={attempts} />
    </section>
  );
}
