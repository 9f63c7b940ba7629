import type { FunctionComponent } from "preact";
import type { Scope } from "../types";
import { BatchPage } from "./batch/page";
import { ComparePage } from "./compare";
import { HistoryPage } from "./history";
import { NewBatchPage } from "./new_batch";
import { QueuePage } from "./queue";

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
];
