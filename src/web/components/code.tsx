import type { ComponentChildren } from "preact";
import { CopyButton } from "./copy";

const kTokens = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const kColoredMax = 100_000; // characters; longer text is shown plain, since each token is an element

function colored(text: string): ComponentChildren {
  if (text.length > kColoredMax) return text;
  const pieces: ComponentChildren[] = [];
  let at = 0;
  for (const match of text.matchAll(kTokens)) {
    pieces.push(text.slice(at, match.index));
    const [whole, string, colon, word] = match;
    if (string && colon) pieces.push(<span class="key">{string}</span>, colon);
    else pieces.push(<span class={string ? "string" : word ? "word" : "digits"}>{whole}</span>);
    at = match.index + whole.length;
  }
  pieces.push(text.slice(at));
  return pieces;
}

/** A value as JSON, with colours, to be copied. */
export function Json({ value, label }: { value: unknown; label: string }) {
  const text = JSON.stringify(value, null, 2);
  return (
    <div class="code">
      <CopyButton text={text} />
      <pre tabIndex={0} aria-label={label}>
        <code>{colored(text)}</code>
      </pre>
    </div>
  );
}
