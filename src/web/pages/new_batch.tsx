import { useEffect, useRef, useState } from "preact/hooks";
import { createBatch, get, listFiles, type NewBatch, uploadFile } from "../api";
import { isFinal, kPriorities } from "../batch";
import { Command } from "../components/copy";
import { Failure } from "../components/empty";
import { ErrorTable } from "../components/error_table";
import { Heading } from "../components/layout";
import { useEvents } from "../events";
import { bytes, dateTime, messageOf, percent } from "../format";
import { exampleFile, linesAt, peek, type Peek } from "../jsonl";
import { useLoaded } from "../loaded";
import { navigate, useTitle } from "../router";
import type { Batch, List, Priority } from "../types";

const kEndpoints = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];

type Step =
  | { at: "choosing"; error?: string }
  | { at: "uploading"; part: number }
  | { at: "creating" }
  | { at: "checking"; batch: Batch }
  | { at: "refused"; batch: Batch; texts?: Map<number, string> };

/** Takes a file by drag and drop, or by the dialog of the browser. */
function Drop({ onFile }: { onFile: (file: File) => void }) {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    // What is dropped beside it must not replace the page.
    const stop = (event: DragEvent) => event.preventDefault();
    addEventListener("dragover", stop);
    addEventListener("drop", stop);
    return () => {
      removeEventListener("dragover", stop);
      removeEventListener("drop", stop);
    };
  }, []);
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    const file = event.dataTransfer?.files[0];
    if (file) onFile(file);
  };
  return (
    <label
      class={isOver ? "drop over" : "drop"}
      onDragOver={(event) => (event.preventDefault(), setOver(true))}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      <strong>Drop a .jsonl file here, or choose one</strong>
      <span class="faint">One request a line, as for OpenAI’s Batch API</span>
      <input
        type="file"
        class="unseen"
        accept=".jsonl,application/x-ndjson,application/jsonl"
        onChange={({ currentTarget }) => {
          const file = currentTarget.files?.[0];
          if (file) onFile(file);
          currentTarget.value = "";
        }}
      />
    </label>
  );
}

/** What the form says, besides the file. */
function optionsOf(form: FormData): Omit<NewBatch, "input_file_id"> {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  return {
    endpoint: text("endpoint"),
    completion_window: text("window"),
    priority: Number(form.get("priority")) as Priority,
    dedupe: form.has("dedupe"),
    ...(text("name") && { metadata: { name: text("name") } }),
    ...(text("webhook") && { webhook: { url: text("webhook") } }),
  };
}

function Options({ endpoint, name }: { endpoint: string | undefined; name: string }) {
  return (
    <fieldset class="options">
      <legend class="unseen">How it is run</legend>
      <label class="field">
        Name
        <input name="name" maxLength={512} defaultValue={name} key={name} />
      </label>
      <label class="field">
        Endpoint
        <select name="endpoint" key={endpoint} defaultValue={endpoint}>
          {kEndpoints.map((one) => (
            <option key={one} selected={one === endpoint}>
              {one}
            </option>
          ))}
        </select>
      </label>
      <label class="field">
        Priority
        <select name="priority">
          {([1, 0, -1] as const).map((priority) => (
            <option key={priority} value={String(priority)} selected={priority === 0}>
              {kPriorities[priority]}
            </option>
          ))}
        </select>
      </label>
      <label class="field">
        To be done within
        <input name="window" defaultValue="24h" required />
      </label>
      <label class="field">
        Tell this URL of its end
        <input name="webhook" type="url" placeholder="https://…" />
      </label>
      <label class="check">
        <input name="dedupe" type="checkbox" /> Send like requests once
      </label>
    </fieldset>
  );
}

/** The model that an example is for: the first one that the server has. */
function useFirstModel(): string | undefined {
  return useLoaded((signal) => get<List<{ id: string }>>("/v1/models", {}, signal), "models").value?.data[0]?.id;
}

/** Brings a file and makes a batch of it. */
export function NewBatchPage() {
  useTitle("New batch");
  const [file, setFile] = useState<File>();
  const [seen, setSeen] = useState<Peek>();
  const [fileId, setFileId] = useState("");
  const [step, setStep] = useState<Step>({ at: "choosing" });
  const stop = useRef<AbortController>(null);
  useEffect(() => () => stop.current?.abort(), []);
  const model = useFirstModel();
  const files = useLoaded((signal) => listFiles({ purpose: "batch", limit: 50 }, signal), "files").value?.data ?? [];

  const choose = async (chosen: File) => {
    setFile(chosen);
    setFileId("");
    setStep({ at: "choosing" });
    setSeen(await peek(chosen));
  };

  const begin = async (options: Omit<NewBatch, "input_file_id">) => {
    stop.current = new AbortController();
    try {
      let id = fileId;
      if (file) {
        setStep({ at: "uploading", part: 0 });
        id = (await uploadFile(file, (part) => setStep({ at: "uploading", part }), stop.current.signal)).id;
      }
      setStep({ at: "creating" });
      setStep({ at: "checking", batch: await createBatch({ ...options, input_file_id: id }) });
    } catch (failure) {
      setStep({ at: "choosing", error: messageOf(failure) });
    }
  };

  useEvents(step.at === "checking" ? `/v1/batches/${step.batch.id}/events` : null, (_, data) => {
    const batch = data as Batch;
    if (batch.errors) void refuse(batch);
    else if (batch.model !== null || isFinal(batch)) navigate(`batches/${batch.id}`);
    return batch.model !== null || isFinal(batch);
  });
  const refuse = async (batch: Batch) => {
    setStep({ at: "refused", batch });
    const numbers = batch.errors!.data.map(({ line }) => line).filter((line) => line !== null);
    if (file && numbers.length > 0) setStep({ at: "refused", batch, texts: await linesAt(file, numbers) });
  };

  const isBusy = step.at === "uploading" || step.at === "creating" || step.at === "checking";
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    void begin(optionsOf(new FormData(event.currentTarget as HTMLFormElement)));
  };
  return (
    <>
      <Heading title="New batch" note="Each line of the file is one request; its answers come back in one file, in the same order." />
      {step.at === "choosing" && step.error !== undefined && <Failure message={step.error} />}
      {step.at === "refused" && step.batch.errors && (
        <ErrorTable errors={step.batch.errors} {...(step.texts && { texts: step.texts })} />
      )}
      {!isBusy && <Drop onFile={choose} />}
      {!isBusy && !file && (
        <div class="row">
          {files.length > 0 && (
            <label class="row">
              Or one that is there already
              <select value={fileId} onChange={(event) => setFileId(event.currentTarget.value)}>
                <option value="">–</option>
                {files.map(({ id, filename, created_at }) => (
                  <option key={id} value={id}>
                    {filename}, {dateTime(created_at)}
                  </option>
                ))}
              </select>
            </label>
          )}
          {model && (
            <button type="button" onClick={() => choose(exampleFile(model))}>
              Try an example
            </button>
          )}
        </div>
      )}
      {(file || fileId) && (
        <form class="card stack" onSubmit={submit}>
          {file && (
            <div class="row">
              <strong>{file.name}</strong>
              <span class="faint">
                {bytes(file.size)}
                {seen?.model && ` · for ${seen.model}`}
              </span>
              {!isBusy && (
                <button type="button" class="small" onClick={() => setFile(undefined)}>
                  Take another
                </button>
              )}
            </div>
          )}
          {seen?.fault && file && <p class="notice warn">{seen.fault}</p>}
          <Options endpoint={file ? seen?.endpoint : undefined} name={file?.name.replace(/\.jsonl$/, "") ?? ""} />
          <div class="row" role="status">
            {!isBusy && (
              <button type="submit" class="primary">
                {file ? "Upload and begin" : "Begin"}
              </button>
            )}
            {step.at === "uploading" && (
              <>
                <progress value={step.part} aria-label="Upload" />
                <span>Uploading: {percent(step.part, 1)}</span>
                <button type="button" onClick={() => stop.current?.abort()}>
                  Give up
                </button>
              </>
            )}
            {step.at === "creating" && <span>Making the batch…</span>}
            {step.at === "checking" && (
              <span>
                Its lines are checked. <a href={`#/batches/${step.batch.id}`}>Watch the batch</a>
              </span>
            )}
          </div>
        </form>
      )}
      <details>
        <summary>From a terminal</summary>
        <Command text="penstock submit requests.jsonl --watch" />
      </details>
    </>
  );
}
