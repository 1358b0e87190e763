// What was logged, and calls of paid services.

import type { Caller } from "./caller.js";
import type { Kept, Level, LoggedCall, Severity } from "./shapes.js";
import type { RequestOptions } from "./transport.js";

/** Which entries. */
export interface LogQuery {
  /** At least as important as this. */
  readonly level?: Severity;
  /** Said since then, RFC 3339. */
  readonly since?: string;
  /** With a greater number than this: give the last one's to follow. */
  readonly after?: number;
  /** So many at most; the newest ones. */
  readonly limit?: number;
}

export class Logs {
  constructor(private readonly caller: Caller) {}

  /** The oldest first. */
  list(query: LogQuery = {}, options?: RequestOptions): Promise<Kept[]> {
    const { level, since, after, limit } = query;
    return this.caller.ask("GET", ["logs"], { parameters: { level, since, after, limit }, ...options });
  }

  /** Says and keeps messages from this level on, until the configuration is read anew. */
  async setLevel(level: Level, options?: RequestOptions): Promise<void> {
    await this.caller.ask("PUT", ["logs", "level"], { body: { level }, ...options });
  }

  /** Notes a call of a paid service. */
  async call(call: LoggedCall, options?: RequestOptions): Promise<void> {
    await this.caller.ask("POST", ["logs", "calls"], { body: call, ...options });
  }
}
