import { Badge, type Tone } from "../components/badge";
import { Meter } from "../components/bar";
import { Empty, Loading } from "../components/empty";
import { Heading } from "../components/layout";
import { Stat, Stats } from "../components/stat";
import { type Column, Table } from "../components/table";
import { useTopics } from "../events";
import { count, rate } from "../format";
import { useTitle } from "../router";
import type { Engine, Worker } from "../types";

const kStates: Record<Engine["state"], [string, Tone]> = {
  ready: ["Ready", "good"],
  starting: ["Starting", "active"],
  standby: ["Swapped out", "neutral"],
  down: ["Away", "warn"],
  failed: ["Failed", "bad"],
};

function whatItDoes({ state, reason, shared }: Engine): string | null {
  if (reason) return reason;
  if (state === "standby") return "Another model has the device; this one is loaded when its turn has come.";
  return shared ? "Gives way to people who use it." : null;
}

function columns(workers: Worker[]): Column<Engine>[] {
  const place = (id: string) => workers.find((worker) => worker.id === id);
  return [
    {
      title: "Engine",
      cell: ({ name, kind, models }) => (
        <>
          <span class="break">{name}</span>
          <small>{[kind === "managed" ? "Run by Penstock" : "Remote", ...models.filter((model) => model !== name)].join(" · ")}</small>
        </>
      ),
    },
    {
      title: "State",
      cell: (engine) => {
        const [text, tone] = kStates[engine.state];
        return (
          <>
            <Badge tone={tone}>{text}</Badge>
            <small>{whatItDoes(engine)}</small>
          </>
        );
      },
    },
    {
      title: "Slots busy",
      cell: ({ name, slots, slots_busy }) => (
        <div class="progress">
          <Meter value={slots_busy} max={slots} label={`Busy slots of ${name}`} />
          <small>
            {count(slots_busy)} of {count(slots)}
          </small>
        </div>
      ),
    },
    { title: "Lines waiting", isNumber: true, isWide: true, cell: ({ waiting }) => count(waiting) },
    { title: "Lines/s", isNumber: true, isWide: true, cell: ({ lines_per_second }) => rate(lines_per_second) },
    { title: "Tokens/s", isNumber: true, cell: ({ tokens_per_second }) => rate(tokens_per_second) },
    { title: "Lines so far", isNumber: true, isWide: true, cell: ({ lines }) => count(lines) },
    {
      title: "Worker",
      isWide: true,
      cell: ({ worker_id }) => {
        const worker = place(worker_id);
        return <span title={worker_id}>{worker ? `${worker.host} · ${worker.pid}` : worker_id}</span>;
      },
    },
  ];
}

const sum = (engines: Engine[], figure: (engine: Engine) => number) =>
  engines.reduce((total, engine) => total + figure(engine), 0);

/** What answers the lines, live. */
export function EnginesPage() {
  useTitle("Engines");
  const { engines, workers } = useTopics(["engines", "workers"]);
  if (!engines) return <Loading />;
  const all = engines.data;
  const ready = all.filter(({ state }) => state === "ready");
  return (
    <>
      <Heading title="Engines" note="What answers the lines, on all workers." />
      {all.length === 0 ? (
        <Empty title="No engine is known" command="penstock serve --engine http://127.0.0.1:8000/v1">
          <p>
            Name a model in <code>penstock.toml</code> for an engine that Penstock runs, or one that runs already:
          </p>
        </Empty>
      ) : (
        <>
          <Stats>
            <Stat name="Ready">
              {count(ready.length)} of {count(all.length)}
            </Stat>
            <Stat name="Slots busy">
              {count(sum(ready, (one) => one.slots_busy))} of {count(sum(ready, (one) => one.slots))}
            </Stat>
            <Stat name="Lines waiting">{count(sum(all, (one) => one.waiting))}</Stat>
            <Stat name="Lines a second">{rate(sum(all, (one) => one.lines_per_second))}</Stat>
            <Stat name="Tokens a second">{rate(sum(all, (one) => one.tokens_per_second))}</Stat>
          </Stats>
          <Table
            caption="Engines"
            columns={columns(workers?.data ?? [])}
            rows={all}
            rowKey={({ worker_id, name }) => `${worker_id} ${name}`}
          />
        </>
      )}
    </>
  );
}
