// The budget of the bundle: all scripts and styles together, compressed as they are sent.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const LIMIT = 300_000;
const folder = new URL("../runstream_query/static/assets/", import.meta.url).pathname;
let total = 0;
for (const name of readdirSync(folder).sort()) {
  const size = gzipSync(readFileSync(join(folder, name)), { level: 9 }).length;
  total += size;
  console.log(`${String(size).padStart(8)}  ${name}`);
}
console.log(`${String(total).padStart(8)}  of ${LIMIT} bytes`);
const WIDGET_LIMIT = 60_000;
const widget = gzipSync(readFileSync(new URL("../../sdk/runstream/widgets/static/widget.js", import.meta.url)), { level: 9 }).length;
console.log(`${String(widget).padStart(8)}  of ${WIDGET_LIMIT} bytes, the notebook widget`);
if (total > LIMIT || widget > WIDGET_LIMIT) process.exit(1);
