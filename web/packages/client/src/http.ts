// Requests and events over HTTP, by `fetch`: in browsers, Node, Deno, Bun and workers alike.

import { ConnectionError, problem } from "./errors.js";
import { EventParser } from "./event-parser.js";
import { SILENCE_MS } from "./limits.js";
import { Remembered, type Source } from "./remembered.js";
import { Silence } from "./silence.js";
import type { Answer, EventsOptions, Method, RequestOptions, ServerSentEvent, Transport } from "./transport.js";

export interface HttpOptions {
  /** Where the process answers, such as `http://127.0.0.1:7373`, or how to find that out. */
  readonly url: Source;
  /** The token of this run of the process, or how to find it; a function is asked anew when the process refuses it. */
  readonly token: Source;
  /** Another `fetch` than the global one. */
  readonly fetch?: typeof fetch;
  /** How long the stream may be silent, in milliseconds. */
  readonly silenceMs?: number;
}

export class HttpTransport implements Transport {
  private readonly url: Remembered;
  private readonly token: Remembered;
  private readonly fetch: typeof fetch;
  private readonly silenceMs: number;

  constructor(options: HttpOptions) {
    this.url = new Remembered("address", options.url);
    this.token = new Remembered("token", options.token);
    this.fetch = options.fetch ?? ((...request) => globalThis.fetch(...request));
    this.silenceMs = options.silenceMs ?? SILENCE_MS;
  }

  async request(method: Method, path: string, body?: unknown, options: RequestOptions = {}): Promise<Answer> {
    const headers: Record<string, string> = { accept: "application/json" };
    const init: RequestInit = { method, headers };
    if (options.signal) init.signal = options.signal;
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(body);
    }
    const response = await this.ask(path, init, headers);
    return this.reading(options.signal, () => answer(response));
  }

  async *events(path: string, { lastEventId, signal }: EventsOptions): AsyncGenerator<ServerSentEvent> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (lastEventId) headers["last-event-id"] = lastEventId;
    const silence = new Silence(this.silenceMs, signal);
    try {
      const response = await this.ask(path, { headers, signal: silence.signal, cache: "no-store" }, headers);
      if (!response.ok) throw problem(await this.reading(silence.signal, () => answer(response)));
      if (!response.body) throw new ConnectionError("the event stream has no body");
      const reader = response.body.getReader();
      const parser = new EventParser();
      while (true) {
        const { done, value } = await this.reading(silence.signal, () => reader.read());
        if (done) return;
        silence.broken();
        yield* parser.push(value);
      }
    } finally {
      silence.end();
    }
  }

  /** Asks, and once more with another token where this one is refused: the process may be another one by now. */
  private async ask(path: string, init: RequestInit, headers: Record<string, string>): Promise<Response> {
    for (let isLast = !this.token.canChange; ; isLast = true) {
      const [url, token] = await Promise.all([this.url.get(), this.token.get()]);
      headers["authorization"] = `Bearer ${token}`;
      const address = url.replace(/\/+$/, "") + path;
      const response = await this.reading(init.signal, () => this.fetch(address, init), url);
      if (response.status !== 401) return response;
      await this.token.forget(token);
      if (isLast) return response;
      await response.body?.cancel();
    }
  }

  /** What goes wrong on the way is a `ConnectionError`, unless the caller has given up. */
  private async reading<T>(signal: AbortSignal | null | undefined, step: () => Promise<T>, url?: string): Promise<T> {
    try {
      return await step();
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      if (url !== undefined) await this.url.forget(url);
      throw new ConnectionError("the tidelock process cannot be reached", { cause });
    }
  }
}

async function answer(response: Response): Promise<Answer> {
  const text = await response.text();
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  const isJson = /^application\/(problem\+)?json\b/.test(response.headers.get("content-type") ?? "");
  const body: unknown = isJson && text !== "" ? JSON.parse(text) : text;
  return { status: response.status, body, ...(seconds >= 0 && { retryAfterMs: seconds * 1_000 }) };
}
