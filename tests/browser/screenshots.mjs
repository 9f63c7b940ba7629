// node screenshots.mjs URL FOLDER: the pictures of docs/screenshots. The server is a fresh one with the quickstart's model;
// this gives it work, a line that fails among it. $CHROMIUM is the browser. It takes some minutes.
import { chromium } from "playwright-core";
import { kQuiet, menu, row } from "./browser.mjs";

const [url, folder] = process.argv.slice(2);
const kModel = "smollm2-135m-instruct";

async function api(path, init) {
  const answer = await fetch(`${url}/v1${path}`, init);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

const post = (path, body) => api(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

const request = (custom_id, system, user, max_tokens) =>
  JSON.stringify({
    custom_id,
    method: "POST",
    url: "/v1/chat/completions",
    body: { model: kModel, max_tokens, messages: [{ role: "system", content: system }, { role: "user", content: user }] },
  });

async function batch(name, lines, priority = 0) {
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", new File([lines.join("\n")], `${name}.jsonl`));
  const file = await api("/files", { method: "POST", body: form });
  const made = { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h", priority, metadata: { name } };
  return post("/batches", made);
}

async function until(id, isSo) {
  for (;;) {
    const now = await api(`/batches/${id}`);
    if (isSo(now)) return;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

const kCities = ["Lisbon", "Oslo", "Lima", "Nairobi", "Hanoi", "Quito", "Dublin", "Tbilisi", "Accra", "Riga", "Sofia", "Havana"];
const guides = kCities.map((city) => request(city.toLowerCase(), "You write travel guides.", `Name one sight of ${city}.`, 40));
guides.splice(4, 0, request("all-of-asia", "You write travel guides.", "Tell of every town in Asia. ".repeat(3000), 40));
const reviews = (count) =>
  Array.from({ length: count }, (_, at) =>
    request(`review-${String(at + 1).padStart(4, "0")}`, "Is the review good or bad? Say why.", `Order ${at + 1}: it came late, but works well.`, 48),
  );

const travel = await batch("Travel guides", guides);
await until(travel.id, ({ status }) => status === "completed");
await batch("Reviews of November", reviews(400));
await batch("Reviews of October", reviews(250));
await batch("Support mails", reviews(120), 1);
await batch("Archive, second pass", reviews(900), -1);
await new Promise((resolve) => setTimeout(resolve, 90_000)); // so that there is something in the charts

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: kQuiet.split(" ") });
try {
  const shoot = async (name, options, go) => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", ...options });
    const page = await context.newPage();
    await page.goto(url);
    await row(page, "Reviews of November").waitFor();
    await go(page);
    await page.waitForTimeout(1_000); // what is live has come
    await page.screenshot({ path: `${folder}/${name}.png` });
    await context.close();
  };
  const open = async (page, path, text) => {
    await page.goto(`${url}/#/${path}`);
    await page.getByText(text).first().waitFor();
  };
  for (const colorScheme of ["light", "dark"]) {
    await shoot(`queue-${colorScheme}`, { colorScheme }, async () => {});
    await shoot(`batch-${colorScheme}`, { colorScheme }, (page) => open(page, `batches/${travel.id}`, "all-of-asia"));
    await shoot(`charts-${colorScheme}`, { colorScheme }, async (page) => {
      await menu(page, "Charts").click();
      await page.locator("canvas").last().waitFor();
    });
  }
  await shoot("line-light", {}, async (page) => {
    await open(page, `batches/${travel.id}`, "lisbon");
    await page.getByRole("button", { name: "lisbon", exact: true }).click();
  });
  await shoot("engines-light", {}, (page) => menu(page, "Engines").click());
  await shoot("phone-dark", { colorScheme: "dark", viewport: { width: 390, height: 800 } }, async () => {});
} finally {
  await browser.close();
}
