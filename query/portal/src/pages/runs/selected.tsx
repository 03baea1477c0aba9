// What can be done with the selected runs.

import { useState } from "preact/hooks";
import { runs as service } from "../../api/clients";
import { failureOf, type Failure } from "../../api/failure";
import type { LogPosition } from "../../api/gen/run_pb";
import { comparePath } from "../../data/address";
import { plural } from "../../data/numbers";
import { Dialog, Problem } from "../parts";
import { href } from "../router";
import { ShareDialog } from "../share";

export function Selected({ workspace, selected, readOnly, onClear, onChanged }: {
  workspace: string; selected: readonly string[]; readOnly: boolean; onClear: () => void; onChanged: (positions: LogPosition[]) => void;
}) {
  const [open, setOpen] = useState<"share" | "tag" | "archive" | null>(null);
  const close = (): void => setOpen(null);
  const refs = selected.map((run) => ({ workspace, run }));
  return (
    <div class="selected-bar" role="region" aria-label="Selected runs">
      <b>{plural(selected.length, "run")} selected</b>
      <a class="button primary" href={href(comparePath(workspace, selected))}>Compare <kbd>c</kbd></a>
      {!readOnly && (
        <>
          <button type="button" onClick={() => setOpen("tag")}>Tag</button>
          <button type="button" onClick={() => setOpen("share")} disabled={selected.length > 100}>Share</button>
          <button type="button" onClick={() => setOpen("archive")}>Archive</button>
        </>
      )}
      <button type="button" class="plain" onClick={onClear}>Clear</button>
      {open === "share" && <ShareDialog workspace={workspace} runs={selected} close={close} />}
      {open === "tag" && (
        <Act
          title={`Tag ${plural(selected.length, "run")}`} button="Tag" close={close} fields
          act={(key, value) => service.setTags({ runs: refs, tags: [value ? { key, value } : { key }] })} done={onChanged}
        />
      )}
      {open === "archive" && (
        <Act
          title={`Archive ${plural(selected.length, "run")}?`} button="Archive" close={close}
          act={() => service.archiveRuns({ runs: refs })}
          done={(positions) => { onChanged(positions); onClear(); }}
        />
      )}
    </div>
  );
}

function Act({ title, button, fields, close, act, done }: {
  title: string; button: string; fields?: boolean; close: () => void;
  act: (key: string, value: string) => Promise<{ positions: LogPosition[] }>; done: (positions: LogPosition[]) => void;
}) {
  const [key, setKey] = useState("");
  const [value, setValue] = useState("");
  const [failure, setFailure] = useState<Failure>();
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    try {
      done((await act(key.trim(), value)).positions);
      close();
    } catch (error) {
      setFailure(failureOf(error));
    }
  };
  return (
    <Dialog title={title} close={close}>
      <form onSubmit={(event) => void submit(event)}>
        {fields ? (
          <>
            <label class="field"><span>Key</span><input value={key} required autofocus maxLength={1000} onInput={(event) => setKey(event.currentTarget.value)} /></label>
            <label class="field"><span>Value</span><input value={value} placeholder="may be empty" onInput={(event) => setValue(event.currentTarget.value)} /></label>
          </>
        ) : (
          <p>Archived runs are left out of lists that do not ask for them. Nothing else changes.</p>
        )}
        {failure && <Problem failure={failure} />}
        <footer>
          <button type="button" onClick={close}>Leave it</button>
          <button type="submit" class="primary">{button}</button>
        </footer>
      </form>
    </Dialog>
  );
}
