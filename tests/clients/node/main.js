// The official Node client through the whole life of some batches: node main.js BASE_URL INPUT.jsonl
// It writes a line for each step, and stops at the first answer that differs from what it expects. The server has the
// one model fake-model, takes three unfinished batches, and holds back all answers after those of the first three.

import assert from "node:assert/strict";
import { createReadStream, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

const [baseURL, input] = process.argv.slice(2);
const questions = parse(readFileSync(input, "utf8"));

let requests = 0;
const client = new OpenAI({
  baseURL,
  apiKey: "any",
  fetch: (...request) => {
    requests += 1;
    return fetch(...request);
  },
});

function parse(jsonl) {
  return jsonl.trimEnd().split("\n").map((line) => JSON.parse(line));
}

async function step(name, run) {
  try {
    await run();
  } catch (error) {
    console.log(`FAILED  ${name}`);
    throw error;
  }
  console.log(`ok  ${name}`);
}

// The call must be refused with this kind of error, and must not have been tried again.
async function refused(call, kind, expected) {
  const before = requests;
  const error = await call().then(
    () => assert.fail(`expected ${kind.name}, but the call succeeded`),
    (error) => error,
  );
  assert.ok(error instanceof kind, `expected ${kind.name}, got ${error}`);
  assert.equal(requests - before, 1, "requests sent for the refused call");
  assert.ok(error.requestID, "the error has no request id");
  assert.ok(error.message.includes(expected.message), `'${error.message}' does not say '${expected.message}'`);
  assert.equal(error.type, expected.type ?? "invalid_request_error");
  assert.equal(error.param, expected.param ?? null);
  assert.equal(error.code, expected.code ?? null);
  return error;
}

// The ids on all pages, as the client walks them.
async function walk(firstPage) {
  const ids = [];
  for await (const item of firstPage) ids.push(item.id);
  return ids;
}

const upload = () => client.files.create({ file: createReadStream(input), purpose: "batch" });

const create = (inputFileId, change, options) =>
  client.batches.create(
    { input_file_id: inputFileId, endpoint: "/v1/chat/completions", completion_window: "24h", ...change },
    options,
  );

async function waitFor(id, status) {
  const deadline = Date.now() + 60_000;
  while (true) {
    const batch = await client.batches.retrieve(id);
    if (batch.status === status) return batch;
    assert.ok(Date.now() < deadline, `${id} is still ${batch.status} after 60 s, not ${status}`);
    await sleep(50);
  }
}

await step("list and retrieve models", async () => {
  assert.deepEqual(await walk(client.models.list()), ["fake-model"]);
  const model = await client.models.retrieve("fake-model");
  assert.deepEqual([model.id, model.object], ["fake-model", "model"]);
  await refused(() => client.models.retrieve("unknown"), OpenAI.NotFoundError, {
    message: "unknown",
    param: "model",
    code: "model_not_found",
  });
});

const files = [];
await step("upload a file and read it back", async () => {
  const content = readFileSync(input);
  const file = await upload();
  files.push(file.id);
  assert.equal(file.object, "file");
  assert.equal(file.filename, "input.jsonl");
  assert.equal(file.purpose, "batch");
  assert.equal(file.bytes, content.length);
  assert.equal((await client.files.waitForProcessing(file.id)).status, "processed");
  assert.deepEqual(await client.files.retrieve(file.id), file);
  assert.deepEqual(Buffer.from(await (await client.files.content(file.id)).arrayBuffer()), content);
});

await step("list files over pages, newest first", async () => {
  files.push((await upload()).id, (await upload()).id);
  const page = await client.files.list({ limit: 2 });
  assert.deepEqual([page.data.length, page.has_more], [2, true]);
  assert.deepEqual(await walk(client.files.list({ limit: 2 })), files.toReversed());
  assert.deepEqual(await walk(client.files.list({ limit: 2, order: "asc", purpose: "batch" })), files);
});

await step("delete a file", async () => {
  const id = files.pop();
  const deleted = await client.files.delete(id);
  assert.deepEqual([deleted.id, deleted.deleted], [id, true]);
  assert.deepEqual(await walk(client.files.list()), files.toReversed());
  for (const call of [client.files.retrieve, client.files.content, client.files.delete]) {
    await refused(() => call.call(client.files, id), OpenAI.NotFoundError, {
      message: `No such File object: ${id}`,
      param: "id",
    });
  }
});

await step("an unknown batch and bad parameters are refused", async () => {
  await refused(() => client.batches.retrieve("batch_unknown"), OpenAI.NotFoundError, { message: "batch_unknown" });
  await refused(() => client.batches.cancel("batch_unknown"), OpenAI.NotFoundError, { message: "batch_unknown" });
  await refused(() => create(files[0], { endpoint: "/v1/nonsense" }), OpenAI.BadRequestError, {
    message: "Invalid value: '/v1/nonsense'. Supported values are: ",
    param: "endpoint",
    code: "invalid_value",
  });
  await refused(() => create("file-unknown"), OpenAI.BadRequestError, {
    message: "file-unknown",
    param: "input_file_id",
    code: "invalid_value",
  });
  assert.deepEqual(await walk(client.batches.list()), []);
});

const batches = [];
await step("create batches and page over them, each seen once", async () => {
  for (let n = 0; n < 3; n++) {
    const batch = await create(files[0], { metadata: { owner: "ünïcode 😀", number: `${n}` } });
    batches.push(batch.id);
    assert.equal(batch.object, "batch");
    assert.equal(batch.status, "validating");
    assert.equal(batch.endpoint, "/v1/chat/completions");
    assert.equal(batch.input_file_id, files[0]);
    assert.equal(batch.expires_at, batch.created_at + 24 * 60 * 60);
    assert.deepEqual(batch.metadata, { owner: "ünïcode 😀", number: `${n}` });
  }
  const page = await client.batches.list({ limit: 2 });
  assert.deepEqual([page.data.length, page.has_more], [2, true]);
  assert.deepEqual(await walk(client.batches.list({ limit: 2 })), batches.toReversed());
});

await step("poll to completed, and find every answer in the order of the input", async () => {
  for (const id of batches) {
    const batch = await waitFor(id, "completed");
    const total = questions.length;
    assert.deepEqual(batch.request_counts, { total, completed: total, failed: 0 });
    assert.equal(batch.error_file_id, null);
    assert.equal(batch.errors, null);
    assert.equal(batch.model, "fake-model");
    assert.equal(batch.usage.total_tokens, 5 * total);
    assert.ok(batch.created_at <= batch.in_progress_at && batch.in_progress_at <= batch.completed_at);

    assert.equal((await client.files.retrieve(batch.output_file_id)).purpose, "batch_output");
    const lines = parse(await (await client.files.content(batch.output_file_id)).text());
    assert.deepEqual(
      lines.map((line) => [line.custom_id, line.response.status_code, line.error]),
      questions.map((question) => [question.custom_id, 200, null]),
    );
    assert.deepEqual(
      lines.map((line) => line.response.body.choices[0].message.content),
      questions.map((question) => `You said: ${question.body.messages[0].content}`),
    );
  }
});

await step("a completed batch cannot be cancelled, which is not tried again", async () => {
  const error = await refused(() => client.batches.cancel(batches[0]), OpenAI.ConflictError, {
    message: "Cannot cancel a batch with status 'completed'.",
  });
  assert.equal(error.headers.get("x-should-retry"), "false");
});

const held = [];
await step("a full queue refuses the next batch", async () => {
  for (let n = 0; n < 3; n++) held.push((await create(files[0])).id);
  const error = await refused(() => create(files[0], {}, { maxRetries: 0 }), OpenAI.RateLimitError, {
    message: "Queue full (3/3 jobs). Try again later.",
    type: "rate_limit_error",
    code: "queue_full",
  });
  const seconds = Number(error.headers.get("retry-after"));
  assert.ok(seconds >= 1 && seconds <= 30, `retry-after: ${error.headers.get("retry-after")}`);
});

await step("cancel a running batch and those behind it", async () => {
  await waitFor(held[0], "in_progress");
  for (const id of held) {
    const batch = await client.batches.cancel(id);
    assert.ok(["cancelling", "cancelled"].includes(batch.status), batch.status);
    assert.ok(batch.cancelling_at);
  }
  for (const id of held) {
    const batch = await waitFor(id, "cancelled");
    assert.ok(batch.cancelled_at >= batch.cancelling_at);
    assert.equal(batch.completed_at, null);
    assert.equal((await client.batches.cancel(id)).status, "cancelled");
  }
});
