// Gives a stream up when nothing has come for too long: a connection whose other end vanished says nothing by itself.

import { ConnectionError } from "./errors.js";

export class Silence {
  private readonly controller = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly onAbort: () => void;

  constructor(
    private readonly limitMs: number,
    private readonly outer: AbortSignal,
  ) {
    this.onAbort = () => this.controller.abort(outer.reason);
    if (outer.aborted) this.onAbort();
    else outer.addEventListener("abort", this.onAbort, { once: true });
    this.broken();
  }

  /** Aborted with the outer one, or after too long a silence. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Something came. */
  broken(): void {
    clearTimeout(this.timer);
    const tooLong = () => this.controller.abort(new ConnectionError(`nothing was heard for ${this.limitMs / 1_000} s`));
    this.timer = setTimeout(tooLong, this.limitMs);
  }

  /** The stream is over; what is still open of it is closed. */
  end(): void {
    clearTimeout(this.timer);
    this.outer.removeEventListener("abort", this.onAbort);
    this.controller.abort();
  }
}
