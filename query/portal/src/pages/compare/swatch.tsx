// The colour of a run, the same everywhere on the page.

import { lineStyle } from "../../charts/palette";
import { Swatch } from "../metric-chart";
import { palette } from "../theme";

export function RunSwatch({ number }: { number: number }) {
  const style = lineStyle(palette.value, number);
  return <Swatch color={style.color} dash={style.dash.length > 0} />;
}
