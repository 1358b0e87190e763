// A query that keeps itself up to date. Only the store can tell what matches and in which order, so each change of the
// collection asks it again, at most ten times a second; records that have not changed keep their identity.

import type { Collection, ListQuery } from "../collection.js";
import { STORE_LINGER_MS } from "../limits.js";
import { Lingering } from "./lingering.js";
import { Reading } from "./reading.js";
import { isSame } from "./same.js";
import type { RecordsState } from "./states.js";
import { Listeners, type Store } from "./store.js";
import type { EventStream } from "./stream.js";

export class LiveList<T extends object> implements Store<RecordsState<T>> {
  private readonly listeners = new Listeners();
  private readonly use: Lingering;
  private readonly reading: Reading<T>;
  private state: RecordsState<T> = { keys: [], records: [], isLoading: true, error: null };
  private found = new Map<string, T>();
  private failure: Error | null = null;
  private lostBecause: Error | null = null;
  private leave: (() => void) | undefined;

  constructor(
    private readonly collection: Collection<T>,
    private readonly stream: EventStream,
    query: ListQuery,
  ) {
    const all = async (signal: AbortSignal) => {
      const records = new Map<string, T>();
      for await (const [key, record] of collection.all(query, { signal })) records.set(key, record);
      return records;
    };
    const onAll = (records: Map<string, T>) => this.take(records);
    const onFailure = (error: Error) => this.become({ failure: error });
    // A query is always read as a whole.
    const some = () => Promise.resolve(new Map<string, T>());
    this.reading = new Reading({ all, some }, { onAll, onFailure, onSome: () => {} });
    this.use = new Lingering(STORE_LINGER_MS, () => this.begin(), () => this.end());
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

  private begin(): void {
    this.leave = this.stream.follow(this.collection.name, {
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
    this.failure = null;
    this.become(isOld ? { isLoading: false } : { keys, records: list, isLoading: false });
  }

  private become(next: Partial<RecordsState<T>> & { failure?: Error; lostBecause?: Error | null }): void {
    const { failure = this.failure, lostBecause = this.lostBecause, ...shown } = next;
    [this.failure, this.lostBecause] = [failure, lostBecause];
    const isLoading = shown.isLoading ?? (this.state.isLoading && failure === null);
    const state = { ...this.state, ...shown, isLoading, error: failure ?? lostBecause };
    const isOld =
      state.records === this.state.records && isLoading === this.state.isLoading && state.error === this.state.error;
    if (isOld) return;
    this.state = state;
    this.listeners.tell();
  }
}
