import { useState } from "preact/hooks";
import { listSettings, type Setting } from "../api_admin";
import { Badge } from "../components/badge";
import { Empty, Failure, Loading } from "../components/empty";
import { Heading } from "../components/layout";
import { type Column, Table } from "../components/table";
import { useLoaded } from "../loaded";
import { useTitle } from "../router";

const kSources: Record<Setting["source"], string> = { default: "Default", file: "File", environment: "Environment", flag: "Flag" };

const kColumns: Column<Setting>[] = [
  {
    title: "Setting",
    cell: ({ key, help }) => (
      <>
        <code>{key}</code>
        <small>{help}</small>
      </>
    ),
  },
  { title: "Value", cell: ({ value }) => <code class="break">{value}</code> },
  { title: "From", cell: ({ source }) => <Badge tone={source === "default" ? "neutral" : "active"}>{kSources[source]}</Badge> },
];

/** What the server that answers was started with. */
export function SettingsPage() {
  useTitle("Settings");
  const { value: settings, error, reload } = useLoaded(listSettings, "");
  const [text, setText] = useState("");
  const [isChangedOnly, setChangedOnly] = useState(false);
  const shown = settings?.data.filter(
    ({ key, help, source }) => `${key} ${help}`.toLowerCase().includes(text.toLowerCase()) && !(isChangedOnly && source === "default"),
  );
  return (
    <>
      <Heading title="Settings" note="Of the process that answers. Change them in its configuration file, and start it again." />
      <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <label class="field">
          Contains
          <input type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <label class="check">
          <input type="checkbox" checked={isChangedOnly} onChange={(event) => setChangedOnly(event.currentTarget.checked)} />
          Only what differs from its default
        </label>
      </form>
      {error !== undefined && <Failure message={error} retry={reload} />}
      {!shown && error === undefined && <Loading />}
      {shown?.length === 0 && <Empty title="No such settings" />}
      {shown && shown.length > 0 && <Table caption="Settings" columns={kColumns} rows={shown} rowKey={({ key }) => key} />}
    </>
  );
}
