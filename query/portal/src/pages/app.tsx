// Which page is shown.

import { shell } from "../api/shell";
import { Compare } from "./compare/page";
import { Experiments } from "./experiments";
import { Health } from "./health";
import { Help } from "./help";
import { Page } from "./layout";
import { Models } from "./models";
import { Empty } from "./parts";
import { href, route } from "./router";
import { RunPage } from "./run/page";
import { RunsPage } from "./runs/page";
import { SignIn } from "./signin";

export function App() {
  // A shared link that is not good any more: nothing below it can be read.
  if (shell.error?.status === 401) return <main class="signin"><h1>runstream</h1><p role="alert">{shell.error.text}</p></main>;
  if (shell.signIn) return <SignIn {...shell.signIn} />;
  return (
    <>
      <Routed />
      <Help />
    </>
  );
}

function Routed() {
  const at = route.value;
  switch (at.page) {
    case "experiments":
      return <Experiments workspace={at.workspace} />;
    case "runs":
      return <RunsPage key={`${at.workspace}\n${at.experiment}`} workspace={at.workspace} experiment={at.experiment} />;
    case "run":
      return <RunPage key={`${at.workspace}\n${at.run}`} workspace={at.workspace} run={at.run} tab={at.tab} />;
    case "compare":
      return <Compare workspace={at.workspace} runs={at.runs} />;
    case "models":
      return <Models workspace={at.workspace} model={at.model} />;
    case "health":
      return <Health />;
    default:
      return (
        <Page title="Nothing here">
          <Empty title={shell.error?.text ?? "There is nothing at this address."} whole>
            {!shell.share && <a href={href("/")}>All experiments</a>}
          </Empty>
        </Page>
      );
  }
}
