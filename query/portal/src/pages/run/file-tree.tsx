// Files as a tree of folders that fold.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { nameIn, type Folder, type Sized } from "../../data/files";
import { bytes, count } from "../../data/numbers";
import { Text } from "../parts";
import { setParams } from "../router";

const FIRST = 500;

export function Branch<T extends Sized>({ folder, chosen, open, mark }: { folder: Folder<T>; chosen: string; open?: boolean; mark?: ((file: T) => ComponentChildren) | undefined }) {
  const [shown, setShown] = useState(open ?? (folder.count <= 40 || chosen.startsWith(`${folder.path}/`)));
  const [most, setMost] = useState(FIRST);
  const hidden = folder.folders.length + folder.files.length - most;
  return (
    <div class="branch">
      {folder.path && (
        <button type="button" class="plain" aria-expanded={shown} onClick={() => setShown(!shown)}>
          <span aria-hidden="true">{shown ? "▾" : "▸"}</span> <Text text={`${folder.name}/`} /> <span class="count">{count(folder.count)}</span>
        </button>
      )}
      {shown && (
        <ul class={folder.path ? "" : "root"}>
          {folder.folders.slice(0, most).map((one) => <li key={one.path}><Branch folder={one} chosen={chosen} mark={mark} /></li>)}
          {folder.files.slice(0, Math.max(0, most - folder.folders.length)).map((file) => (
            <li key={file.path}>
              <button type="button" class="plain file" aria-current={file.path === chosen ? "true" : undefined} onClick={() => setParams({ file: file.path })}>
                {mark?.(file)}
                <Text text={nameIn(folder, file.path)} />
                <span class="count">{bytes(file.size)}</span>
              </button>
            </li>
          ))}
          {hidden > 0 && <li><button type="button" class="plain" onClick={() => setMost(most + FIRST)}>{count(hidden)} more</button></li>}
        </ul>
      )}
    </div>
  );
}
