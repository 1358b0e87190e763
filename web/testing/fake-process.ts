// A tidelock process in memory, as far as a page sees it: records, a status, and an event stream that can be resumed.
// Tests break it on purpose: answers are held back, refused or lost, streams are cut, the process is killed.

import { ConnectionError, ProblemError, type ServerSentEvent, type Transport } from "@tidelock/client";
import { status } from "./status.js";

type Document = { [field: string]: unknown };

/** A request as the process saw it. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
  readonly signal: AbortSignal | undefined;
}

interface OpenStream {
  readonly path: string;
  readonly lastEventId: string | undefined;
  push(event: ServerSentEvent): void;
  cut(error?: Error): void;
}

interface Refusal {
  readonly status: number;
  readonly code: string;
}

export class FakeProcess {
  readonly collections = new Map<string, Map<string, Document>>();
  /** What it answers where a list is asked for: `conflicts`, `backups`. */
  readonly lists = new Map<string, unknown[]>();
  readonly requests: Seen[] = [];
  /** Every stream that was ever opened. */
  readonly opened: { path: string; lastEventId: string | undefined }[] = [];
  readonly streams = new Set<OpenStream>();
  status = status();
  isAlive = true;
  /** Whether it remembers its events for those who come back. */
  canResume = true;
  /** What a stream waits for before its first event. */
  opening: Promise<void> | undefined;
  /** A collection of which it knows nothing. */
  unknown: string | undefined;
  /** Holds an answer back after it was put together, as a slow network does. */
  hold: (seen: Seen) => Promise<unknown> | undefined = () => undefined;
  /** Refuses a request. */
  refuse: (seen: Seen) => Refusal | undefined = () => undefined;
  private past: { id: string; collection: string; keys: string[] }[] = [];
  private run = 1;
  private number = 0;

  /** What a page uses. */
  readonly transport: Transport = {
    request: async (method, path, body, options) => {
      const seen = { method, path, body, signal: options?.signal };
      this.requests.push(seen);
      if (!this.isAlive) throw new ConnectionError("the process is dead");
      const refusal = this.refuse(seen);
      const answer = refusal ? refused(refusal) : { status: 200, body: structuredClone(this.answer(seen)) };
      await Promise.race([this.hold(seen), aborted(seen.signal)]);
      if (seen.signal?.aborted) throw seen.signal.reason;
      if (!this.isAlive) throw new ConnectionError("the answer was lost");
      return answer;
    },
    events: (path, { lastEventId, signal }) => this.stream(path, lastEventId, signal),
  };

  /** Puts records there without telling anybody. */
  fill(collection: string, records: { [key: string]: Document }): void {
    for (const [key, record] of Object.entries(records)) this.of(collection).set(key, record);
  }

  /** Puts a record there, or takes it away, and tells those who follow. */
  change(collection: string, key: string, record: Document | undefined): void {
    if (record === undefined) this.of(collection).delete(key);
    else this.of(collection).set(key, record);
    this.tell(collection, [key]);
  }

  tell(collection: string, keys: string[]): void {
    this.number += 1;
    const event = { id: `${this.run}-${this.number}`, collection, keys };
    this.past.push(event);
    for (const stream of this.streams) this.pass(stream, event);
  }

  tellStatus(changes: Partial<ReturnType<typeof status>>): void {
    this.status = { ...this.status, ...changes };
    for (const stream of this.streams) stream.push(this.event("status", this.status));
  }

  /** Cuts all streams, as a network does. */
  cut(): void {
    for (const stream of [...this.streams]) stream.cut(new ConnectionError("cut"));
  }

  kill(): void {
    this.isAlive = false;
    this.cut();
  }

  /** Another process, which knows nothing of the events of the one before. */
  restart(): void {
    this.isAlive = true;
    this.run += 1;
    this.past = [];
  }

  paths(method = "GET"): string[] {
    return this.requests.filter((seen) => seen.method === method).map((seen) => decodeURIComponent(seen.path));
  }

  /** Says something on all streams that follow nothing in particular. */
  say(event: string, data: string): void {
    for (const stream of this.streams) stream.push({ event, data, id: "" });
  }

  private of(collection: string): Map<string, Document> {
    const records = this.collections.get(collection) ?? new Map<string, Document>();
    this.collections.set(collection, records);
    return records;
  }

  private event(event: string, data: unknown): ServerSentEvent {
    return { event, data: JSON.stringify(data), id: `${this.run}-${this.number}` };
  }

  private pass(stream: OpenStream, { id, collection, keys }: { id: string; collection: string; keys: string[] }): void {
    const wanted = wantedBy(stream.path);
    if (wanted.includes(collection) || wanted.includes("*"))
      stream.push({ event: "records", data: JSON.stringify({ collection, keys }), id });
  }

  private async *stream(
    path: string,
    lastEventId: string | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<ServerSentEvent> {
    this.opened.push({ path, lastEventId });
    if (!this.isAlive) throw new ConnectionError("the process is dead");
    if (wantedBy(path).some((name) => name === this.unknown))
      throw new ProblemError("unknown_collection", 404, "unknown");
    await this.opening;
    const queue: ServerSentEvent[] = [];
    let [wake, end]: [() => void, Error | "end" | undefined] = [() => {}, undefined];
    const stream: OpenStream = {
      path,
      lastEventId,
      push: (event) => (queue.push(event), wake()),
      cut: (error) => (this.streams.delete(stream), (end = error ?? "end"), wake()),
    };
    signal.addEventListener("abort", () => stream.cut(signal.reason as Error));
    this.streams.add(stream);
    try {
      const since =
        lastEventId?.startsWith(`${this.run}-`) && this.canResume ? Number(lastEventId.split("-")[1]) : undefined;
      stream.push(this.event(since === undefined ? "snapshot" : "resumed", { status: this.status }));
      const missed = this.past.filter(({ id }) => since !== undefined && Number(id.split("-")[1]) > since);
      for (const event of missed) this.pass(stream, event);
      while (true) {
        for (const event of queue.splice(0)) yield event;
        if (end === "end") return;
        if (end !== undefined) throw end;
        if (queue.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      this.streams.delete(stream);
    }
  }

  private answer({ method, path, body }: Seen): unknown {
    const url = new URL(path, "http://process");
    const [, , place, name = "", verb, encoded = ""] = url.pathname.split("/");
    const key = decodeURIComponent(encoded);
    if (place === "status") return this.status;
    if (place === "sync") return { pushed: 0, failed: 0 };
    if (place !== "collections") return method === "GET" ? (this.lists.get(place ?? "") ?? []) : {};
    const records = this.of(decodeURIComponent(name));
    if (verb === "read") {
      const { keys } = body as { keys: string[] };
      return {
        documents: Object.fromEntries(keys.flatMap((each) => (records.has(each) ? [[each, records.get(each)]] : []))),
      };
    }
    if (method === "PUT") {
      this.change(name, key, { ...records.get(key), ...(body as Document), id: key });
      return { id: key };
    }
    if (method === "DELETE") {
      const deleted = records.has(key);
      this.change(name, key, undefined);
      return { deleted };
    }
    return key === "" ? list(records, url.searchParams) : records.get(key);
  }
}

function wantedBy(path: string): string[] {
  return new URL(path, "http://process").searchParams.get("collections")?.split(",") ?? [];
}

/** Filters by one equality, pages by key; enough for what is tested here. */
function list(records: Map<string, Document>, parameters: URLSearchParams): unknown {
  const filter = JSON.parse(parameters.get("filter") ?? "[]") as { field: string; value: unknown }[];
  const limit = Number(parameters.get("limit") ?? 10_000);
  const after = parameters.get("after") ?? "";
  const sorted = [...records].sort(([a], [b]) => (a < b ? -1 : 1)).filter(([key]) => key > after);
  const found = sorted.filter(([, record]) => filter.every(({ field, value }) => record[field] === value));
  const rows = found.slice(0, limit);
  return { rows, next: found.length > limit ? (rows.at(-1)?.[0] ?? null) : null };
}

function refused({ status, code }: Refusal): { status: number; body: unknown } {
  const body = {
    type: `urn:tidelock:problem:${code}`,
    title: "Refused",
    status,
    detail: `refused: ${code}`,
    code,
    exit: 1,
  };
  return { status, body };
}

function aborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => signal?.addEventListener("abort", () => resolve()));
}
