import { answerText, failureText, messagesOf, tokensOf } from "../answer";
import { count } from "../format";
import type { BatchLine } from "../types";
import { Badge, type Tone } from "./badge";
import { Json } from "./code";
import { CopyButton } from "./copy";
import { Dialog } from "./dialog";

const kStatus: Record<BatchLine["status"], [string, Tone]> = {
  completed: ["Answered", "good"],
  failed: ["Failed", "bad"],
  pending: ["To do", "neutral"],
};

export function LineStatusBadge({ status }: { status: BatchLine["status"] }) {
  const [text, tone] = kStatus[status];
  return <Badge tone={tone}>{text}</Badge>;
}

function Gone() {
  return <p class="faint">The input file is not there any more.</p>;
}

function TooLong() {
  return <p class="notice">It is too long to be shown here. The batch's files have it.</p>;
}

function Request({ request }: { request: BatchLine["request"] }) {
  if (request === null) return <Gone />;
  if (request.body === null) return <TooLong />;
  return (
    <>
      {messagesOf(request.body).map(({ role, text }, at) => (
        <div key={at} class="message">
          <h4>{role}</h4>
          <p>{text}</p>
        </div>
      ))}
      <details>
        <summary>As it was sent</summary>
        <Json value={request.body} label="The request's body" />
      </details>
    </>
  );
}

function Answer({ line }: { line: BatchLine }) {
  const { response, error } = line;
  const failure = failureText(line);
  const text = answerText(response?.body);
  const tokens = tokensOf(response?.body);
  if (line.status === "pending") return <p class="faint">It is not answered yet.</p>;
  return (
    <>
      {failure !== undefined && (
        <p class="notice bad">
          <span>
            {failure} {error?.code && <code>{error.code}</code>}
          </span>
        </p>
      )}
      {text && (
        <div class="message answer">
          <h4>
            answer <CopyButton text={text} />
          </h4>
          <p>{text}</p>
        </div>
      )}
      {response && (response.body === null ? <TooLong /> : null)}
      {response && (
        <p class="faint">
          {response.status_code}
          {tokens && ` · ${count(tokens.input)} tokens in, ${count(tokens.output)} out`}
          {response.request_id && (
            <>
              {" · "}
              <span class="mono">{response.request_id}</span>
            </>
          )}
        </p>
      )}
      {response && response.body !== null && (
        <details>
          <summary>As it came</summary>
          <Json value={response.body} label="The answer's body" />
        </details>
      )}
    </>
  );
}

/** A line's request and its answer, side by side. */
export function LineView({ line, onClose }: { line: BatchLine; onClose: () => void }) {
  return (
    <Dialog title={line.custom_id} isWide onClose={onClose}>
      <p class="faint">
        <LineStatusBadge status={line.status} /> Line {count(line.index + 1)} of its file
        {line.request && ` · ${line.request.method} ${line.request.url}`}
      </p>
      <div class="sides">
        <section class="stack" aria-label="Request">
          <h3>Request</h3>
          <Request request={line.request} />
        </section>
        <section class="stack" aria-label="Answer">
          <h3>Answer</h3>
          <Answer line={line} />
        </section>
      </div>
    </Dialog>
  );
}
