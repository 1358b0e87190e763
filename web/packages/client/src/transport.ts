// The only way to the process. A host with a channel of its own (Tauri, Electron) implements these two methods and
// needs neither an open port nor a token in the page.

/** The methods that the API knows. */
export type Method = "GET" | "POST" | "PUT" | "DELETE";

/** What the process answered. */
export interface Answer {
  /** As in HTTP; from 200 to 299 is good. */
  readonly status: number;
  /** The JSON it answered, or a problem document. */
  readonly body: unknown;
  /** How long to wait before asking again, where it said so. */
  readonly retryAfterMs?: number;
}

/** An event of the stream. */
export interface ServerSentEvent {
  /** Its type; `message` where none was given. */
  readonly event: string;
  /** Its data, lines joined by a line feed. */
  readonly data: string;
  /** The last id that the stream has given; empty before the first. */
  readonly id: string;
}

/** How a request may be given up. */
export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
}

/** How a stream is opened. */
export interface EventsOptions {
  /** Go on after this event. */
  readonly lastEventId?: string | undefined;
  readonly signal: AbortSignal;
}

/** Carries requests and events. Whatever keeps it from doing so is thrown as a `ConnectionError`. */
export interface Transport {
  /** `path` begins with `/v1/` and is encoded. Answers of every status are returned, not thrown. */
  request(method: Method, path: string, body?: unknown, options?: RequestOptions): Promise<Answer>;
  /**
   * The events, until the process closes the stream or the signal is aborted. A refusal is thrown as a `ProblemError`.
   * The transport, which sees comments too, throws when nothing at all came for 40 s.
   */
  events(path: string, options: EventsOptions): AsyncIterable<ServerSentEvent>;
}
