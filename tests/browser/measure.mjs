// node measure.mjs load URL RUNS: what loading the dashboard at the URL costs, each time by a browser that has nothing of
// it yet, as JSON.
// node measure.mjs open URL: keeps the dashboard open until its input ends; each line of that is a place to go to, and
// "open" is said when something stands there. $CHROMIUM is the browser. For bench/dashboard.py.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { kQuiet } from "./browser.mjs";

async function load(browser, url) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(url);
  await page.getByRole("heading", { level: 1 }).waitFor();
  const ready = await page.evaluate(() => performance.now());
  const paints = () => performance.getEntriesByType("paint").length > 1;
  await page.waitForFunction(paints);
  const found = await page.evaluate(() => {
    const paint = Object.fromEntries(performance.getEntriesByType("paint").map(({ name, startTime }) => [name, startTime]));
    const files = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].filter(
      ({ name }) => !name.includes("/v1/"),
    );
    const sum = (figure) => files.reduce((total, file) => total + file[figure], 0);
    return { files: files.length, bytes: sum("encodedBodySize"), bytes_plain: sum("decodedBodySize"), paint };
  });
  await context.close();
  const { paint, ...sizes } = found;
  return { ...sizes, first_paint_ms: paint["first-paint"], first_contentful_paint_ms: paint["first-contentful-paint"], ready_ms: ready };
}

const [what, url, runs] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: kQuiet.split(" ") });
try {
  if (what === "load") {
    const found = [];
    for (let run = 0; run < Number(runs); run++) found.push(await load(browser, url));
    console.log(JSON.stringify(found));
  } else {
    const page = await browser.newPage();
    await page.goto(url);
    for await (const place of createInterface({ input: process.stdin })) {
      await page.goto(url + place);
      await page.getByRole("heading", { level: 1 }).waitFor();
      console.log("open");
    }
  }
} finally {
  await browser.close();
}
