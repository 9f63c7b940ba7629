import { get, post, type Query, remove } from "./api";
import type { Delivery, List } from "./types";

export const kEventTypes = ["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"] as const;
export type EventType = (typeof kEventTypes)[number];

export interface WebhookEndpoint {
  id: string;
  created_at: number;
  /** Since it has answered 410. */
  disabled_at: number | null;
  name: string;
  url: string;
  event_types: EventType[];
  signing_secret_hint: string;
}

export interface NewEndpoint {
  name: string;
  url: string;
  event_types: EventType[];
}

export interface EndpointWithSecret extends WebhookEndpoint {
  signing_secret: string;
}

export interface WebhookTest {
  status_code: number;
  success: boolean;
}

const kPath = "/v1/webhook_endpoints";

export const listEndpoints = (after: string | undefined, signal: AbortSignal) =>
  get<List<WebhookEndpoint>>(kPath, { after, limit: 50 }, signal);
export const createEndpoint = (endpoint: NewEndpoint) => post<EndpointWithSecret>(kPath, endpoint);
/** Any change lets one that is disabled hear of batches again, also one that changes nothing. */
export const enableEndpoint = (id: string) => post<WebhookEndpoint>(`${kPath}/${id}`);
export const deleteEndpoint = (id: string) => remove(`${kPath}/${id}`);
export const rotateSecret = (id: string, isOldKept: boolean) =>
  post<EndpointWithSecret>(`${kPath}/${id}/rotate_secret`, { keep_old_secret_active_for_24_hours: isOldKept });
export const testEndpoint = (id: string, event: EventType) => post<WebhookTest>(`${kPath}/${id}/test`, { event_type: event });

export const listDeliveries = (query: Query, signal: AbortSignal) => get<List<Delivery>>("/v1/deliveries", query, signal);
export const retryDelivery = (id: string) => post<Delivery>(`/v1/deliveries/${id}/retry`);
export const deleteDelivery = (id: string) => remove(`/v1/deliveries/${id}`);
