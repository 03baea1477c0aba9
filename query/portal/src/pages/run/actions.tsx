// What people do to a run: share it, name it, cancel it, archive it.

import { useState } from "preact/hooks";
import { runs } from "../../api/clients";
import { failureOf, type Failure } from "../../api/failure";
import type { LogPosition } from "../../api/gen/run_pb";
import type { Run } from "../../api/gen/query_service_pb";
import { shell } from "../../api/shell";
import { isFinal } from "../../data/status";
import { Copy, Dialog, Popover, Problem } from "../parts";
import { ShareDialog } from "../share";
import type { RunStore } from "./store";

export function RunActions({ store, run }: { store: RunStore; run: Run }) {
  const [open, setOpen] = useState<"share" | "rename" | "cancel" | "archive" | null>(null);
  if (shell.share) return null;
  const close = (): void => setOpen(null);
  return (
    <span class="actions">
      <button type="button" onClick={() => setOpen("share")}>
        Share
      </button>
      <Popover label="⋯" title="More for this run" end>
        {(shut) => (
          <ul class="menu">
            <li><button type="button" onClick={() => { shut(); setOpen("rename"); }}>Rename</button></li>
            {!isFinal(run.status) && (
              <li><button type="button" onClick={() => { shut(); setOpen("cancel"); }}>Cancel the run</button></li>
            )}
            <li>
              <button type="button" onClick={() => { shut(); setOpen("archive"); }}>
                {run.archived ? "Take out of the archive" : "Archive"}
              </button>
            </li>
            <li class="menu-note">
              <span>{store.id}</span> <Copy text={store.id} label="Copy id" />
            </li>
          </ul>
        )}
      </Popover>
      {open === "share" && <ShareDialog workspace={store.workspace} runs={[store.id]} close={close} />}
      {open === "rename" && <Rename store={store} run={run} close={close} />}
      {open === "cancel" && (
        <Confirm
          store={store}
          close={close}
          title="Cancel the run?"
          text="Its processes are asked to end. What it has logged is kept."
          button="Cancel the run"
          act={() => runs.cancelRun({ run: store.ref })}
        />
      )}
      {open === "archive" && (
        <Confirm
          store={store}
          close={close}
          title={run.archived ? "Take the run out of the archive?" : "Archive the run?"}
          text="Archived runs are left out of lists that do not ask for them. Nothing else changes."
          button={run.archived ? "Take out" : "Archive"}
          act={() => (run.archived ? runs.restoreRuns({ runs: [store.ref] }) : runs.archiveRuns({ runs: [store.ref] }))}
        />
      )}
    </span>
  );
}

function Confirm({
  store, close, title, text, button, act,
}: {
  store: RunStore; close: () => void; title: string; text: string; button: string;
  act: () => Promise<{ positions: LogPosition[] }>;
}) {
  const [failure, setFailure] = useState<Failure>();
  const [busy, setBusy] = useState(false);
  const confirm = async (): Promise<void> => {
    setBusy(true);
    try {
      await store.changed((await act()).positions);
      close();
    } catch (error) {
      setFailure(failureOf(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} close={close}>
      <p>{text}</p>
      {failure && <Problem failure={failure} />}
      <footer>
        <button type="button" onClick={close}>Leave it</button>
        <button type="button" class="primary" disabled={busy} onClick={() => void confirm()}>{button}</button>
      </footer>
    </Dialog>
  );
}

function Rename({ store, run, close }: { store: RunStore; run: Run; close: () => void }) {
  const [name, setName] = useState(run.displayName);
  const [failure, setFailure] = useState<Failure>();
  const save = async (event: Event): Promise<void> => {
    event.preventDefault();
    try {
      const answer = await runs.setDisplayName({ run: store.ref, displayName: name.trim() });
      await store.changed(answer.positions);
      close();
    } catch (error) {
      setFailure(failureOf(error));
    }
  };
  return (
    <Dialog title="Rename" close={close}>
      <form onSubmit={(event) => void save(event)}>
        <label class="field">
          <span>Name</span>
          <input value={name} maxLength={1000} autofocus onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        {failure && <Problem failure={failure} />}
        <footer>
          <button type="button" onClick={close}>Leave it</button>
          <button type="submit" class="primary">Save</button>
        </footer>
      </form>
    </Dialog>
  );
}
