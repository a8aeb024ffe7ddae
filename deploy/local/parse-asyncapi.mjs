// Parses an AsyncAPI document with the format's own parser, and fails on errors and warnings.
//
//   node deploy/local/parse-asyncapi.mjs FILE
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../web/package.json", import.meta.url));
const { Parser } = require("@asyncapi/parser");

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const wrong = diagnostics.filter((d) => d.severity <= 1); // errors and warnings; the rest is advice
for (const d of wrong) {
  console.error(`${d.path.join(" > ")}: ${d.message} (${d.code})`);
}
if (!document || wrong.length > 0) {
  console.error("the AsyncAPI document has mistakes");
  process.exit(1);
}
