import { get, post, type Query, remove } from "./api";
import type { List, Scope } from "./types";

/** Null: no limit. */
export interface Limits {
  stored_bytes: number | null;
  active_batches: number | null;
  queued_lines: number | null;
  requests_per_second: number | null;
}

export interface Project {
  id: string;
  name: string;
  status: "active" | "archived";
  created_at: number;
  /** Its share of the slots, against those of other projects that have work. */
  weight: number;
  limits: Limits;
}

export type NewProject = Pick<Project, "name" | "weight" | "limits">;

export interface ApiKey {
  id: string;
  name: string;
  redacted_value: string;
  project_id: string;
  scopes: Scope[];
  created_at: number;
  expires_at: number | null;
  revoked_at: number | null;
  last_used_at: number | null;
}

export interface NewKey {
  name: string;
  project_id: string;
  scopes: Scope[];
  expires_in_seconds: number | null;
}

export interface KeyWithValue extends ApiKey {
  value: string;
}

/** What it is about stands under its type: `"batch.created": {"id": …}`. */
export type AuditLog = {
  id: string;
  type: string;
  effective_at: number;
  project: { id: string };
  actor: { api_key: { id: string } } | null;
  request_id: string | null;
};

export interface Setting {
  key: string;
  /** As in the configuration file. */
  value: string;
  source: "default" | "file" | "environment" | "flag";
  help: string;
}

const kPath = "/v1/organization";

export const listProjects = (query: Query, signal: AbortSignal) => get<List<Project>>(`${kPath}/projects`, query, signal);
export const createProject = (project: NewProject) => post<Project>(`${kPath}/projects`, project);
export const changeProject = (id: string, change: NewProject) => post<Project>(`${kPath}/projects/${id}`, change);
export const archiveProject = (id: string) => post<Project>(`${kPath}/projects/${id}/archive`);

export const listKeys = (query: Query, signal: AbortSignal) => get<List<ApiKey>>(`${kPath}/api_keys`, query, signal);
export const createKey = (key: NewKey) => post<KeyWithValue>(`${kPath}/api_keys`, key);
export const rotateKey = (id: string, overlap: number) => post<KeyWithValue>(`${kPath}/api_keys/${id}/rotate`, { overlap_seconds: overlap });
export const revokeKey = (id: string) => remove(`${kPath}/api_keys/${id}`);

export const listAuditLogs = (query: Query, signal: AbortSignal) => get<List<AuditLog>>(`${kPath}/audit_logs`, query, signal);
export const listSettings = (signal: AbortSignal) => get<List<Setting>>("/v1/settings", {}, signal);
