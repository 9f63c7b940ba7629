import { useState } from "preact/hooks";
import { whoami } from "../api";
import { type ApiKey, createKey, type KeyWithValue, listKeys, listProjects, type Project, revokeKey, rotateKey } from "../api_admin";
import { Badge } from "../components/badge";
import { ConfirmButton } from "../components/dialog";
import { Empty, Failure, Loading } from "../components/empty";
import { Choices, FormDialog } from "../components/form_dialog";
import { Heading } from "../components/layout";
import { kAll, QuerySelect } from "../components/query_select";
import { SecretDialog } from "../components/secret";
import { type Column, More, Table } from "../components/table";
import { Ago, Time, useNow } from "../components/time";
import { attempt } from "../components/toast";
import { usePages } from "../list";
import { useLoaded } from "../loaded";
import { useRoute, useTitle } from "../router";
import { keep, session, usePrincipal } from "../session";
import type { Scope } from "../types";

const kDay = 86_400; // seconds

const kScopes: [Scope, string][] = [
  ["files", "files: brings and reads files"],
  ["batches", "batches: makes and sees batches"],
  ["monitor", "monitor: sees the state of the system, and no data"],
  ["admin", "admin: projects, keys and the audit log"],
];

function NewKeyDialog({
  projects,
  isFirst,
  onMade,
  onClose,
}: {
  projects: Project[];
  isFirst: boolean;
  onMade: (key: KeyWithValue) => Promise<void>;
  onClose: () => void;
}) {
  const own = usePrincipal().project_id;
  const create = async (form: FormData) => {
    const scopes = form.getAll("scopes") as Scope[];
    if (isFirst && !scopes.includes("admin")) throw new Error("The first key needs the scope admin: with another one nobody could make more.");
    await onMade(
      await createKey({
        name: String(form.get("name")),
        project_id: String(form.get("project")),
        scopes,
        expires_in_seconds: form.get("days") === "" ? null : Number(form.get("days")) * kDay,
      }),
    );
  };
  return (
    <FormDialog title="New key" submit="Make it" onSubmit={create} onClose={onClose}>
      <label class="field">
        Name
        <input name="name" required maxLength={256} placeholder="Who or what uses it" />
      </label>
      <label class="field">
        Project
        <select name="project">
          {projects.map(({ id, name }) => (
            <option key={id} value={id} selected={id === own}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <Choices
        legend="May do"
        name="scopes"
        values={kScopes}
        checked={isFirst ? ["files", "batches", "admin"] : ["files", "batches"]}
      />
      <label class="field">
        Good for so many days; empty: for ever
        <input name="days" type="number" min={1} max={36_500} />
      </label>
    </FormDialog>
  );
}

function RotateDialog({ old, onMade, onClose }: { old: ApiKey; onMade: (key: KeyWithValue) => Promise<void>; onClose: () => void }) {
  return (
    <FormDialog
      title={`Rotate ${old.name}`}
      submit="Make the new key"
      onSubmit={async (form) => onMade(await rotateKey(old.id, Number(form.get("overlap"))))}
      onClose={onClose}
    >
      <p>A new key with the same rights takes its place.</p>
      <label class="field">
        The old one is good for
        <select name="overlap">
          <option value={String(kDay)}>another day</option>
          <option value={String(7 * kDay)}>another week</option>
          <option value="0">no longer</option>
        </select>
      </label>
    </FormDialog>
  );
}

function stateOf({ revoked_at, expires_at }: ApiKey, now: number) {
  if (revoked_at !== null) return <Badge>Revoked</Badge>;
  if (expires_at !== null && expires_at <= now) return <Badge>Expired</Badge>;
  return (
    <>
      <Badge tone="good">Good</Badge>
      {expires_at !== null && (
        <small>
          Ends <Ago at={expires_at} />
        </small>
      )}
    </>
  );
}

const isGood = ({ revoked_at, expires_at }: ApiKey, now: number) => revoked_at === null && (expires_at === null || expires_at > now);

/** The keys of all projects. */
export function KeysPage() {
  useTitle("Keys");
  const principal = usePrincipal();
  const now = useNow();
  const project = useRoute().query.get("project") ?? "";
  const projects = useLoaded((signal) => listProjects({ limit: 100 }, signal), "").value?.data ?? [];
  const { rows, error, hasMore, isLoading, more, reload } = usePages(
    (after, signal) => listKeys({ project_id: project, after, limit: 50 }, signal),
    project,
  );
  const [open, setOpen] = useState<{ what: "new" } | { what: "rotate"; key: ApiKey }>();
  const [made, setMade] = useState<KeyWithValue>();
  const close = () => setOpen(undefined);
  const show = async (key: KeyWithValue, replaced?: string) => {
    setMade(key);  // before anything that can fail: it is told just once
    // Who made the first key, or rotated the own one, goes on with the new one.
    if (principal.is_open || replaced === principal.key_id) {
      keep(key.value, false);
      session.set({ state: "open", principal: await whoami() });
    }
    reload();
  };
  const columns: Column<ApiKey>[] = [
    {
      title: "Key",
      cell: ({ id, name, redacted_value }) => (
        <>
          {name} {id === principal.key_id && <Badge tone="active">Yours</Badge>}
          <small class="mono" title={id}>
            {redacted_value}
          </small>
        </>
      ),
    },
    { title: "State", cell: (key) => stateOf(key, now) },
    {
      title: "Project",
      isWide: true,
      cell: ({ project_id }) => projects.find(({ id }) => id === project_id)?.name ?? <span class="mono">{project_id}</span>,
    },
    { title: "May do", cell: ({ scopes }) => scopes.join(", ") },
    { title: "Last used", isNumber: true, isWide: true, cell: ({ last_used_at }) => <Ago at={last_used_at} /> },
    { title: "Created", isNumber: true, isWide: true, cell: ({ created_at }) => <Time at={created_at} /> },
    {
      title: "Actions",
      cell: (key) =>
        isGood(key, now) && (
          <div class="row">
            <button type="button" aria-label={`Rotate ${key.name}`} onClick={() => setOpen({ what: "rotate", key })}>
              Rotate
            </button>
            <ConfirmButton
              label="Revoke"
              about={key.name}
              isDanger
              question={`${key.id === principal.key_id ? "You use this key now. " : ""}Within a second every server refuses it, for good.`}
              confirm="Revoke it"
              onConfirm={async () => (await attempt(() => revokeKey(key.id), `${key.name} is revoked.`)) && reload()}
            />
          </div>
        ),
    },
  ];
  return (
    <>
      <Heading title="Keys" note="What is done with a key is done for its project.">
        <QuerySelect label="Project" name="project" value={project} options={[kAll, ...projects.map(({ id, name }) => [id, name] as const)]} layout="row" />
        <button type="button" class="primary" disabled={projects.length === 0} onClick={() => setOpen({ what: "new" })}>
          New key
        </button>
      </Heading>
      {principal.is_open && (
        <p class="notice warn">There is no key yet: everybody who reaches this server may do everything. The first key ends that.</p>
      )}
      {error !== undefined && <Failure message={error} retry={reload} />}
      {!rows && error === undefined && <Loading />}
      {rows?.length === 0 && (
        <Empty title="No keys" command="penstock keys create --name dashboard --scopes files,batches,admin">
          <p>Make one here, or on the server's machine:</p>
        </Empty>
      )}
      {rows && rows.length > 0 && <Table caption="Keys" columns={columns} rows={rows} rowKey={({ id }) => id} />}
      <More hasMore={hasMore} isLoading={isLoading} more={more} />
      {open?.what === "new" && <NewKeyDialog projects={projects} isFirst={principal.is_open} onMade={show} onClose={close} />}
      {open?.what === "rotate" && <RotateDialog old={open.key} onMade={(key) => show(key, open.key.id)} onClose={close} />}
      {made && (
        <SecretDialog title={`The key ${made.name}`} value={made.value} onClose={() => setMade(undefined)}>
          {made.id === principal.key_id && <p>This page uses it now, until its tab is closed.</p>}
        </SecretDialog>
      )}
    </>
  );
}
