// Storage and health, for the people who run the server.

import type { ComponentChildren } from "preact";
import { health as service } from "../api/clients";
import type { GetHealthResponse, PartitionLag } from "../api/gen/health_service_pb";
import { runPath } from "../data/address";
import { concernsOf, roleName } from "../data/health";
import { bytes, count, plural } from "../data/numbers";
import { moment, toMs } from "../data/times";
import { useAnswer } from "./answer";
import { Crumbs, Page } from "./layout";
import { Ago, Problem, Text, Waiting } from "./parts";
import { href } from "./router";

const AGAIN_MS = 10_000;

export function Health() {
  const { data, failure, again } = useAnswer("health", (signal) => service.getHealth({}, { signal }), AGAIN_MS);
  return (
    <Page title="Health" crumbs={<Crumbs parts={[["experiments", "/"]]} here="health" />}>
      <div class="page-head">
        <h1>Storage and health</h1>
        {data && <span class="quiet" title={moment(toMs(data.timeNs))}>runstream {data.version}</span>}
      </div>
      {failure && <Problem failure={failure} again={again} />}
      {data ? <Told health={data} /> : !failure && <Waiting lines={8} />}
    </Page>
  );
}

function Told({ health }: { health: GetHealthResponse }) {
  const concerns = concernsOf(health);
  return (
    <div class="health">
      <section role="status" class="health-verdict">
        {concerns.length ? (
          <ul>{concerns.map((one) => <li key={one.text} class={one.bad ? "bad" : "wait"}>{one.text}</li>)}</ul>
        ) : (
          <p class="good">All is well.</p>
        )}
      </section>
      <div class="health-columns">
        <Engines health={health} />
        <Pipeline health={health} />
        <Lags health={health} />
        <Tables health={health} />
        <Space health={health} />
      </div>
      <NotStored health={health} />
      <Expired health={health} />
      <Hosts health={health} />
    </div>
  );
}

function Table({ title, head, numbers = [], children, note }: { title: string; head: readonly string[]; numbers?: readonly number[]; children: ComponentChildren; note?: ComponentChildren }) {
  return (
    <section>
      <h2>{title}</h2>
      {note && <p class="quiet">{note}</p>}
      <div class="scroll" tabIndex={0} role="region" aria-label={title}>
        <table class="grid">
          <thead><tr>{head.map((text, i) => <th key={text} class={numbers.includes(i) ? "number" : undefined}>{text}</th>)}</tr></thead>
          <tbody>{children}</tbody>
        </table>
      </div>
    </section>
  );
}

function Engines({ health }: { health: GetHealthResponse }) {
  return (
    <Table title="Engines" head={["for", "engine", "state"]}>
      {health.engines.map((one) => (
        <tr key={one.role}>
          <td>{roleName(one.role)}</td>
          <td title={one.survives && `What it holds survives: ${one.survives}`}><Text text={one.engine} /></td>
          <td>{one.problem ? <span class="bad"><Text text={one.problem} /></span> : <span class="good">answers</span>}</td>
        </tr>
      ))}
    </Table>
  );
}

/** From the machines that log to what is searched: what waits before each part. */
function Pipeline({ health }: { health: GetHealthResponse }) {
  const sum = (of: (lag: PartitionLag) => bigint): bigint => health.lags.reduce((all, one) => all + of(one), 0n);
  const unsent = health.hosts.reduce((all, one) => all + one.unsent, 0n);
  const writing = health.hosts.reduce((all, one) => all + one.writers, 0n);
  const waiting = sum((lag) => lag.waiting);
  const unsummarised = sum((lag) => lag.unsummarised);
  return (
    <Table title="On the way" head={["from", "to", "waiting"]} numbers={[2]}>
      <tr>
        <td>spools</td>
        <td>event log</td>
        <td class={`number ${unsent ? "wait" : "quiet"}`} title={`Senders do not say how much waits on their machines. ${plural(writing, "process", "processes")} may be logging now.`}>
          {unsent ? `${plural(unsent, "process", "processes")} ended, not all sent` : writing ? "what is logged now" : "nobody logs"}
        </td>
      </tr>
      <tr><td>event log</td><td>tables</td><td class={`number ${waiting ? "wait" : "quiet"}`}>{plural(waiting, "record")}</td></tr>
      <tr><td>tables</td><td>summaries of runs</td><td class={`number ${unsummarised ? "wait" : "quiet"}`}>{plural(unsummarised, "record")}</td></tr>
    </Table>
  );
}

function Lags({ health }: { health: GetHealthResponse }) {
  const many = health.lags.some((one) => one.partition > 0);
  return (
    <Table title="Event log" head={["topic", ...(many ? ["partition"] : []), "ever", "kept", "waiting"]} numbers={many ? [1, 2, 3, 4] : [1, 2, 3]}>
      {health.lags.map((one) => (
        <tr key={`${one.topic} ${one.partition}`}>
          <td><Text text={one.topic} /></td>
          {many && <td class="number">{one.partition}</td>}
          <td class="number" title="Records that there ever were">{count(one.nextOffset)}</td>
          <td class="number" title="Records that are still in the log">{count(one.nextOffset - one.firstOffset)}</td>
          <td class={`number ${one.waiting ? "wait" : "quiet"}`} title="Records that are not in the tables yet">{count(one.waiting)}</td>
        </tr>
      ))}
    </Table>
  );
}

function Tables({ health }: { health: GetHealthResponse }) {
  const total = health.tables.reduce((sum, one) => sum + one.bytes, 0n);
  return (
    <Table title="Tables" note={`${bytes(total)} on the disk`} head={["table", "rows", "size", "parts"]} numbers={[1, 2, 3]}>
      {health.tables.map((one) => (
        <tr key={one.table}>
          <td><Text text={one.table} /></td>
          <td class="number">{count(one.rows)}</td>
          <td class="number" title={`${count(one.bytes)} bytes`}>{bytes(one.bytes)}</td>
          <td class="number">{count(one.parts)}</td>
        </tr>
      ))}
    </Table>
  );
}

function Space({ health }: { health: GetHealthResponse }) {
  const { files } = health;
  return (
    <section>
      <h2>Space</h2>
      {health.disks.map((one) => {
        const used = one.totalBytes - one.freeBytes;
        const label = `${bytes(one.freeBytes)} of ${bytes(one.totalBytes)} free`;
        return (
          <p key={one.name} class="disk">
            <span>Disk <Text text={one.name} /></span>
            <meter min={0} max={Number(one.totalBytes)} high={0.95 * Number(one.totalBytes)} value={Number(used)} aria-label={`Disk ${one.name}: ${label}`} />
            <span class="quiet">{label}</span>
          </p>
        );
      })}
      {files && (
        <dl class="facts">
          <div><dt>Files uploaded</dt><dd>{plural(files.uploads, "file")}, {bytes(files.uploadBytes)}</dd></div>
          <div><dt>Stored, each content once</dt><dd>{plural(files.contents, "content")}, {bytes(files.contentBytes)}</dd></div>
        </dl>
      )}
    </section>
  );
}

function NotStored({ health }: { health: GetHealthResponse }) {
  if (!health.deadLetters.length) {
    return <section><h2>Dead letters</h2><p class="quiet">Everything that was accepted could be stored.</p></section>;
  }
  return (
    <Table title="Dead letters" note="Accepted into the event log, and not to be stored. Each run's ledger shows its own." head={["topic", "reason", "records", "elements", "runs", "last", "for example"]} numbers={[2, 3, 4]}>
      {health.deadLetters.map((one) => (
        <tr key={`${one.topic} ${one.code} ${one.reason}`}>
          <td><Text text={one.topic} /></td>
          <td><Text class="cell-text" text={one.reason} /></td>
          <td class="number">{count(one.records)}</td>
          <td class="number">{count(one.elements)}</td>
          <td class="number">{one.runs ? count(one.runs) : <span class="quiet">not known</span>}</td>
          <td><Ago ms={toMs(one.lastTimeNs)} /></td>
          <td>{one.run && <a href={href(runPath(one.workspace, one.run, "ledger"))}><Text text={one.run} /></a>}</td>
        </tr>
      ))}
    </Table>
  );
}

function Expired({ health }: { health: GetHealthResponse }) {
  if (!health.expired.length) return null;
  return (
    <Table title="Expired" note="Records that the event log gave up before they were read. Senders that still have them send them again." head={["topic", "partition", "from offset", "records", "noticed"]} numbers={[1, 2, 3]}>
      {health.expired.map((one) => (
        <tr key={`${one.topic} ${one.partition} ${one.first}`}>
          <td><Text text={one.topic} /></td>
          <td class="number">{one.partition}</td>
          <td class="number">{count(one.first)}</td>
          <td class="number bad">{count(one.records)}</td>
          <td><Ago ms={toMs(one.timeNs)} /></td>
        </tr>
      ))}
    </Table>
  );
}

function Hosts({ health }: { health: GetHealthResponse }) {
  if (!health.hosts.length) return <section><h2>Logging now</h2><p class="quiet">No process is logging.</p></section>;
  const writers = health.hosts.reduce((sum, one) => sum + one.writers, 0n);
  return (
    <Table title="Logging now" note={`${plural(writers, "process", "processes")} that have not ended`} head={["machine", "processes", "of them heard of", "ended, not all sent"]} numbers={[1, 2, 3]}>
      {health.hosts.map((one) => (
        <tr key={one.host}>
          <td>{one.host ? <Text text={one.host} /> : <span class="quiet">not known</span>}</td>
          <td class="number">{count(one.writers)}</td>
          <td class={`number ${one.responding < one.writers ? "wait" : ""}`}>{count(one.responding)}</td>
          <td class={`number ${one.unsent ? "wait" : "quiet"}`}>{count(one.unsent)}</td>
        </tr>
      ))}
    </Table>
  );
}
