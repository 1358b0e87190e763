// The outbox: what is to be sent, and what was set aside with its cause.

import type { Caller } from "./caller.js";
import type { OperationState, QueuedOperation } from "./shapes.js";
import type { RequestOptions } from "./transport.js";

/** Which operations. */
export interface QueueFilter {
  readonly state?: OperationState;
  readonly collection?: string;
  /** Only those after this one. */
  readonly after?: number;
  readonly limit?: number;
}

export class Queue {
  constructor(private readonly caller: Caller) {}

  /** The oldest first. */
  list(filter: QueueFilter = {}, options?: RequestOptions): Promise<QueuedOperation[]> {
    const { state, collection, after, limit } = filter;
    return this.caller.ask("GET", ["queue"], { parameters: { state, collection, after, limit }, ...options });
  }

  /** Puts parked operations back; none means all. How many went. */
  async redrive(ids: readonly number[] = [], options?: RequestOptions): Promise<number> {
    const body = { ids };
    const answer = await this.caller.ask<{ redriven: number }>("POST", ["queue", "redrive"], { body, ...options });
    return answer.redriven;
  }

  /** Gives operations up; none means all that are parked. `only` leaves their transactions' rest. How many went. */
  async discard(ids: readonly number[] = [], options: RequestOptions & { only?: boolean } = {}): Promise<number> {
    const { only = false, signal } = options;
    const body = { ids, only };
    const answer = await this.caller.ask<{ discarded: number }>("POST", ["queue", "discard"], { body, signal });
    return answer.discarded;
  }
}
