// Records that changed on both sides: what is open, what was decided, and deciding.

import type { Caller } from "./caller.js";
import type { ConflictView, Decision } from "./shapes.js";
import type { RequestOptions } from "./transport.js";

export class Conflicts {
  constructor(private readonly caller: Caller) {}

  /** The newest first; `all` includes decided ones. */
  list(options: RequestOptions & { all?: boolean } = {}): Promise<ConflictView[]> {
    const { all = false, signal } = options;
    return this.caller.ask("GET", ["conflicts"], { parameters: { all }, signal });
  }

  /** One of them, open or decided. */
  get(id: number, options?: RequestOptions): Promise<ConflictView> {
    return this.caller.ask("GET", ["conflicts", String(id)], { ...options });
  }

  async resolve(id: number, decision: Decision, options?: RequestOptions): Promise<void> {
    await this.caller.ask("POST", ["conflicts", String(id), "resolve"], { body: decision, ...options });
  }

  /** Takes a decision back. */
  async undo(id: number, options?: RequestOptions): Promise<void> {
    await this.caller.ask("POST", ["conflicts", String(id), "undo"], { ...options });
  }
}
