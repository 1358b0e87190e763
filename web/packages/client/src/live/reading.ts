// Reads what is due, one request at a time, so that no answer overtakes another. What becomes due while a request is
// under way is read after it: the answer may be older than the hint.

import { Backoff } from "../backoff.js";
import { asError, isTransient, ProblemError } from "../errors.js";
import { READ_KEYS, RELIST_PAUSE_MS } from "../limits.js";
import { Pause } from "./pause.js";

/** Where records are read. */
export interface Source<T> {
  /** All of them. */
  all(signal: AbortSignal): Promise<Map<string, T>>;
  /** Those of these that are there. */
  some(keys: readonly string[], signal: AbortSignal): Promise<Map<string, T>>;
}

/** Who wants them. `begunAt` is a moment of `Reading.tick`: what was written before it is in the answer. */
export interface Reader<T> {
  onAll(records: Map<string, T>, begunAt: number): void;
  onSome(keys: readonly string[], records: Map<string, T>, begunAt: number): void;
  onFailure(error: Error): void;
}

export class Reading<T> {
  private isAllDue = false;
  private readonly due = new Set<string>();
  private flight: AbortController | undefined;
  private readonly pause = new Pause();
  private readonly backoff = new Backoff();
  private moment = 0;

  constructor(
    private readonly source: Source<T>,
    private readonly reader: Reader<T>,
  ) {}

  /** A moment, later than all before. */
  tick(): number {
    this.moment += 1;
    return this.moment;
  }

  /** Everything is to be read; an answer that is under way is too old. */
  all(): void {
    this.stop();
    this.again();
  }

  /** Everything is to be read, after what is under way. */
  again(): void {
    this.isAllDue = true;
    this.due.clear();
    this.start();
  }

  /** These are to be read. */
  some(keys: Iterable<string>): void {
    for (const key of keys) this.due.add(key);
    this.start();
  }

  /** Whatever is due is tried now. */
  kick(): void {
    this.pause.cut();
    this.start();
  }

  /** Nothing is to be read any more. */
  stop(): void {
    this.flight?.abort();
    this.flight = undefined;
    this.isAllDue = false;
    this.due.clear();
    this.pause.cut();
  }

  /** Whether nothing waits to be read, though something may be under way. */
  get isQuiet(): boolean {
    return !this.isAllDue && this.due.size === 0;
  }

  private start(): void {
    if (this.flight !== undefined || this.isQuiet) return;
    const flight = (this.flight = new AbortController());
    void this.fly(flight.signal).finally(() => {
      if (this.flight === flight) this.flight = undefined;
    });
  }

  private async fly(signal: AbortSignal): Promise<void> {
    // Hints that came together are read together.
    await new Promise((resolve) => setTimeout(resolve));
    while (!signal.aborted && !this.isQuiet) {
      const isAll = this.isAllDue;
      const keys = isAll ? [] : [...this.due].slice(0, READ_KEYS);
      this.isAllDue = false;
      for (const key of keys) this.due.delete(key);
      try {
        await this.read(isAll, keys, signal);
        if (isAll && this.isAllDue) await this.pause.wait(RELIST_PAUSE_MS);
      } catch (thrown) {
        if (signal.aborted) return;
        const error = asError(thrown);
        const isWorthIt = isTransient(error);
        if (isWorthIt && isAll) this.isAllDue = true;
        if (isWorthIt) for (const key of keys) this.due.add(key);
        this.reader.onFailure(error);
        if (isWorthIt) await this.pause.wait(this.backoff.next(error instanceof ProblemError ? error.retryAfterMs : 0));
      }
    }
  }

  private async read(isAll: boolean, keys: readonly string[], signal: AbortSignal): Promise<void> {
    const begunAt = this.tick();
    const records = await (isAll ? this.source.all(signal) : this.source.some(keys, signal));
    if (signal.aborted) return;
    this.backoff.reset();
    if (isAll) this.reader.onAll(records, begunAt);
    else this.reader.onSome(keys, records, begunAt);
  }
}
