import { type AuditLog, listAuditLogs, listKeys, listProjects } from "../api_admin";
import { Empty, Failure, Loading } from "../components/empty";
import { Heading } from "../components/layout";
import { kAll, QuerySelect } from "../components/query_select";
import { type Column, More, Table } from "../components/table";
import { Time } from "../components/time";
import { usePages } from "../list";
import { useLoaded } from "../loaded";
import { setQuery, useRoute, useTitle } from "../router";

const kTypes = [
  "api_key.created",
  "api_key.revoked",
  "api_key.rotated",
  "batch.cancelled",
  "batch.created",
  "batch.paused",
  "batch.resumed",
  "batch.retried",
  "batch.updated",
  "delivery.deleted",
  "delivery.retried",
  "file.created",
  "file.deleted",
  "file.expired",
  "project.archived",
  "project.created",
  "project.updated",
  "upload.cancelled",
  "upload.completed",
  "upload.created",
  "upload.expired",
  "upload.part_created",
  "webhook_endpoint.created",
  "webhook_endpoint.deleted",
  "webhook_endpoint.updated",
];

/** The id of what an entry is about. */
const aboutWhat = (entry: AuditLog) => (entry as unknown as Record<string, { id: string } | undefined>)[entry.type]?.id;

/** Who did what, in all projects. */
export function AuditPage() {
  useTitle("Audit log");
  const { query } = useRoute();
  const [type, project, resource] = [query.get("type") ?? "", query.get("project") ?? "", query.get("resource") ?? ""];
  const projects = useLoaded((signal) => listProjects({ limit: 100, include_archived: true }, signal), "").value?.data ?? [];
  const keys = useLoaded((signal) => listKeys({ limit: 100 }, signal), "").value?.data ?? [];
  const { rows, error, hasMore, isLoading, more, reload } = usePages(
    (after, signal) =>
      listAuditLogs({ "event_types[]": type, "project_ids[]": project, "resource_ids[]": resource, after, limit: 50 }, signal),
    [type, project, resource].join(),
  );
  const columns: Column<AuditLog>[] = [
    { title: "When", cell: ({ effective_at }) => <Time at={effective_at} /> },
    {
      title: "What",
      cell: (entry) => (
        <>
          <code>{entry.type}</code>
          <small class="mono break">{aboutWhat(entry)}</small>
        </>
      ),
    },
    {
      title: "With the key",
      cell: ({ actor }) =>
        actor ? (
          <span title={actor.api_key.id}>{keys.find(({ id }) => id === actor.api_key.id)?.name ?? actor.api_key.id}</span>
        ) : (
          <span class="faint">None</span>
        ),
    },
    { title: "Project", isWide: true, cell: (entry) => projects.find(({ id }) => id === entry.project.id)?.name ?? entry.project.id },
    { title: "Request", isWide: true, cell: ({ request_id }) => <span class="mono break">{request_id ?? "–"}</span> },
  ];
  return (
    <>
      <Heading title="Audit log" note="Who did what, the newest first. Entries are kept for a year; what files and batches contain is not in them." />
      <form
        class="filters"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          setQuery({ resource: String(new FormData(event.currentTarget).get("resource")).trim() });
        }}
      >
        <QuerySelect label="What" name="type" value={type} options={[kAll, ...kTypes.map((one) => [one, one] as const)]} />
        <QuerySelect label="Project" name="project" value={project} options={[kAll, ...projects.map(({ id, name }) => [id, name] as const)]} />
        <label class="field">
          Id of what it was done to
          <input type="search" name="resource" defaultValue={resource} />
        </label>
        <button type="submit">Search</button>
      </form>
      {error !== undefined && <Failure message={error} retry={reload} />}
      {!rows && error === undefined && <Loading />}
      {rows?.length === 0 && <Empty title="Nothing of this kind was done" />}
      {rows && rows.length > 0 && <Table caption="Audit log" columns={columns} rows={rows} rowKey={({ id }) => id} />}
      <More hasMore={hasMore} isLoading={isLoading} more={more} />
    </>
  );
}
