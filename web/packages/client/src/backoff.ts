// How long to wait before the next attempt: uniform in [0, min(cap, base·2^attempt)], so that pages that lost the
// process together do not come back together.

import { BACKOFF_BASE_MS, BACKOFF_CAP_MS, RETRY_AFTER_CAP_MS } from "./limits.js";

export class Backoff {
  private attempt = 0;

  /** The wait before the next attempt; what the process asked for is obeyed. */
  next(atLeastMs = 0): number {
    const ceiling = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.min(this.attempt, 30));
    this.attempt += 1;
    return Math.max(Math.random() * ceiling, Math.min(atLeastMs, RETRY_AFTER_CAP_MS));
  }

  reset(): void {
    this.attempt = 0;
  }
}
