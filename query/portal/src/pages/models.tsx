// Registered models: names, their versions, the run and the file that each points at.

import { useMemo } from "preact/hooks";
import { models as service } from "../api/clients";
import type { Model } from "../api/gen/model_service_pb";
import { experimentsPath, modelsPath, runPath } from "../data/address";
import { bytes, count, plural } from "../data/numbers";
import { toMs } from "../data/times";
import { useAnswer } from "./answer";
import { Crumbs, Page } from "./layout";
import { Ago, Empty, Problem, Text, Waiting } from "./parts";
import { href, params, setParams } from "./router";
import { useRowKeys } from "./row-keys";

const MOST = 1000;

export function Models({ workspace, model }: { workspace: string; model: string }) {
  const crumbs: [string, string][] = [[workspace, experimentsPath(workspace)]];
  if (model) crumbs.push(["models", modelsPath(workspace)]);
  return (
    <Page title={model || "Models"} crumbs={<Crumbs parts={crumbs} here={model || "models"} />}>
      {model ? <Versions workspace={workspace} name={model} /> : <Names workspace={workspace} />}
    </Page>
  );
}

function Names({ workspace }: { workspace: string }) {
  const { data, failure, again } = useAnswer(`${workspace}\nmodels`, (signal) => service.listModels({ workspace, latest: true, pageSize: MOST }, { signal }), 15_000);
  const wanted = (params.value.get("q") ?? "").toLowerCase();
  const shown = useMemo(() => (data?.models ?? []).filter((one) => one.name.toLowerCase().includes(wanted)), [data, wanted]);
  const rows = useRowKeys(shown.length);
  const framed = shown.some((one) => one.framework);
  return (
    <>
      <div class="page-head">
        <h1>Models</h1>
        <input type="search" data-filter placeholder="filter by name ( / )" aria-label="Filter by name" value={params.value.get("q") ?? ""} onInput={(event) => setParams({ q: event.currentTarget.value })} />
        {data && <span class="quiet">{plural(data.total, "model")}{Number(data.total) > MOST && `, the first ${count(MOST)}`}</span>}
      </div>
      {failure && <Problem failure={failure} again={again} />}
      {!data ? (
        !failure && <Waiting />
      ) : !data.models.length ? (
        <Empty title="No model is registered." code={'run.upload_file("outputs/model.pkl", "model.pkl")\nrun.register_model("diabetes", model_path="outputs/model.pkl")'} />
      ) : (
        <div class="scroll">
          <table class="grid rows" ref={rows}>
            <thead><tr><th>model</th><th class="number">newest version</th><th>registered</th>{framed && <th>framework</th>}<th>run</th><th>file</th></tr></thead>
            <tbody>
              {shown.map((one) => (
                <tr key={one.name} data-row>
                  <td><a href={href(modelsPath(workspace, one.name))} data-open><Text text={one.name} /></a></td>
                  <td class="number">{one.version}</td>
                  <Rest workspace={workspace} model={one} framed={framed} />
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

/** `framed`: there is a column for the framework. */
function Rest({ workspace, model, framed }: { workspace: string; model: Model; framed: boolean }) {
  const run = model.run?.run ?? "";
  return (
    <>
      <td><Ago ms={toMs(model.timeNs)} /></td>
      {framed && <td><Text text={[model.framework, model.frameworkVersion].filter(Boolean).join(" ")} /></td>}
      <td><a href={href(runPath(workspace, run))}><Text text={run} /></a></td>
      <td><a href={`${href(runPath(workspace, run, "files"))}?file=${encodeURIComponent(model.path)}`}><Text text={model.path} /></a></td>
    </>
  );
}

function Versions({ workspace, name }: { workspace: string; name: string }) {
  const { data, failure, again } = useAnswer(`${workspace}\n${name}`, (signal) => service.listModels({ workspace, name, pageSize: MOST }, { signal }), 15_000);
  const newest = data?.models[0];
  if (failure && !data) return <Problem failure={failure} again={again} />;
  if (!data) return <Waiting />;
  if (!newest) return <Empty title="There is no such model." whole />;
  const framed = data.models.some((one) => one.framework);
  return (
    <>
      <div class="page-head"><h1><Text text={name} /></h1><span class="quiet">{plural(data.total, "version")}</span></div>
      {newest.description && <p class="description">{newest.description}</p>}
      <div class="scroll">
        <table class="grid rows">
          <thead><tr><th class="number">version</th><th>registered</th>{framed && <th>framework</th>}<th>run</th><th>file</th><th>tags</th><th class="number">size</th></tr></thead>
          <tbody>
            {data.models.map((one) => (
              <tr key={one.version}>
                <td class="number">{one.version}</td>
                <Rest workspace={workspace} model={one} framed={framed} />
                <td class="badges">{Object.entries(one.tags).map(([key, value]) => <span key={key} class="badge"><Text text={value ? `${key}: ${value}` : key} /></span>)}</td>
                <td class="number"><Size workspace={workspace} name={name} version={one.version} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Size({ workspace, name, version }: { workspace: string; name: string; version: number }) {
  const { data } = useAnswer(`${workspace}\n${name}\n${version}`, (signal) => service.getModel({ workspace, name, version }, { signal }));
  if (!data) return null;
  const size = data.files.reduce((sum, file) => sum + Number(file.size), 0);
  return <span title={plural(data.files.length, "file")}>{data.files.length ? bytes(size) : "not here yet"}</span>;
}
