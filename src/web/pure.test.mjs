// What needs no browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { answerText, failureText, messagesOf } from "./answer";
import { statusOf, whyItWaits } from "./batch";
import { compareWords } from "./diff";
import { EventParser, linesOf } from "./events";
import { bytes, duration, percent, relative } from "./format";
import { exampleFile, linesAt, peek } from "./jsonl";
import { joined, kCharts, kRanges, pieces, summaryOf } from "./stats";

const kBatch = { status: "validating", model: "m", paused_at: null, queue_position: 1, metadata: null };
const kQueue = { worker: { status: "online" } };
const engine = (state, more) => [{ models: ["m"], state, reason: null, ...more }];

test("a batch says why it waits", () => {
  for (const [batch, engines, words, queue = kQueue] of [
    [{}, engine("ready"), /^Next: it begins when a slot/],
    [{}, undefined, /^Next: /],
    [{ queue_position: 2 }, engine("ready"), /^Behind 1 batch of/],
    [{ queue_position: 4 }, engine("ready"), /^Behind 3 batches of/],
    [{ model: null }, [], /^The lines of its file are checked/],
    [{ paused_at: 1 }, engine("ready"), /^Paused/],
    [{}, [], /^No engine serves m\./],
    [{}, engine("starting"), /starting/],
    [{}, engine("standby"), /^Another model has the device/],
    [{}, engine("down", { reason: "refused" }), /away: refused/],
    [{}, [...engine("down"), ...engine("ready")], /^Next: /],
    [{}, engine("ready"), /^No worker is online/, { worker: { status: "offline" } }],
    [{ status: "in_progress" }, engine("ready"), /are being answered/],
    [{ status: "in_progress" }, engine("failed", { reason: "no memory" }), /away: no memory/],
    [{ status: "cancelling", paused_at: 1 }, engine("ready"), /under way/],
  ]) {
    assert.match(whyItWaits({ ...kBatch, ...batch }, queue, engines), words);
  }
});

test("a batch has one state", () => {
  const state = (batch) => statusOf({ ...kBatch, ...batch }).text;
  assert.equal(state({}), "Waiting");
  assert.equal(state({ model: null }), "Checking");
  assert.equal(state({ status: "in_progress", paused_at: 1 }), "Paused");
  assert.equal(state({ status: "cancelled", paused_at: 1 }), "Cancelled");
});

test("events are put together from lines", () => {
  const heard = [];
  const parser = new EventParser((...event) => heard.push(event));
  for (const line of [": quiet", "", "event: queue", "data: {", "data:  1}", "", "data: x\r", "\r"]) parser.push(line);
  assert.deepEqual(heard, [
    ["queue", "{\n 1}"],
    ["message", "x"],
  ]);
});

test("lines are whole, wherever a body is cut", async () => {
  const text = new TextEncoder().encode("a\nbb\nä\n\nlast");
  const body = new ReadableStream({
    start(controller) {
      for (const byte of text) controller.enqueue(Uint8Array.of(byte));
      controller.close();
    },
  });
  const lines = [];
  for await (const some of linesOf(new Response(body))) lines.push(...some);
  assert.deepEqual(lines, ["a", "bb", "ä", ""]);
});

test("words that are in one text alone are told", () => {
  const [left, right] = compareWords("the river is long", "the river was long");
  assert.deepEqual(left.filter(({ isOwn }) => isOwn).map(({ text }) => text), ["is "]);
  assert.deepEqual(right.filter(({ isOwn }) => isOwn).map(({ text }) => text), ["was "]);
  assert.equal(right.map(({ text }) => text).join(""), "the river was long");
});

test("figures are short and not rounded up to all", () => {
  assert.deepEqual([0, 59.6, 200, 3700, 90_000].map(duration), ["0 s", "1 min", "3 min 20 s", "1 h 1 min", "1 d 1 h"]);
  assert.deepEqual([percent(0, 0), percent(1, 3), percent(9999, 10_000), percent(5, 5)], ["0 %", "33 %", "99.9 %", "100 %"]);
  assert.deepEqual([relative(100, 40), relative(40, 100), relative(5, 5)], ["in 1 min", "1 min ago", "now"]);
  assert.deepEqual([512, 2048, 300 << 20].map(bytes), ["512 B", "2.0 KiB", "300 MiB"]);
});

test("a file is looked into before it is sent", async () => {
  assert.deepEqual(await peek(exampleFile("m")), { endpoint: "/v1/chat/completions", model: "m", fault: undefined });
  assert.match((await peek(new Blob(["nonsense\n{}"]))).fault, /not JSON/);
  assert.match((await peek(new Blob([]))).fault, /empty/);
  assert.deepEqual([...(await linesAt(new Blob(["a\nb\nc\nd"]), [2, 4, 9]))], [[2, "b"], [4, "d"]]);
});

test("requests and answers of each endpoint have words", () => {
  const content = [{ type: "text", text: "Hi" }, { type: "image_url" }];
  assert.deepEqual(messagesOf({ messages: [{ role: "user", content }] }), [{ role: "user", text: "Hi\n[image_url]" }]);
  assert.deepEqual(messagesOf({ prompt: "Once" }), [{ role: "prompt", text: "Once" }]);
  assert.deepEqual(messagesOf({ instructions: "Be brief", input: "Hi" }).map(({ role }) => role), ["instructions", "input"]);
  assert.equal(answerText({ choices: [{ message: { content: "Yes" } }] }), "Yes");
  assert.equal(answerText({ choices: [{ text: "upon" }] }), "upon");
  assert.equal(answerText({ output: [{ content: [{ type: "output_text", text: "Yes" }] }] }), "Yes");
  assert.match(answerText({ data: [{ embedding: [1, 2, 3] }] }), /^3 numbers/);
  assert.equal(answerText(undefined), "");
  assert.equal(failureText({ response: { status_code: 400, body: { error: { message: "No." } } }, error: null }), "400: No.");
  assert.equal(failureText({ response: { status_code: 200, body: {} }, error: null }), undefined);
});

const at = (at, lines = 0) => ({ at, lines, failed: 0, input_tokens: 0, cached_tokens: 0, output_tokens: 0, queued_lines: at, slots: 8, slots_busy: 0 });

test("points that come take the place of those that had not grown yet, and old ones leave", () => {
  const known = [at(60, 1), at(120, 2), at(150, 3)];
  const fresh = [at(120, 2), at(180, 7), at(195, 1)];
  assert.deepEqual(joined(known, fresh, 0), [at(60, 1), at(120, 2), at(180, 7), at(195, 1)]);
  assert.deepEqual(joined(known, [at(155, 4)], 120), [at(120, 2), at(150, 3), at(155, 4)]);
  assert.deepEqual(joined(known, [], 0), known);
});

test("the minute that is under way is as long as it has been", () => {
  const { hour, week } = kRanges;
  assert.deepEqual([60, 61, 90, 120].map((end) => week.seconds(at(end))), [60, 1, 30, 60]);
  assert.equal(hour.seconds(at(61)), 5);
});

test("a chart says what is now, the mean and the highest, and leaves out where there is nothing to tell", () => {
  const lines = kCharts[0].series[0];
  const points = [at(5, 10), at(10, 30), at(15, 5)];
  assert.deepEqual(summaryOf(points, lines, kRanges.hour), { last: 1, mean: 3, highest: { value: 6, at: 10 } });
  const hits = kCharts[2].series[0];
  assert.deepEqual(summaryOf(points, hits, kRanges.hour), { last: null, mean: null, highest: null });
  assert.equal(summaryOf([{ ...at(5), input_tokens: 8, cached_tokens: 2 }], hits, kRanges.hour).last, 25);
});

test("the table of a chart sums what came in its pieces, and tells how things stood at their ends", () => {
  const found = pieces([at(295, 1), at(300, 2), at(305, 3)], kRanges.hour);
  assert.deepEqual(
    found.map(({ point, seconds }) => [point.at, point.lines, point.queued_lines, seconds]),
    [[300, 5, 305, 10], [0, 1, 295, 5]],
  );
});
