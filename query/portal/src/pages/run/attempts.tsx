// The attempts of a run, and the charts of all that one of them logged, hidden by newer ones or not.

import { query } from "../../api/clients";
import { attemptsOf, rangesText, type Attempt } from "../../data/ledger";
import { isFinal } from "../../data/status";
import { toMs } from "../../data/times";
import { useAnswer } from "../answer";
import { Ago, Empty, Lasted, Problem, Text, Waiting } from "../parts";
import { params, setParams } from "../router";
import { MetricCharts } from "./metrics";
import type { RunStore } from "./store";

const AGAIN_MS = 5000;

export function Attempts({ store }: { store: RunStore }) {
  const run = store.run.value!;
  const attempts = attemptsOf(run);
  const newest = attempts.at(-1);
  if (!newest) return <Empty title="This run was never launched.">Its processes logged to it by its id.</Empty>;
  const chosen = attempts.find((one) => String(one.number) === params.value.get("attempt")) ?? newest;
  return (
    <div class="attempts">
      <p class="quiet">Of each metric and rank the newest attempt counts from its first step on; what older ones logged before that step counts too. Here is all that an attempt logged, also what does not count.</p>
      <AttemptTable attempts={attempts} chosen={chosen.number} onChoose={(number) => setParams({ attempt: String(number) })} />
      <section>
        <h2>What attempt {chosen.number} logged</h2>
        <Logged key={chosen.number} store={store} attempt={chosen.number} over={isFinal(run.status) || chosen !== newest} />
      </section>
    </div>
  );
}

function Logged({ store, attempt, over }: { store: RunStore; attempt: number; over: boolean }) {
  const { data, failure, again } = useAnswer(
    `${store.id}\n${attempt}`,
    async (signal) => (await query.listSeries({ run: store.ref, attempt, barrier: { allowSettling: true } }, { signal })).series,
    over ? 0 : AGAIN_MS,
  );
  if (!data) return failure ? <Problem failure={failure} again={again} /> : <Waiting />;
  return <MetricCharts store={store} series={data} attempt={attempt} />;
}

export function AttemptTable({ attempts, chosen, onChoose }: { attempts: readonly Attempt[]; chosen?: number; onChoose?: (number: number) => void }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Attempts">
      <table class="grid rows">
        <thead><tr><th>attempt</th><th>launch</th><th class="number">restart</th><th>started</th><th class="number">duration</th><th class="number">processes</th><th>ranks</th><th class="number">failed</th></tr></thead>
        <tbody>
          {attempts.map((one) => (
            <tr key={one.number} data-attempt={one.number}>
              <td>
                {onChoose ? (
                  <label class="check">
                    <input type="radio" name="attempt" checked={one.number === chosen} onChange={() => onChoose(one.number)} />
                    {one.number}
                  </label>
                ) : (
                  one.number
                )}
                {one === attempts.at(-1) && <span class="badge">newest</span>}
              </td>
              <td><Text text={one.launch} /></td>
              <td class="number">{one.restart}</td>
              <td><Ago ms={toMs(one.startedNs)} /></td>
              <td class="number"><Lasted from={toMs(one.startedNs)} to={toMs(one.endedNs)} /></td>
              <td class="number">{one.writers}</td>
              <td>{rangesText(one.ranks)}</td>
              <td class={`number ${one.failed ? "bad" : "quiet"}`}>{one.failed}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
