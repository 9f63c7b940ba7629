// The objects of the API that the page shows, as in src/api/openapi.json. Times are seconds since 1970.

export interface List<T> {
  object: "list";
  data: T[];
  first_id: string | null;
  last_id: string | null;
  has_more: boolean;
}

export type Scope = "files" | "batches" | "monitor" | "admin";

export interface Principal {
  project_id: string;
  project_name: string;
  key_id: string | null;
  scopes: Scope[];
  /** No key was ever made: everybody may do everything. */
  is_open: boolean;
  server: { version: string; started_at: number };
}

export interface File_ {
  id: string;
  bytes: number;
  created_at: number;
  expires_at: number | null;
  filename: string;
  purpose: string;
}

export type BatchStatus =
  | "validating"
  | "in_progress"
  | "finalizing"
  | "completed"
  | "failed"
  | "expired"
  | "cancelling"
  | "cancelled";

export type Priority = -1 | 0 | 1;

export interface Counts {
  total: number;
  completed: number;
  failed: number;
}

export interface Usage {
  input_tokens: number;
  input_tokens_details: { cached_tokens: number };
  output_tokens: number;
  output_tokens_details: { reasoning_tokens: number };
  total_tokens: number;
}

export interface BatchError {
  code: string;
  message: string;
  param: string | null;
  /** Of the input file, from 1. */
  line: number | null;
}

export interface Batch {
  id: string;
  endpoint: string;
  /** Null until its lines are validated. */
  model: string | null;
  errors: { data: BatchError[]; total: number } | null;
  input_file_id: string;
  completion_window: string;
  status: BatchStatus;
  priority: Priority;
  queue_position: number | null;
  /** ISO 8601, as is the next one. */
  estimated_start_time: string | null;
  estimated_completion_time: string | null;
  output_file_id: string | null;
  error_file_id: string | null;
  created_at: number;
  in_progress_at: number | null;
  expires_at: number;
  finalizing_at: number | null;
  completed_at: number | null;
  failed_at: number | null;
  expired_at: number | null;
  cancelling_at: number | null;
  cancelled_at: number | null;
  request_counts: Counts;
  usage: Usage;
  metadata: Record<string, string> | null;
  retry_of: string | null;
  paused_at: number | null;
  lines_per_second: number | null;
  dedupe: boolean;
  webhook: { url: string; events: string[] } | null;
  sinks: (string | { url: string })[] | null;
  deliveries: Delivery[];
}

export interface Delivery {
  id: string;
  batch_id: string;
  kind: "webhook" | "sink";
  event: string;
  url: string | null;
  sink: string | null;
  status: "pending" | "delivered" | "dead";
  attempts: number;
  bytes_delivered: number | null;
  last_error: string | null;
  created_at: number;
  next_attempt_at: number | null;
  delivered_at: number | null;
}

export interface Queue extends List<Batch> {
  depth: number;
  max_depth: number | null;
  worker: { status: "online" | "offline"; last_seen_at: number | null };
}

export interface LineResponse {
  status_code: number;
  request_id: string;
  body: unknown;
}

export interface LineError {
  code: string | null;
  message: string;
}

/** One request of a batch's input, with its answer if there is one. */
export interface BatchLine {
  /** From 0. */
  index: number;
  custom_id: string;
  status: "completed" | "failed" | "pending";
  /** Null once the input file is gone. */
  request: { method: string; url: string; body: unknown } | null;
  response: LineResponse | null;
  error: LineError | null;
  /** A body was left out since it is long. */
  truncated?: boolean;
}

/** A line of an output or error file. */
export interface ResultLine {
  id: string;
  custom_id: string;
  response: LineResponse | null;
  error: LineError | null;
}

export type Verdict = "same" | "different" | "only_left" | "only_right";

export interface ComparedLine {
  status: string;
  text: string;
  usage: Usage | null;
}

export interface Compared {
  custom_id: string;
  verdict: Verdict;
  left: ComparedLine | null;
  right: ComparedLine | null;
}

export interface Comparison extends List<Compared> {
  totals: Record<Verdict, number>;
}

export interface Engine {
  worker_id: string;
  name: string;
  kind: "managed" | "remote";
  models: string[];
  state: "ready" | "starting" | "standby" | "down" | "failed";
  reason: string | null;
  slots: number;
  slots_busy: number;
  waiting: number;
  lines_per_second: number;
  tokens_per_second: number;
  lines: number;
  shared: boolean;
}

export interface Worker {
  id: string;
  is_worker: boolean;
  host: string;
  pid: number;
  version: string;
  started_at: number;
  last_seen_at: number;
  slots: number;
  slots_busy: number;
  engines: number;
  lines_per_second: number;
  tokens_per_second: number;
  draining: boolean;
  disk_low: boolean;
}

/** What came in one step, over all workers; from `queued_lines` on: what was so at its end. */
export interface Point {
  at: number;
  lines: number;
  failed: number;
  input_tokens: number;
  cached_tokens: number;
  output_tokens: number;
  queued_lines: number;
  queued_batches: number;
  slots: number;
  slots_busy: number;
}

/** Sums over batches. */
export interface Totals {
  total_jobs: number;
  /** Of those that were completed or failed, from 0 to 1. */
  success_rate: number;
  /** In seconds, of those that were completed. */
  avg_duration: number;
  total_requests: number;
  completed_requests: number;
  failed_requests: number;
  input_tokens: number;
  cached_tokens: number;
  output_tokens: number;
}
