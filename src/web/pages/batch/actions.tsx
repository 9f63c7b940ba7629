import { actOnBatch, download, setPriority } from "../../api";
import { isFinal, kPriorities } from "../../batch";
import { ConfirmButton } from "../../components/dialog";
import { attempt } from "../../components/toast";
import { navigate } from "../../router";
import type { Batch, Priority } from "../../types";

/** What can be done with a batch as it stands. `onChange` gets what has become of it. */
export function Actions({ batch, onChange }: { batch: Batch; onChange: (batch: Batch) => void }) {
  const act = (action: "cancel" | "pause" | "resume", done: string) =>
    attempt(async () => onChange(await actOnBatch(batch.id, action)), done);
  const retry = () =>
    attempt(async () => navigate(`batches/${(await actOnBatch(batch.id, "retry")).id}`), "A new batch runs what failed.");
  const choose = (event: Event) => {
    const priority = Number((event.currentTarget as HTMLSelectElement).value) as Priority;
    void attempt(async () => onChange(await setPriority(batch.id, priority)), `Its priority is ${kPriorities[priority].toLowerCase()} now.`);
  };
  const { completed, total } = batch.request_counts;
  if (isFinal(batch)) {
    return (
      <>
        {batch.output_file_id && <DownloadButton id={batch.output_file_id} name={`${batch.id}_output.jsonl`} label="Download answers" />}
        {batch.error_file_id && <DownloadButton id={batch.error_file_id} name={`${batch.id}_errors.jsonl`} label="Download errors" />}
        {total > completed && (
          <button type="button" class="primary" onClick={retry}>
            Retry failed
          </button>
        )}
        {total > 0 && (
          <a class="button" href={`#/compare?left=${batch.id}`}>
            Compare
          </a>
        )}
      </>
    );
  }
  const isEnding = batch.status === "cancelling" || batch.status === "finalizing";
  return (
    <>
      <label class="row">
        Priority
        <select value={String(batch.priority)} disabled={isEnding} onChange={choose}>
          {([1, 0, -1] as const).map((priority) => (
            <option key={priority} value={String(priority)}>
              {kPriorities[priority]}
            </option>
          ))}
        </select>
      </label>
      {batch.paused_at === null ? (
        <button type="button" disabled={isEnding} onClick={() => act("pause", "Paused. Lines under way come to their end.")}>
          Pause
        </button>
      ) : (
        <button type="button" class="primary" disabled={isEnding} onClick={() => act("resume", "It goes on.")}>
          Resume
        </button>
      )}
      {!isEnding && (
        <ConfirmButton
          label="Cancel"
          isDanger
          question="Lines that are not answered yet will not be. The answers so far stay."
          confirm="Cancel the batch"
          onConfirm={() => act("cancel", "It is being cancelled.")}
        />
      )}
    </>
  );
}

function DownloadButton({ id, name, label }: { id: string; name: string; label: string }) {
  return (
    <button type="button" onClick={() => attempt(() => download(id, name))}>
      {label}
    </button>
  );
}
