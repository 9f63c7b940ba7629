// node dashboard.mjs SCENARIO URL [ARGUMENT…]: does with the dashboard at the URL what a person would. $CHROMIUM is the
// browser. Ends with 0 when all was as expected and the browser's console had nothing to say. tests/e2e/test_dashboard.py
// makes the servers.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { appears, button, heading, menu, play, row } from "./browser.mjs";

async function drop(page, name, text) {
  const transfer = await page.evaluateHandle(
    ([name, text]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([text], name));
      return transfer;
    },
    [name, text],
  );
  await page.dispatchEvent(".drop", "drop", { dataTransfer: transfer });
}

async function bring(page, text) {
  await menu(page, "New batch").click();
  await drop(page, "dropped.jsonl", text);
  await button(page, "Upload and begin").click();
}

async function downloaded(page, name) {
  const [download] = await Promise.all([page.waitForEvent("download"), button(page, name).click()]);
  return (await readFile(await download.path(), "utf8")).trim().split("\n").map((line) => JSON.parse(line));
}

const scenarios = {
  /** Brings a file, watches the batch to its end, and looks at an answer. */
  async watch(page, text) {
    await bring(page, text);
    await heading(page, "dropped");
    await page.getByRole("link", { name: "Live log" }).click();
    await heading(page, "Completed");
    const requests = text.trim().split("\n").map((line) => JSON.parse(line));
    await appears(page, `${requests.length} received`);

    await page.getByRole("link", { name: "Lines" }).click();
    const [{ custom_id, body }, { custom_id: other }] = requests;
    await row(page, other).waitFor();
    await page.getByLabel("custom_id contains").fill(custom_id);
    await row(page, other).waitFor({ state: "detached" });
    await button(page, custom_id).click();
    const line = page.getByRole("dialog", { name: custom_id });
    await line.getByText(body.messages[0].content, { exact: true }).waitFor();
    const answer = await line.locator(".answer p").innerText();
    await page.keyboard.press("Escape");
    await line.waitFor({ state: "detached" });

    const answers = await downloaded(page, "Download answers");
    assert.deepEqual(answers.map((one) => one.custom_id), requests.map((one) => one.custom_id));
    assert.equal(answers[0].response.body.choices[0].message.content.trim(), answer.trim());
  },

  /** Brings a file with faults, and reads where they are. */
  async faults(page, text, ...lines) {
    await bring(page, text);
    await appears(page, `${lines.length} faults were found`);
    for (const line of lines) await page.getByRole("rowheader", { name: line, exact: true }).waitFor();
    await row(page, text.split("\n")[lines[0] - 1].slice(0, 40)).waitFor();
    await button(page, "Upload and begin").waitFor(); // the mended file can come at once
  },

  /** Pauses, moves and cancels what runs. */
  async cancel(page, id) {
    await row(page, "Its lines are being answered.").getByRole("link").click();
    await heading(page, "Running");
    await button(page, "Pause").click();
    await heading(page, "Paused");
    await button(page, "Resume").click();
    await heading(page, "Running");
    await page.getByLabel("Priority").selectOption("High");
    await appears(page, "Its priority is high now.");
    await button(page, "Cancel").click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel the batch" }).click();
    await heading(page, "Cancelled");
    assert.ok(page.url().includes(id));
  },

  /** Looks at the lines that failed, and has them run again. */
  async retry(page, id, customId, message) {
    await page.goto(`${page.url()}#/batches/${id}`);
    await heading(page, "Completed");
    await row(page, customId).waitFor();
    assert.ok((await page.getByRole("row").count()) > 2);
    await page.getByRole("combobox", { name: "Lines" }).selectOption("Failed");
    await row(page, "Answered").first().waitFor({ state: "detached" });
    await row(page, customId).filter({ hasText: message }).waitFor();
    const [error] = await downloaded(page, "Download errors");
    assert.equal(error.custom_id, customId);
    await button(page, "Retry failed").click();
    await page.waitForURL((url) => url.hash.includes("batch_") && !url.hash.includes(id));
    await heading(page, "Completed");
    await page.getByRole("link", { name: "Details" }).click();
    await page.getByRole("link", { name: id }).waitFor();

    await menu(page, "History").click();
    await page.getByLabel("Id or metadata contains").fill(id);
    await page.getByRole("row").nth(2).waitFor({ state: "detached" });
    await row(page, "1 failed").waitFor();
  },

  /** Compares the two newest batches, of which the lines with that custom_id differ. */
  async compare(page, customId) {
    await menu(page, "History").click();
    const choices = page.getByRole("checkbox", { name: /^Choose batch_/ });
    await choices.nth(1).check();
    await choices.nth(0).check();
    await page.getByRole("link", { name: "Compare both" }).click();
    await heading(page, "Compare");
    await row(page, customId).filter({ hasText: "Different" }).waitFor();
    await page.getByLabel("Show").selectOption("Those that differ");
    await row(page, "Same").first().waitFor({ state: "detached" });
  },

  /** Comes in with a key, as far as that opens. */
  async login(page, key, smallKey) {
    const field = page.getByLabel("API key");
    const signIn = async (value) => {
      await field.fill(value);
      await button(page, "Sign in").click();
    };
    await signIn("psk_wrong");
    await page.getByRole("alert").filter({ hasText: "API key" }).waitFor();
    await signIn(key);
    await heading(page, "Queue");
    await appears(page, "No worker is online");
    await appears(page, "Nothing waits and nothing runs");
    await appears(page, "penstock submit");
    await page.reload();
    await heading(page, "Queue");
    await button(page, "Sign out").click();
    await signIn(smallKey);
    await appears(page, "Your key does not open this page");
    assert.equal(await menu(page, "History").count(), 0);
  },

  /** Sees the server go and come back. */
  async reconnect(page) {
    const state = (text) => page.locator(".connection").filter({ hasText: text }).waitFor();
    await state("Live");
    console.log("live");
    await state("Not connected");
    console.log("alone");
    await state("Live");
  },

  /** Goes through all pages as on a phone, by keyboard. */
  async phone(page) {
    await page.setViewportSize({ width: 360, height: 740 });
    await heading(page, "Queue");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    const titles = await page.locator("nav[aria-label=Pages] a").allTextContents();
    assert.ok(titles.length >= 4);
    for (const title of titles) {
      await button(page, "Menu").press("Enter");
      await menu(page, title).press("Enter");
      await page.locator("button.menu[aria-expanded=false]").waitFor(); // by now it is the other page
      await page.getByRole("heading", { level: 1 }).waitFor();
      await page.locator(".loading").waitFor({ state: "detached" });
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 360, `${title} is ${width} pixels wide`);
    }
  },
};

/** What the console may say: that the server refused or was away, where the scenario is about that. */
const kExpected = { login: /status of 40[13]/, reconnect: /net::ERR_/ };

await play(scenarios, kExpected);
