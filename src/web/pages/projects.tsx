import { useState } from "preact/hooks";
import { archiveProject, changeProject, createProject, type Limits, listProjects, type NewProject, type Project } from "../api_admin";
import { Badge } from "../components/badge";
import { ConfirmButton } from "../components/dialog";
import { Failure, Loading } from "../components/empty";
import { FormDialog } from "../components/form_dialog";
import { Heading } from "../components/layout";
import { type Column, More, Table } from "../components/table";
import { Time } from "../components/time";
import { attempt } from "../components/toast";
import { bytes, count } from "../format";
import { usePages } from "../list";
import { href, setQuery, useRoute, useTitle } from "../router";

const kLimits: Record<keyof Limits, string> = {
  stored_bytes: "Bytes of files",
  active_batches: "Batches that have not ended",
  queued_lines: "Lines to do",
  requests_per_second: "Requests a second, to each server",
};

function limitsText({ stored_bytes, active_batches, queued_lines, requests_per_second }: Limits): string {
  const said = [
    stored_bytes !== null && bytes(stored_bytes),
    active_batches !== null && `${count(active_batches)} batches`,
    queued_lines !== null && `${count(queued_lines)} lines`,
    requests_per_second !== null && `${count(requests_per_second)} requests/s`,
  ].filter(Boolean);
  return said.length > 0 ? said.join(", ") : "None";
}

function read(form: FormData): NewProject {
  const number = (name: string) => (form.get(name) === "" ? null : Number(form.get(name)));
  return {
    name: String(form.get("name")),
    weight: Number(form.get("weight")),
    limits: {
      stored_bytes: number("stored_bytes"),
      active_batches: number("active_batches"),
      queued_lines: number("queued_lines"),
      requests_per_second: number("requests_per_second"),
    },
  };
}

/** Makes a project, or changes `project`. */
function ProjectDialog({ project, onDone, onClose }: { project: Project | undefined; onDone: () => void; onClose: () => void }) {
  const save = async (form: FormData) => {
    await (project ? changeProject(project.id, read(form)) : createProject(read(form)));
    onDone();
  };
  return (
    <FormDialog
      title={project ? `Change ${project.name}` : "New project"}
      submit={project ? "Save" : "Make it"}
      onSubmit={save}
      onClose={onClose}
    >
      <label class="field">
        Name
        <input name="name" required maxLength={256} defaultValue={project?.name ?? ""} />
      </label>
      <label class="field">
        Weight: its share of the slots, against other projects
        <input name="weight" type="number" required min={1} max={1000} defaultValue={String(project?.weight ?? 1)} />
      </label>
      <fieldset class="stack">
        <legend>At most; empty: no limit</legend>
        {Object.entries(kLimits).map(([name, text]) => (
          <label key={name} class="field">
            {text}
            <input name={name} type="number" min={0} defaultValue={String(project?.limits[name as keyof Limits] ?? "")} />
          </label>
        ))}
      </fieldset>
    </FormDialog>
  );
}

/** Those among whom the slots are shared. */
export function ProjectsPage() {
  useTitle("Projects");
  const archived = useRoute().query.get("archived") ?? "";
  const { rows, error, hasMore, isLoading, more, reload } = usePages(
    (after, signal) => listProjects({ after, limit: 50, include_archived: archived === "yes" || undefined }, signal),
    archived,
  );
  const [open, setOpen] = useState<{ project: Project | undefined }>();
  const columns: Column<Project>[] = [
    {
      title: "Project",
      cell: ({ id, name }) => (
        <>
          {name}
          <small class="mono break">{id}</small>
        </>
      ),
    },
    {
      title: "State",
      isWide: true,
      cell: ({ status }) => (status === "active" ? <Badge tone="good">Active</Badge> : <Badge>Archived</Badge>),
    },
    { title: "Weight", isNumber: true, cell: ({ weight }) => count(weight) },
    { title: "Limits", cell: ({ limits }) => limitsText(limits) },
    { title: "Created", isNumber: true, isWide: true, cell: ({ created_at }) => <Time at={created_at || null} /> },
    {
      title: "Actions",
      cell: (project) => (
        <div class="row">
          <button type="button" aria-label={`Change ${project.name}`} onClick={() => setOpen({ project })}>
            Change
          </button>
          <a class="button" href={href("keys", { project: project.id })} aria-label={`Keys of ${project.name}`}>
            Keys
          </a>
          {project.status === "active" && project.id !== "proj_default" && (
            <ConfirmButton
              label="Archive"
              about={project.name}
              isDanger
              question="Its keys open nothing any more. What it has stays, and its batches run to their ends."
              confirm="Archive it"
              onConfirm={async () => (await attempt(() => archiveProject(project.id), `${project.name} is archived.`)) && reload()}
            />
          )}
        </div>
      ),
    },
  ];
  return (
    <>
      <Heading title="Projects" note="Each has its own files, batches and keys; those that have work share the slots by their weights.">
        <label class="check">
          <input
            type="checkbox"
            checked={archived === "yes"}
            onChange={(event) => setQuery({ archived: event.currentTarget.checked ? "yes" : "" })}
          />
          Archived ones too
        </label>
        <button type="button" class="primary" onClick={() => setOpen({ project: undefined })}>
          New project
        </button>
      </Heading>
      {error !== undefined && <Failure message={error} retry={reload} />}
      {!rows && error === undefined && <Loading />}
      {rows && <Table caption="Projects" columns={columns} rows={rows} rowKey={({ id }) => id} />}
      <More hasMore={hasMore} isLoading={isLoading} more={more} />
      {open && <ProjectDialog project={open.project} onDone={reload} onClose={() => setOpen(undefined)} />}
    </>
  );
}
