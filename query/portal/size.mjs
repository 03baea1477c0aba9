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
if (total > LIMIT) process.exit(1);
