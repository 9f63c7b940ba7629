// What the programs here have in common: a browser, and names for what is on the page. $CHROMIUM is the browser.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

export const kQuiet =
  "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
const kPatience = 60_000; // ms: a hang guard

export const menu = (page, name) => page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name, exact: true });
export const button = (page, name) => page.getByRole("button", { name, exact: true });
export const row = (page, text) => page.getByRole("row").filter({ hasText: text });
export const heading = (page, text) => page.getByRole("heading", { level: 1 }).filter({ hasText: text }).waitFor();
export const appears = (page, text) => page.getByText(text).first().waitFor();

/**
 * Does the scenario that the command line names: SCENARIO URL [ARGUMENT…]. Throws when something was not as expected, or
 * when the browser's console said more than `expected` has for the scenario.
 */
export async function play(scenarios, expected = {}) {
  const [name, url, ...rest] = process.argv.slice(2);
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: kQuiet.split(" ") });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(kPatience);
    const faults = [];
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("console", (message) => {
      const text = `${message.type()}: ${message.text()}`;
      if (["error", "warning"].includes(message.type()) && !expected[name]?.test(text)) faults.push(text);
    });
    try {
      await page.goto(url);
      await scenarios[name](page, ...rest);
    } catch (failure) {
      console.log(`at ${page.url()}:\n${await page.locator("body").innerText()}`);
      throw failure;
    }
    assert.deepEqual(faults, [], "the browser's console");
  } finally {
    await browser.close();
  }
}
