// Looking into an input file before the server has it. What counts is what the server says of it.

const kPeek = 64 << 10; // bytes

export interface Peek {
  endpoint: string | undefined;
  model: string | undefined;
  fault: string | undefined;
}

/** What the first line says of the whole file. */
export async function peek(file: Blob): Promise<Peek> {
  const nothing = { endpoint: undefined, model: undefined };
  if (file.size === 0) return { ...nothing, fault: "The file is empty." };
  const [first = ""] = (await file.slice(0, kPeek).text()).split("\n");
  try {
    const line = JSON.parse(first);
    return { endpoint: line.url, model: line.body?.model, fault: undefined };
  } catch {
    const isWhole = first.length < Math.min(kPeek, file.size);
    return { ...nothing, fault: isWhole || file.size < kPeek ? "Its first line is not JSON." : undefined };
  }
}

/** The text of those lines, counted from 1. Reads the file no further than that needs. */
export async function linesAt(file: Blob, numbers: number[]): Promise<Map<number, string>> {
  const wanted = new Set(numbers);
  const last = Math.max(...numbers);
  const texts = new Map<number, string>();
  const reader = file.stream().pipeThrough(new TextDecoderStream()).getReader();
  let number = 1;
  let rest = "";
  const take = (line: string) => wanted.has(number++) && texts.set(number - 1, line);
  while (number <= last) {
    const { done, value } = await reader.read();
    if (done) {
      take(rest);
      break;
    }
    const lines = (rest + value).split("\n");
    rest = lines.pop()!;
    lines.forEach(take);
  }
  void reader.cancel();
  return texts;
}

/** A file to try things with. */
export function exampleFile(model: string): File {
  const questions = ["What is water made of?", "Name three rivers of Europe.", "What does a turbine do?"];
  const lines = questions.map((content, at) =>
    JSON.stringify({
      custom_id: `example-${at + 1}`,
      method: "POST",
      url: "/v1/chat/completions",
      body: { model, messages: [{ role: "user", content }], max_tokens: 48 },
    }),
  );
  return new File([`${lines.join("\n")}\n`], "example.jsonl");
}
