// Text out of the bodies of requests and answers, whichever of the endpoints they are of.

// Bodies are whatever a client or an engine has written.
type Body = any;

/** Of a message's content: text, or parts of which some are text. */
function textOfContent(content: Body): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return content == null ? "" : JSON.stringify(content, null, 2);
  return content.map((part) => part?.text ?? part?.refusal ?? `[${part?.type ?? "part"}]`).join("\n");
}

export interface Message {
  role: string;
  text: string;
}

/** What a request asks, as messages. */
export function messagesOf(body: Body): Message[] {
  if (Array.isArray(body?.messages)) {
    return body.messages.map((one: Body) => ({ role: String(one?.role), text: textOfContent(one?.content) }));
  }
  const messages: Message[] = [];
  if (typeof body?.instructions === "string") messages.push({ role: "instructions", text: body.instructions });
  const asked = body?.prompt ?? body?.input;
  if (Array.isArray(asked) && asked.some((one) => one?.role)) {
    messages.push(...asked.map((one: Body) => ({ role: String(one?.role), text: textOfContent(one?.content) })));
  } else if (asked != null) {
    messages.push({ role: body.prompt == null ? "input" : "prompt", text: textOfContent(asked) });
  }
  return messages;
}

/** What an answer says. */
export function answerText(body: Body): string {
  const choice = body?.choices?.[0];
  if (choice) {
    const { message } = choice;
    if (message?.tool_calls?.length) return JSON.stringify(message.tool_calls, null, 2);
    return textOfContent(message ? (message.content ?? message.refusal) : choice.text);
  }
  if (Array.isArray(body?.output)) {
    return body.output.map((item: Body) => textOfContent(item?.content ?? item?.arguments)).join("\n");
  }
  const vector = body?.data?.[0]?.embedding;
  if (Array.isArray(vector)) return `${vector.length} numbers: ${vector.slice(0, 6).join(", ")}, …`;
  return "";
}

interface Answered {
  response: { status_code: number; body: Body } | null;
  error: { code: string | null; message: string } | null;
}

/** Why a line has failed; undefined when it has not. */
export function failureText({ response, error }: Answered): string | undefined {
  if (error) return error.message;
  if (!response || response.status_code < 400) return undefined;
  const said = response.body?.error?.message ?? response.body?.message;
  return `${response.status_code}: ${typeof said === "string" ? said : "the engine refused it"}`;
}

export interface Tokens {
  input: number;
  output: number;
}

/** What an answer has used, if it tells. */
export function tokensOf(body: Body): Tokens | undefined {
  const usage = body?.usage;
  const input = usage?.prompt_tokens ?? usage?.input_tokens;
  return typeof input === "number" ? { input, output: usage.completion_tokens ?? usage.output_tokens ?? 0 } : undefined;
}
