import { useEffect, useRef, useState } from "preact/hooks";
import { listLines, withQuery } from "../../api";
import { answerText, failureText } from "../../answer";
import { isFinal } from "../../batch";
import { Badge } from "../../components/badge";
import { Empty } from "../../components/empty";
import { LineView } from "../../components/line_view";
import { attempt } from "../../components/toast";
import { followLines } from "../../events";
import { count } from "../../format";
import type { Batch, BatchLine, ResultLine } from "../../types";

const kKept = 200; // lines; older ones leave the page
const kPeriod = 200; // ms between two drawings, however fast lines come
const kShown = 300; // characters of an answer

interface Followed {
  /** The newest first. */
  lines: ResultLine[];
  received: number;
}

/** The newest results of a batch as they are saved. Only what is shown is parsed, and kept. */
function useResults(id: string, isOn: boolean): Followed {
  const [followed, setFollowed] = useState<Followed>({ lines: [], received: 0 });
  const lastId = useRef<string | undefined>(undefined);
  useEffect(() => {
    if (!isOn) return;
    const stop = new AbortController();
    let fresh: string[] = [];
    let received = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const draw = () => {
      timer = undefined;
      const lines = fresh.map((line): ResultLine => JSON.parse(line)).reverse();
      const came = received;
      setFollowed((before) => ({
        lines: [...lines, ...before.lines].slice(0, kKept),
        received: before.received + came,
      }));
      fresh = [];
      received = 0;
    };
    const onLines = (lines: string[]) => {
      fresh = [...fresh, ...lines].slice(-kKept);
      received += lines.length;
      lastId.current = JSON.parse(lines.at(-1)!).id;
      timer ??= setTimeout(draw, kPeriod);
    };
    const path = () => withQuery(`/v1/batches/${id}/results`, { stream: true, after: lastId.current });
    void followLines(path, onLines, stop.signal);
    return () => {
      stop.abort();
      clearTimeout(timer);
      if (fresh.length > 0) draw();
    };
  }, [id, isOn]);
  return followed;
}

/** Finds the line's request, too. */
async function findLine(batch: string, customId: string): Promise<BatchLine> {
  let after: number | undefined;
  for (;;) {
    const page = await listLines(batch, { custom_id: customId, limit: 100, ...(after === undefined ? {} : { after }) });
    const line = page.data.find((one) => one.custom_id === customId);
    if (line) return line;
    if (!page.has_more) throw new Error("The line is not there any more.");
    after = Number(page.last_id);
  }
}

/** What is answered, as it is. */
export function Log({ batch }: { batch: Batch }) {
  const [isOn, setOn] = useState(true);
  const [opened, setOpened] = useState<BatchLine>();
  const { lines, received } = useResults(batch.id, isOn);
  const open = (customId: string) => attempt(async () => setOpened(await findLine(batch.id, customId)));
  return (
    <section class="stack" aria-label="Live log">
      <div class="row">
        <span class="faint">
          {count(received)} received{received > kKept && `, the newest ${kKept} are shown`}
        </span>
        <span class="spacer" />
        {!isFinal(batch) && (
          <button type="button" aria-pressed={!isOn} onClick={() => setOn(!isOn)}>
            {isOn ? "Hold the log" : "Go on"}
          </button>
        )}
      </div>
      {lines.length === 0 ? (
        <Empty title="No results yet">
          <p>Each answer appears here as soon as it is saved.</p>
        </Empty>
      ) : (
        // Not read aloud: it can be hundreds a second.
        <div class="log" role="log" aria-live="off" aria-label="Results, the newest first" tabIndex={0}>
          {lines.map((line) => {
            const failure = failureText(line);
            return (
              <article key={line.id} aria-label={line.custom_id}>
                <Badge tone={failure ? "bad" : "good"}>{failure ? "Failed" : "Answered"}</Badge>
                <button type="button" class="link mono" onClick={() => open(line.custom_id)}>
                  {line.custom_id}
                </button>
                <span class={failure ? "cut error" : "cut"}>{(failure ?? answerText(line.response?.body)).slice(0, kShown)}</span>
              </article>
            );
          })}
        </div>
      )}
      {opened && <LineView line={opened} onClose={() => setOpened(undefined)} />}
    </section>
  );
}
