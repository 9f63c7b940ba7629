import type { FunctionComponent } from "preact";
import type { Scope } from "../types";
import { AuditPage } from "./audit";
import { BatchPage } from "./batch/page";
import { ChartsPage } from "./charts";
import { ComparePage } from "./compare";
import { DeliveriesPage } from "./deliveries";
import { EnginesPage } from "./engines";
import { HistoryPage } from "./history";
import { KeysPage } from "./keys";
import { NewBatchPage } from "./new_batch";
import { ProjectsPage } from "./projects";
import { QueuePage } from "./queue";
import { SettingsPage } from "./settings";
import { WebhooksPage } from "./webhooks";
import { WorkersPage } from "./workers";

export const kGroups = ["Batches", "System", "Deliveries", "Administration"] as const;

export interface Page {
  /** The first part of its place: #/queue. What follows is for the page to read, by useRoute(). */
  path: string;
  title: string;
  /** Where it stands in the navigation; absent: it is reached from other pages. */
  group?: (typeof kGroups)[number];
  /** Who lacks it does not see the page. */
  needs?: Scope;
  /** Paths of pages that are part of this one, as people see it. */
  also?: string[];
  component: FunctionComponent;
}

/** The first one is where people begin. */
export const kPages: Page[] = [
  { path: "queue", title: "Queue", group: "Batches", needs: "batches", component: QueuePage },
  { path: "new", title: "New batch", group: "Batches", needs: "batches", component: NewBatchPage },
  { path: "history", title: "History", group: "Batches", needs: "batches", also: ["batches"], component: HistoryPage },
  { path: "compare", title: "Compare", group: "Batches", needs: "batches", component: ComparePage },
  { path: "batches", title: "Batch", needs: "batches", component: BatchPage },
  { path: "engines", title: "Engines", group: "System", needs: "monitor", component: EnginesPage },
  { path: "workers", title: "Workers", group: "System", needs: "monitor", component: WorkersPage },
  { path: "charts", title: "Charts", group: "System", needs: "monitor", component: ChartsPage },
  { path: "webhooks", title: "Webhooks", group: "Deliveries", needs: "batches", component: WebhooksPage },
  { path: "deliveries", title: "Deliveries", group: "Deliveries", needs: "batches", component: DeliveriesPage },
  { path: "projects", title: "Projects", group: "Administration", needs: "admin", component: ProjectsPage },
  { path: "keys", title: "Keys", group: "Administration", needs: "admin", component: KeysPage },
  { path: "audit", title: "Audit log", group: "Administration", needs: "admin", component: AuditPage },
  { path: "settings", title: "Settings", group: "Administration", needs: "admin", component: SettingsPage },
];
