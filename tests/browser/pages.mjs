// node pages.mjs SCENARIO URL [ARGUMENT…]: as dashboard.mjs, for the pages of the system, the deliveries and the
// administration. tests/e2e/test_dashboard_pages.py makes the servers.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { appears, button, heading, menu, play, row } from "./browser.mjs";

const field = (page, name) => page.getByLabel(name, { exact: true });
const choice = (page, name) => page.getByRole("combobox", { name, exact: true });
const dialog = (page, name) => page.getByRole("dialog", { name, exact: true });
const chart = (page, title) => page.getByRole("region", { name: title, exact: true });

/** What the dialog of that title shows once. */
async function secret(page, title) {
  const value = await dialog(page, title).locator(".command code").innerText();
  await dialog(page, title).getByRole("button", { name: "I have it" }).click();
  return value;
}

async function confirm(page, name, answer) {
  await button(page, name).click();
  await page.getByRole("dialog").getByRole("button", { name: answer }).click();
}

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What the page does wrong by the rules of WCAG 2.2 AA; `rules`: only those. */
async function wrong(page, rules) {
  return page.evaluate(async (rules) => {
    const runOnly = rules ?? { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] };
    const { violations } = await window.axe.run(document, { runOnly, resultTypes: ["violations"] });
    return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
  }, rules);
}

const scenarios = {
  /** Sees the engines, the worker, and then what a batch moves. */
  async system(page, away, model) {
    await menu(page, "Engines").click();
    await row(page, model).filter({ hasText: "Ready" }).waitFor();
    await row(page, away).filter({ hasText: "Away" }).filter({ hasText: "Connection refused" }).waitFor();
    await menu(page, "Workers").click();
    await row(page, "Sends lines to its engines.").waitFor();

    await menu(page, "Charts").click();
    const lines = chart(page, "Lines a second");
    await lines.locator("canvas").waitFor();
    assert.ok(!(await lines.innerText()).includes("at most"), "no line was answered yet");
    console.log("watches");
    await lines.getByText(/Answered: .* at most [\d.]+/).waitFor();
    await lines.locator("summary").click();
    await lines.getByRole("row").nth(1).waitFor();
    await page.getByRole("link", { name: "7 days" }).click();
    await chart(page, "Cache hit rate").locator("canvas").waitFor();
    await lines.getByText(/Answered: .* at most [\d.]+/).waitFor();
  },

  /** Adds a webhook, tests it and gives it another secret. */
  async webhook(page, url) {
    await menu(page, "Webhooks").click();
    await appears(page, "Nobody is told");
    await button(page, "New webhook").click();
    await field(page, "Name").fill("Report");
    await field(page, "URL").fill("http://192.0.2.1.invalid/");
    for (const box of await page.getByRole("checkbox").all()) await box.uncheck();
    await button(page, "Add it").click();
    await page.getByRole("dialog").getByRole("alert").filter({ hasText: /event/ }).waitFor();
    await field(page, "URL").fill(url);
    await field(page, "batch.failed").check();
    await button(page, "Add it").click();
    const first = await secret(page, "The secret of Report");
    await row(page, "Report").filter({ hasText: "batch.failed" }).waitFor();
    console.log(first);

    await button(page, "Test Report").click();
    await choice(page, "Event").selectOption("batch.expired");
    await button(page, "Send it").click();
    await appears(page, "Report has answered 200.");
    await button(page, "New secret for Report").click();
    await button(page, "Make a new secret").click();
    const second = await secret(page, "The secret of Report");
    assert.ok(second.startsWith("whsec_") && second !== first);
    await confirm(page, "Delete Report", "Delete it");
    await appears(page, "Nobody is told");
  },

  /** Finds a dead letter; sends it again when its receiver is there. */
  async letters(page, batch, batchOfNobody) {
    await menu(page, "Webhooks").click();
    await row(page, "Disabled").waitFor();
    await menu(page, "Deliveries").click();
    await choice(page, "Show").selectOption("Dead");
    await row(page, "410").nth(1).waitFor();
    await menu(page, "Webhooks").click();
    console.log("has seen it");
    await button(page, "Enable all ends").click();
    await row(page, "Active").waitFor();

    await menu(page, "Deliveries").click();
    await button(page, `Try now: batch.completed of ${batch}`).click();
    await row(page, batch.slice(0, 14)).filter({ hasText: "Delivered" }).waitFor();
    await confirm(page, `Delete batch.completed of ${batchOfNobody}`, "Delete it");
    await row(page, batchOfNobody.slice(0, 14)).waitFor({ state: "detached" });
  },

  /** Closes an open server with a key, and makes a project with a key of its own. */
  async keys(page) {
    await menu(page, "Keys").click();
    await appears(page, "There is no key yet");
    await button(page, "New key").click();
    await field(page, "Name").fill("Operator");
    const admin = page.getByRole("checkbox", { name: /^admin:/ });
    await admin.uncheck();
    await button(page, "Make it").click();
    await page.getByRole("dialog").getByRole("alert").filter({ hasText: "needs the scope admin" }).waitFor();
    await admin.check();
    await button(page, "Make it").click();
    console.log(await secret(page, "The key Operator"));
    await row(page, "Operator").filter({ hasText: "Yours" }).waitFor();

    await menu(page, "Projects").click();
    await button(page, "New project").click();
    await field(page, "Name").fill("Night");
    await field(page, "Lines to do").fill("500");
    await button(page, "Make it").click();
    await row(page, "Night").filter({ hasText: "500 lines" }).waitFor();
    await button(page, "Change Night").click();
    await field(page, "Lines to do").fill("");
    await field(page, "Batches that have not ended").fill("2");
    await button(page, "Save").click();
    await row(page, "Night").filter({ hasText: "2 batches" }).waitFor();
    assert.ok(!(await row(page, "Night").innerText()).includes("lines"));

    await page.getByRole("link", { name: "Keys of Night" }).click();
    await appears(page, "No keys");
    await button(page, "New key").click();
    await field(page, "Name").fill("Robot");
    await choice(page.getByRole("dialog"), "Project").selectOption("Night");
    await button(page, "Make it").click();
    const first = await secret(page, "The key Robot");
    await button(page, "Rotate Robot").click();
    await choice(page, "The old one is good for").selectOption("no longer");
    await button(page, "Make the new key").click();
    const second = await secret(page, "The key Robot");
    assert.notEqual(first, second);
    await row(page, "Expired").waitFor();
    await confirm(page, "Revoke Robot", "Revoke it");
    await row(page, "Revoked").waitFor();
    console.log(first);
    console.log(second);

    await menu(page, "Audit log").click();
    await row(page, "api_key.revoked").filter({ hasText: "Operator" }).waitFor();
    await choice(page, "What").selectOption("project.updated");
    await row(page, "api_key.revoked").first().waitFor({ state: "detached" });
    await row(page, "project.updated").filter({ hasText: "Operator" }).waitFor();
    await menu(page, "Settings").click();
    await row(page, "webhook_allow").filter({ hasText: "Flag" }).waitFor();
    await page.getByLabel("Only what differs from its default").check();
    await row(page, "Default").first().waitFor({ state: "detached" });
  },

  /** Has all pages checked, in both themes. */
  async accessible(page, batch) {
    await heading(page, "Queue");
    await page.evaluate(axe);
    const faults = [];
    const check = async (name) => {
      await page.locator(".loading").first().waitFor({ state: "detached" });
      for (const fault of await wrong(page)) faults.push(`${name}: ${fault}`);
      await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" });
      for (const fault of await wrong(page, ["color-contrast"])) faults.push(`${name}, dark: ${fault}`);
      await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
    };
    await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
    const titles = await page.locator("nav[aria-label=Pages] a").allTextContents();
    assert.ok(titles.length >= 13);
    for (const title of titles) {
      await menu(page, title).click();
      await page.getByRole("heading", { level: 1 }).waitFor();
      await check(title);
    }
    for (const part of ["", "/log", "/deliveries", "/details"]) {
      await page.evaluate((place) => (location.hash = place), `#/batches/${batch}${part}`);
      await page.getByRole("heading", { level: 1 }).waitFor();
      await check(`batch${part}`);
    }
    for (const [title, name] of [["Webhooks", "New webhook"], ["Keys", "New key"], ["Projects", "New project"]]) {
      await menu(page, title).click();
      await button(page, name).click();
      await check(name);
      await page.keyboard.press("Escape");
    }
    assert.deepEqual(faults, []);
  },
};

/** What the console may say: that the server refused something, where the scenario is about that. */
const kExpected = { webhook: /status of 400/ };

await play(scenarios, kExpected);
