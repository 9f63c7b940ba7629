import { useEffect, useState } from "preact/hooks";
import { ApiError, open } from "./api";
import { Store } from "./store";
import type { Batch, Delivery, Engine, List, Point, Queue, Worker } from "./types";

/** How what is live on the page is connected. */
export type Connection = { state: "off" } | { state: "connecting" } | { state: "live" } | { state: "waiting"; until: number };

export const connection = new Store<Connection>({ state: "off" });

const kSilenceMax = 40_000; // ms; the server says something every 15 s
const kDelays = [1_000, 2_000, 4_000, 8_000, 15_000]; // ms before the next attempt

/** The whole lines of a body, as many as each piece of it has brought. */
export async function* linesOf(response: Response): AsyncGenerator<string[]> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop()!;
      if (lines.length > 0) yield lines;
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
}

/** Puts the lines of a text/event-stream together; `told` hears each event. */
export class EventParser {
  private event = "message";
  private data: string[] = [];

  constructor(private readonly told: (event: string, data: string) => void) {}

  /** Forgets an event that is not whole: another stream begins. */
  reset(): void {
    this.event = "message";
    this.data = [];
  }

  push(line: string): void {
    if (line.endsWith("\r")) line = line.slice(0, -1);
    if (line === "") {
      const { event, data } = this;
      this.reset();
      if (data.length > 0) this.told(event, data.join("\n"));
    } else if (line.startsWith("data:")) {
      this.data.push(line.slice(line[5] === " " ? 6 : 5));
    } else if (line.startsWith("event:")) {
      this.event = line.slice(6).trim();
    }
  }
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()));
  });
}

function untilVisible(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
    look();
  });
}

/** Reads one stream until it ends, `onLines` returns false, it is silent, the tab is hidden, or `signal` aborts. */
async function readStream(path: string, onOpen: () => void, onLines: (lines: string[]) => boolean, signal: AbortSignal) {
  const attempt = new AbortController();
  const stop = () => attempt.abort();
  const stopIfHidden = () => document.hidden && stop();
  let watchdog = setTimeout(stop, kSilenceMax);
  signal.addEventListener("abort", stop);
  document.addEventListener("visibilitychange", stopIfHidden);
  try {
    const response = await open(path, { signal: attempt.signal });
    onOpen();
    for await (const lines of linesOf(response)) {
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, kSilenceMax);
      if (!onLines(lines)) break;
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", stop);
    document.removeEventListener("visibilitychange", stopIfHidden);
  }
}

interface Reading {
  /** Asked before each attempt, since it may tell where to go on. */
  path: () => string;
  /** Returns true when nothing more is wanted. */
  onLines: (lines: string[]) => boolean | void;
  /** Whether a stream that the server has ended is not opened again. */
  isDoneAtEnd: boolean;
  told: (now: Connection) => void;
}

/**
 * Reads a stream to its end, or until `signal` aborts. One that breaks is opened again, later each time that nothing came;
 * a tab that nobody sees holds no connection.
 */
async function keepReading({ path, onLines, isDoneAtEnd, told }: Reading, signal: AbortSignal): Promise<void> {
  let failures = 0;
  let isDone = false;
  const say = (now: Connection) => void (signal.aborted || told(now));
  while (!isDone) {
    await untilVisible(signal);
    if (signal.aborted) return;
    if (failures === 0) say({ state: "connecting" });
    const take = (lines: string[]) => {
      failures = 0;
      isDone = onLines(lines) === true;
      return !isDone;
    };
    try {
      await readStream(path(), () => say({ state: "live" }), take, signal);
      isDone ||= isDoneAtEnd;
    } catch (failure) {
      // Asking again would be refused again.
      if (failure instanceof ApiError && failure.status >= 400 && failure.status < 500 && failure.status !== 429) break;
    }
    if (signal.aborted || isDone || document.hidden) continue;
    const wait = kDelays[Math.min(failures++, kDelays.length - 1)]!;
    say({ state: "waiting", until: Date.now() + wait });
    await delay(wait, signal);
  }
  say({ state: "off" });
}

/** Follows events until `told` returns true or `signal` aborts. One stream at a time: `connection` tells how it stands. */
export function follow(
  path: string,
  told: (event: string, data: unknown) => boolean | void,
  signal: AbortSignal,
): Promise<void> {
  let isDone = false;
  const parser = new EventParser((event, data) => {
    if (told(event, JSON.parse(data))) isDone = true;
  });
  const onLines = (lines: string[]) => {
    lines.forEach((line) => parser.push(line));
    return isDone;
  };
  const begin = () => {
    parser.reset();
    return path;
  };
  return keepReading({ path: begin, onLines, isDoneAtEnd: false, told: (now) => connection.set(now) }, signal);
}

/** Follows a stream of JSON lines to its end. `path` is asked again where it broke, to go on behind what has come. */
export function followLines(path: () => string, onLines: (lines: string[]) => void, signal: AbortSignal): Promise<void> {
  return keepReading({ path, onLines, isDoneAtEnd: true, told: () => {} }, signal);
}

/** Follows `path`, if there is one, as long as the component stands. `told` is the first one that it was called with. */
export function useEvents(path: string | null, told: (event: string, data: unknown) => boolean | void): void {
  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    void follow(path, told, stop.signal);
    return () => {
      stop.abort();
      connection.set({ state: "off" });
    };
  }, [path]);
}

/** What /v1/events tells, by topic. */
export interface Topics {
  queue: Queue;
  batches: List<Batch>;
  engines: List<Engine>;
  workers: List<Worker>;
  /** What is new: one point. */
  stats: { points: Point[] };
  deliveries: List<Delivery>;
}

/** The newest of each of the topics, live; undefined until it is there. Those that need a scope are the caller's to leave out. */
export function useTopics<K extends keyof Topics>(topics: readonly K[]): Partial<Pick<Topics, K>> {
  const [newest, setNewest] = useState<Partial<Pick<Topics, K>>>({});
  useEvents(`/v1/events?topics=${topics.join(",")}`, (event, data) => {
    setNewest((before) => ({ ...before, [event]: data }));
  });
  return newest;
}
