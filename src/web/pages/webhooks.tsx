import { useState } from "preact/hooks";
import {
  createEndpoint,
  deleteEndpoint,
  enableEndpoint,
  type EndpointWithSecret,
  type EventType,
  kEventTypes,
  listEndpoints,
  rotateSecret,
  testEndpoint,
  type WebhookEndpoint,
} from "../api_webhooks";
import { Badge } from "../components/badge";
import { ConfirmButton } from "../components/dialog";
import { Empty, Failure, Loading } from "../components/empty";
import { Choices, FormDialog } from "../components/form_dialog";
import { Heading } from "../components/layout";
import { SecretDialog } from "../components/secret";
import { type Column, More, Table } from "../components/table";
import { Ago } from "../components/time";
import { attempt, toast } from "../components/toast";
import { usePages } from "../list";
import { useTitle } from "../router";

const kEventNames = kEventTypes.map((type) => [type, type] as const);

function NewEndpointDialog({ onMade, onClose }: { onMade: (endpoint: EndpointWithSecret) => void; onClose: () => void }) {
  const create = async (form: FormData) => {
    const events = form.getAll("events") as EventType[];
    onMade(await createEndpoint({ name: String(form.get("name")), url: String(form.get("url")), event_types: events }));
  };
  return (
    <FormDialog title="New webhook" submit="Add it" onSubmit={create} onClose={onClose}>
      <label class="field">
        Name
        <input name="name" required maxLength={256} placeholder="Night report" />
      </label>
      <label class="field">
        URL
        <input name="url" type="url" required maxLength={2048} placeholder="https://example.com/hook" />
      </label>
      <Choices legend="Tell it of" name="events" values={kEventNames} checked={kEventTypes} />
    </FormDialog>
  );
}

function TestDialog({ endpoint, onClose }: { endpoint: WebhookEndpoint; onClose: () => void }) {
  const test = async (form: FormData) => {
    const { success, status_code } = await testEndpoint(endpoint.id, form.get("event") as EventType);
    if (!success) throw new Error(`${endpoint.name} has answered ${status_code}, which is no success.`);
    toast(`${endpoint.name} has answered ${status_code}.`);
  };
  return (
    <FormDialog title={`Test ${endpoint.name}`} submit="Send it" onSubmit={test} onClose={onClose}>
      <p>It is sent an event of a batch that does not exist, signed as all others are.</p>
      <label class="field">
        Event
        <select name="event">
          {kEventTypes.map((type) => (
            <option key={type}>{type}</option>
          ))}
        </select>
      </label>
    </FormDialog>
  );
}

function RotateDialog({
  endpoint,
  onMade,
  onClose,
}: {
  endpoint: WebhookEndpoint;
  onMade: (endpoint: EndpointWithSecret) => void;
  onClose: () => void;
}) {
  return (
    <FormDialog
      title={`New secret for ${endpoint.name}`}
      submit="Make a new secret"
      onSubmit={async (form) => onMade(await rotateSecret(endpoint.id, form.has("keep")))}
      onClose={onClose}
    >
      <label class="check">
        <input type="checkbox" name="keep" defaultChecked /> Sign with the old one too for 24 hours
      </label>
    </FormDialog>
  );
}

type Open = { what: "new" } | { what: "test" | "rotate"; endpoint: WebhookEndpoint };

/** Who hears of all batches of the project. */
export function WebhooksPage() {
  useTitle("Webhooks");
  const { rows, error, hasMore, isLoading, more, reload } = usePages(listEndpoints, "");
  const [open, setOpen] = useState<Open>();
  const [made, setMade] = useState<EndpointWithSecret>();
  const close = () => setOpen(undefined);
  const show = (endpoint: EndpointWithSecret) => {
    setMade(endpoint);
    reload();
  };
  const act = async (action: () => Promise<unknown>, done: string) => (await attempt(action, done)) && reload();
  const columns: Column<WebhookEndpoint>[] = [
    {
      title: "Webhook",
      cell: ({ name, url }) => (
        <>
          {name}
          <small class="break">{url}</small>
        </>
      ),
    },
    {
      title: "State",
      cell: ({ disabled_at }) =>
        disabled_at === null ? (
          <Badge tone="good">Active</Badge>
        ) : (
          <>
            <Badge tone="warn">Disabled</Badge>
            <small>
              It answered 410, <Ago at={disabled_at} />.
            </small>
          </>
        ),
    },
    {
      title: "Hears of",
      isWide: true,
      cell: ({ event_types }) => (event_types.length === kEventTypes.length ? "All ends" : event_types.join(", ")),
    },
    { title: "Secret", isWide: true, cell: ({ signing_secret_hint }) => <code>{signing_secret_hint}</code> },
    {
      title: "Actions",
      cell: (endpoint) => (
        <div class="row">
          {endpoint.disabled_at !== null && (
            <button
              type="button"
              aria-label={`Enable ${endpoint.name}`}
              onClick={() => act(() => enableEndpoint(endpoint.id), `${endpoint.name} hears of batches again.`)}
            >
              Enable
            </button>
          )}
          <button type="button" aria-label={`Test ${endpoint.name}`} onClick={() => setOpen({ what: "test", endpoint })}>
            Test
          </button>
          <button
            type="button"
            aria-label={`New secret for ${endpoint.name}`}
            onClick={() => setOpen({ what: "rotate", endpoint })}
          >
            New secret
          </button>
          <ConfirmButton
            label="Delete"
            about={endpoint.name}
            isDanger
            question={`${endpoint.name} is told of nothing any more, also not of what it has not heard yet.`}
            confirm="Delete it"
            onConfirm={() => act(() => deleteEndpoint(endpoint.id), `${endpoint.name} is deleted.`)}
          />
        </div>
      ),
    },
  ];
  return (
    <>
      <Heading title="Webhooks" note="They are told when a batch of this project has ended.">
        <button type="button" class="primary" onClick={() => setOpen({ what: "new" })}>
          New webhook
        </button>
      </Heading>
      {error !== undefined && <Failure message={error} retry={reload} />}
      {!rows && error === undefined && <Loading />}
      {rows?.length === 0 && (
        <Empty title="Nobody is told" command={kExample}>
          <p>Add a webhook for all batches of the project, or name one when you make a batch:</p>
        </Empty>
      )}
      {rows && rows.length > 0 && <Table caption="Webhooks" columns={columns} rows={rows} rowKey={({ id }) => id} />}
      <More hasMore={hasMore} isLoading={isLoading} more={more} />
      {open?.what === "new" && <NewEndpointDialog onMade={show} onClose={close} />}
      {open?.what === "test" && <TestDialog endpoint={open.endpoint} onClose={close} />}
      {open?.what === "rotate" && <RotateDialog endpoint={open.endpoint} onMade={show} onClose={close} />}
      {made && (
        <SecretDialog title={`The secret of ${made.name}`} value={made.signing_secret} onClose={() => setMade(undefined)}>
          <p>With it the receiver checks that an event is from here.</p>
        </SecretDialog>
      )}
    </>
  );
}

const kExample = `"webhook": {"url": "https://example.com/hook"}`;
