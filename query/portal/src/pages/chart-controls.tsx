// How charts are drawn: one row of settings for all on a page.

import type { ComponentChildren } from "preact";
import type { Settings, XAxis } from "./metric-chart";
import { Select } from "./parts";
import { setParams } from "./router";

export function ChartControls({ settings, natural = "step", wanted, children }: {
  settings: Settings;
  /** The x axis that needs no word in the address. */
  natural?: XAxis;
  wanted: string;
  children?: ComponentChildren;
}) {
  return (
    <div class="controls" role="group" aria-label="How the charts are drawn">
      <input
        type="search" data-filter placeholder="filter by name ( / )" aria-label="Filter charts by name" value={wanted}
        onInput={(event) => setParams({ q: event.currentTarget.value })}
        onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
      />
      <Select<XAxis>
        label="x" value={settings.x} options={[["step", "step"], ["relative", "time since start"], ["time", "time of day"]]}
        onChange={(x) => setParams({ x: x === natural ? "" : x, zoom: "" })}
      />
      <label class="field">
        <span>smoothing</span>
        <input
          type="range" min="0" max="0.99" step="0.01" value={settings.smoothing}
          onInput={(event) => setParams({ smooth: event.currentTarget.value === "0" ? "" : event.currentTarget.value })}
        />
        <output>{settings.smoothing.toFixed(2)}</output>
      </label>
      {settings.x === "step" && (
        <label class="check">
          <input type="checkbox" checked={settings.logX} onChange={(event) => setParams({ logx: event.currentTarget.checked ? "1" : "" })} />
          log x
        </label>
      )}
      <label class="check">
        <input type="checkbox" checked={settings.logY} onChange={(event) => setParams({ logy: event.currentTarget.checked ? "1" : "" })} />
        log y
      </label>
      {children}
    </div>
  );
}
