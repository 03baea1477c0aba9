import { render } from "preact";
import { App } from "./pages/app";
import "./pages/theme";
import "./pages/styles/tokens.css";
import "./pages/styles/base.css";
import "./pages/styles/parts.css";
import "./pages/styles/tables.css";
import "./pages/styles/charts.css";
import "./pages/styles/run.css";

const root = document.getElementById("portal")!;
root.replaceChildren();
render(<App />, root);
