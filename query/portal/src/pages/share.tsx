// A link that shows something to whoever has it, for a while.

import { create } from "@bufbuild/protobuf";
import { useState } from "preact/hooks";
import { runs as service } from "../api/clients";
import { failureOf, type Failure } from "../api/failure";
import { ShareScopeSchema } from "../api/gen/workspace_pb";
import type { Share, ShareRunResponse } from "../api/gen/run_service_pb";
import { plural } from "../data/numbers";
import { moment, toMs } from "../data/times";
import { useAnswer } from "./answer";
import { Copy, Dialog, Problem, Select, Text } from "./parts";

const DAY = 86_400;
const SPANS: readonly (readonly [string, string])[] = [
  [String(DAY), "1 day"],
  [String(7 * DAY), "7 days"],
  [String(30 * DAY), "30 days"],
  [String(365 * DAY), "1 year"],
];

/** Those that show all of these runs. */
function linksOf(shares: readonly Share[], runs: readonly string[]): Share[] {
  return shares.filter((share) => runs.every((run) => share.scope?.runs.some((one) => one.run === run)));
}

export function ShareDialog({ workspace, runs, close }: { workspace: string; runs: readonly string[]; close: () => void }) {
  const [span, setSpan] = useState(String(7 * DAY));
  const [made, setMade] = useState<ShareRunResponse>();
  const [revoked, setRevoked] = useState(false);
  const [failure, setFailure] = useState<Failure>();
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      setFailure(undefined);
      await work();
    } catch (error) {
      setFailure(failureOf(error));
    }
  };
  const share = (): Promise<void> =>
    attempt(async () => {
      const scope = create(ShareScopeSchema, { runs: runs.map((run) => ({ workspace, run })) });
      setMade(await service.shareRun({ workspace, scope, expiresS: BigInt(span) }));
    });
  const revoke = (share: Share): Promise<void> =>
    attempt(async () => {
      await service.revokeShare({ workspace, share: share.share });
      if (share === made?.share) setRevoked(true);
      else earlier.again();
    });
  const earlier = useAnswer(`${workspace}\n${runs.join()}\nshares`, async (signal) => linksOf((await service.listShares({ workspace }, { signal })).shares, runs));
  return (
    <Dialog title={runs.length > 1 ? `Share ${plural(runs.length, "run")}` : "Share this run"} close={close}>
      {made ? (
        revoked ? (
          <p>The link shows nothing any more.</p>
        ) : (
          <>
            <p>Whoever has this link can read, and only read, until {moment(toMs(made.share!.expiresTimeNs))}.</p>
            <div class="code">
              <pre><code>{made.url}</code></pre>
              <Copy text={made.url} />
            </div>
            <p class="quiet">It is shown only now.</p>
          </>
        )
      ) : (
        <>
          <p>Makes a link that shows {runs.length > 1 ? "these runs" : "this run"} to whoever has it, without signing in. They can change nothing.</p>
          <Select label="Good for" value={span} options={SPANS} onChange={setSpan} />
        </>
      )}
      {failure && <Problem failure={failure} />}
      {!made && earlier.data && earlier.data.length > 0 && (
        <section aria-label="Links made before">
          <p class="quiet">Links made before, which still show {runs.length > 1 ? "them" : "it"}:</p>
          <ul class="links">
            {earlier.data.map((one) => (
              <li key={String(one.createdTimeNs)}>
                <span>until {moment(toMs(one.expiresTimeNs))}</span>
                <Text text={[one.note, one.principal && `by ${one.principal}`].filter(Boolean).join(", ")} class="quiet" />
                <button type="button" class="small" onClick={() => void revoke(one)}>Revoke</button>
              </li>
            ))}
          </ul>
        </section>
      )}
      <footer>
        {made && !revoked && <button type="button" onClick={() => void revoke(made.share!)}>Revoke</button>}
        <button type="button" onClick={close}>Close</button>
        {!made && <button type="button" class="primary" onClick={() => void share()}>Make the link</button>}
      </footer>
    </Dialog>
  );
}
