import { useState } from "preact/hooks";
import { toast } from "./toast";

/** Without https the clipboard is open to nobody but the machine itself; an old way is left then. */
async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("The browser does not let the page copy.");
}

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [copied, setCopied] = useState(false);
  const press = async () => {
    try {
      await copy(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 2_000);
    } catch (failure) {
      toast("Copying did not work. Select the text instead.", true);
    }
  };
  return (
    <button type="button" class="small" aria-label={`${label}: ${text.slice(0, 80)}`} onClick={press}>
      {copied ? "Copied" : label}
    </button>
  );
}

/** A command for a terminal, to be copied. */
export function Command({ text }: { text: string }) {
  return (
    <div class="command">
      <code>{text}</code>
      <CopyButton text={text} />
    </div>
  );
}
