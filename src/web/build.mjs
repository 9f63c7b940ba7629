// Bundles the page into the folder that the command line names: index.html, favicon.svg and assets/NAME.HASH.js, .css.
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const out = process.argv[2];
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });

const { metafile } = await build({
  entryPoints: { main: "main.tsx", style: "style/main.css" },
  outdir: out,
  entryNames: "assets/[name].[hash]",
  chunkNames: "assets/[name].[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});

let page = await readFile("index.html", "utf8");
for (const [file, { entryPoint }] of Object.entries(metafile.outputs)) {
  if (entryPoint) page = page.replace(`{{${entryPoint}}}`, file.slice(file.lastIndexOf("assets/")));
}
await writeFile(`${out}/index.html`, page);
await cp("favicon.svg", `${out}/favicon.svg`);
