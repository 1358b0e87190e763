// A list that keeps itself up to date by being read as a whole: what a query finds, since only the store can tell what
// matches and in which order, or the open conflicts. Each change has it read again, at most ten times a second; what
// has not changed keeps its identity.

import { STORE_LINGER_MS } from "../limits.js";
import { Lingering } from "./lingering.js";
import { Reading } from "./reading.js";
import { isSame } from "./same.js";
import type { RecordsState } from "./states.js";
import { Listeners, type Store } from "./store.js";
import type { Follower } from "./stream.js";

export class LiveList<T extends object> implements Store<RecordsState<T>> {
  private readonly listeners = new Listeners();
  private readonly use: Lingering;
  private readonly reading: Reading<T>;
  private state: RecordsState<T> = { keys: [], records: [], isLoading: true, error: null };
  private found = new Map<string, T>();
  private failure: Error | null = null;
  private lostBecause: Error | null = null;
  private waiting: (() => void)[] = [];
  private leave: (() => void) | undefined;

  /** `all` reads it, in order; `follow` tells when to do so again, until the function it returns is called. */
  constructor(
    all: (signal: AbortSignal) => Promise<Map<string, T>>,
    private readonly follow: (follower: Follower) => () => void,
  ) {
    const onAll = (records: Map<string, T>) => this.take(records);
    const onFailure = (failure: Error) => this.become({ failure });
    // It is always read as a whole.
    const some = () => Promise.resolve(new Map<string, T>());
    this.reading = new Reading({ all, some }, { onAll, onFailure, onSome: () => {} });
    this.use = new Lingering(
      STORE_LINGER_MS,
      () => this.begin(),
      () => this.end(),
    );
  }

  subscribe(listener: () => void): () => void {
    const [forget, release] = [this.listeners.add(listener), this.use.use()];
    return () => {
      forget();
      release();
    };
  }

  getSnapshot(): RecordsState<T> {
    return this.state;
  }

  /** Reads it anew. That has ended, well or not, when the promise is fulfilled. */
  async refresh(): Promise<void> {
    if (!this.use.isUsed) return;
    this.reading.again();
    await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  private begin(): void {
    this.leave = this.follow({
      fresh: () => {
        this.become({ lostBecause: null });
        this.reading.all();
      },
      resumed: () => {
        this.become({ lostBecause: null });
        if (this.state.isLoading || this.failure !== null) this.reading.again();
        this.reading.kick();
      },
      changed: () => this.reading.again(),
      lost: (error) => {
        this.become({ lostBecause: error });
        // Without a stream there is at least what can be read now.
        if (this.state.isLoading) this.reading.again();
      },
    });
  }

  private end(): void {
    this.leave?.();
    this.reading.stop();
    this.found = new Map();
    [this.failure, this.lostBecause] = [null, null];
    this.state = { keys: [], records: [], isLoading: true, error: null };
    this.answerWaiting();
  }

  private take(records: Map<string, T>): void {
    for (const [key, record] of records) {
      const before = this.found.get(key);
      if (isSame(before, record)) records.set(key, before as T);
    }
    this.found = records;
    const [keys, list] = [[...records.keys()], [...records.values()]];
    const { state } = this;
    const isOld = list.length === state.records.length && list.every((record, at) => record === state.records[at]);
    this.become({ ...(!isOld && { keys, records: list }), isLoading: false, failure: null });
  }

  private become(next: Partial<RecordsState<T>> & { failure?: Error | null; lostBecause?: Error | null }): void {
    const { failure = this.failure, lostBecause = this.lostBecause, ...shown } = next;
    [this.failure, this.lostBecause] = [failure, lostBecause];
    const before = this.state;
    const isLoading = shown.isLoading ?? (before.isLoading && failure === null);
    const state = { ...before, ...shown, isLoading, error: failure ?? lostBecause };
    if (next.failure !== undefined) this.answerWaiting();
    if (state.records === before.records && isLoading === before.isLoading && state.error === before.error) return;
    this.state = state;
    this.listeners.tell();
  }

  private answerWaiting(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}
