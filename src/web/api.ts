import type { Batch, BatchLine, Comparison, File_, List, Principal, Priority, Queue, Totals } from "./types";
import { forget, key, lock } from "./session";

/** An answer that is not a 2xx; its message is the server's own. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string | null = null,
  ) {
    super(message);
  }
}

export type Query = Record<string, string | number | boolean | null | undefined>;

/** `path` with those parameters that say something. */
export function withQuery(path: string, query: Query = {}): string {
  const said = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(said.map(([name, value]) => [name, String(value)])).toString();
  return text ? `${path}?${text}` : path;
}

/** Relative to the page, which may stand behind a proxy in a folder. */
function url(path: string): string {
  return new URL(path.replace(/^\//, ""), document.baseURI).href;
}

function authorization(): Record<string, string> {
  const value = key();
  return value ? { Authorization: `Bearer ${value}` } : {};
}

function refusal(status: number, body: string): ApiError {
  let message = `The server answered with ${status}.`;
  let code: string | null = null;
  try {
    const { error } = JSON.parse(body);
    message = error.message;
    code = error.code;
  } catch {
    // Not ours: a proxy's page, say.
  }
  if (status === 401) {
    const had = key() !== null;
    forget();
    lock(had ? message : null);
  }
  return new ApiError(message, status, code);
}

/** The answer as it comes, of a request that was not refused. */
export async function open(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url(path), { ...init, headers: { ...authorization(), ...init.headers } });
  } catch (failure) {
    if (init.signal?.aborted) throw failure;
    throw new ApiError("The server cannot be reached.", 0);
  }
  if (!response.ok) throw refusal(response.status, await response.text());
  return response;
}

export async function get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T> {
  return (await open(withQuery(path, query), signal ? { signal } : {})).json();
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  const init = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await open(path, init)).json();
}

export async function remove<T>(path: string): Promise<T> {
  return (await open(path, { method: "DELETE" })).json();
}

/** Brings a file of the purpose `batch`. `told` hears how much of it has gone, from 0 to 1. */
export function uploadFile(file: File, told: (part: number) => void, signal: AbortSignal): Promise<File_> {
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", file, file.name.endsWith(".jsonl") ? file.name : `${file.name}.jsonl`);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
    request.upload.onprogress = (event) => told(event.loaded / event.total);
    request.onload = () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText));
      else reject(refusal(request.status, request.responseText));
    };
    request.onerror = () => reject(new ApiError("The connection broke before the file was there.", 0));
    request.onabort = () => reject(new ApiError("The upload was given up.", 0));
    signal.addEventListener("abort", () => request.abort());
    request.open("POST", url("/v1/files"));
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.send(form);
  });
}

/** Has the browser save a file. A plain link could not send the key. */
export async function download(fileId: string, name: string): Promise<void> {
  const content = await (await open(`/v1/files/${fileId}/content`)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export interface NewBatch {
  input_file_id: string;
  endpoint: string;
  completion_window: string;
  priority?: Priority;
  metadata?: Record<string, string>;
  dedupe?: boolean;
  webhook?: { url: string };
}

export type BatchFilter = {
  status?: string;
  model?: string;
  created_after?: number;
  created_before?: number;
  search?: string;
};

export type LineFilter = { status?: string; custom_id?: string; after?: number; limit?: number };

export const whoami = () => get<Principal>("/v1/whoami");
export const getQueue = (signal?: AbortSignal) => get<Queue>("/v1/queue", {}, signal);
export const listFiles = (query: Query, signal?: AbortSignal) => get<List<File_>>("/v1/files", query, signal);
export const listBatches = (query: BatchFilter & { after?: string; limit?: number }, signal?: AbortSignal) =>
  get<List<Batch>>("/v1/batches", query, signal);
export const getTotals = (filter: BatchFilter, signal?: AbortSignal) => get<Totals>("/v1/jobs/stats", filter, signal);
export const getBatch = (id: string, signal?: AbortSignal) => get<Batch>(`/v1/batches/${id}`, {}, signal);
export const createBatch = (batch: NewBatch) => post<Batch>("/v1/batches", batch);
export const setPriority = (id: string, priority: Priority) => post<Batch>(`/v1/batches/${id}`, { priority });
export const actOnBatch = (id: string, action: "cancel" | "pause" | "resume" | "retry") =>
  post<Batch>(`/v1/batches/${id}/${action}`);
export const listLines = (id: string, query: LineFilter, signal?: AbortSignal) =>
  get<List<BatchLine>>(`/v1/batches/${id}/lines`, query, signal);
export const compare = (
  id: string,
  query: { with: string; show?: string; after?: string; limit?: number },
  signal?: AbortSignal,
) => get<Comparison>(`/v1/batches/${id}/comparison`, query, signal);
