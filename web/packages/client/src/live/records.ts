// A collection that keeps itself up to date: as a whole for those who list it, and record by record for those who look
// at one. Both share one copy, so that a list of rows reads each record once. Changes made here show at once.

import { readAll, type Collection } from "../collection.js";
import { STORE_LINGER_MS } from "../limits.js";
import { Lingering } from "./lingering.js";
import { Overlay } from "./overlay.js";
import { Reading, type Reader } from "./reading.js";
import { Rows } from "./rows.js";
import type { RecordsState, RecordState } from "./states.js";
import { Listeners, type Store } from "./store.js";
import type { EventStream, Follower } from "./stream.js";
import { Turns } from "./turns.js";

/** How far what is held can be relied on. */
interface Condition {
  /** Whether everything was read. */
  readonly isComplete: boolean;
  /** Why changes are not told at the moment. */
  readonly lostBecause: Error | null;
  /** Why the last reading failed. */
  readonly failure: Error | null;
}

export class LiveRecords<T extends object> implements Store<RecordsState<T>> {
  /** As they were last read. */
  private readonly saved = new Map<string, T>();
  private readonly overlay = new Overlay();
  /** As they are shown: with the overlay. */
  private readonly rows = new Rows<T>();
  /** Records that were read, whether they are there or not. */
  private readonly known = new Set<string>();
  private readonly lists = new Listeners();
  private readonly watched = new Map<string, Listeners>();
  private readonly turns = new Turns();
  private readonly reading: Reading<T>;
  private readonly everyone: Lingering;
  private readonly everything: Lingering;
  private condition: Condition = { isComplete: false, lostBecause: null, failure: null };
  /** Whether the stream tells every change; before it does, it is waited for, so that nothing is read twice. */
  private isFollowing = false;
  private state: RecordsState<T> | undefined;
  private waiting: (() => void)[] = [];
  private leave: (() => void) | undefined;

  constructor(
    private readonly collection: Collection<T>,
    private readonly stream: EventStream,
  ) {
    const some = (keys: readonly string[], signal: AbortSignal) => collection.read(keys, { signal });
    this.reading = new Reading({ all: readAll(collection), some }, this.reader());
    this.everyone = new Lingering(
      STORE_LINGER_MS,
      () => this.begin(),
      () => this.end(),
    );
    this.everything = new Lingering(
      STORE_LINGER_MS,
      () => this.readWanted(),
      () => this.forgetUnwatched(),
    );
  }

  subscribe(listener: () => void): () => void {
    const releases = [this.lists.add(listener), this.everyone.use(), this.everything.use()];
    return () => releases.forEach((release) => release());
  }

  getSnapshot(): RecordsState<T> {
    const { isComplete, failure, lostBecause } = this.condition;
    const isLoading = !isComplete && failure === null;
    this.state ??= { ...this.rows.list(), isLoading, error: failure ?? lostBecause };
    return this.state;
  }

  /** One record, as a store of its own that tells of nothing else. */
  record(key: string): Store<RecordState<T>> {
    let last: RecordState<T> | undefined;
    const look = (): RecordState<T> => {
      const record = this.rows.get(key);
      const isRead = this.isKept(key) || record !== undefined;
      const error = isRead ? null : this.condition.failure;
      const isLoading = !isRead && error === null;
      const isSameAsLast = last?.record === record && last?.isLoading === isLoading && last.error === error;
      return (last = isSameAsLast && last ? last : { record, isLoading, error });
    };
    return { subscribe: (listener) => this.watch(key, listener), getSnapshot: look };
  }

  /** Creates the record or lays the fields over it, and shows that at once. It is taken back where saving fails. */
  save(key: string, fields: Partial<T>): Promise<void> {
    // As it will travel: what JSON leaves out is left out, and what the caller does with it later changes nothing.
    const sent = JSON.parse(JSON.stringify(fields)) as Partial<T>;
    return this.write(key, sent, () => this.collection.save(key, sent));
  }

  /** Deletes the record, and shows that at once. It is back where deleting fails. */
  delete(key: string): Promise<void> {
    return this.write(key, null, async () => void (await this.collection.delete(key)));
  }

  /** Reads everything anew. That has ended, well or not, when the promise is fulfilled. */
  async refresh(): Promise<void> {
    if (!this.everything.isUsed) return;
    // Where the stream is about to open, everything will be read then.
    if (this.mayRead) this.reading.all();
    await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  private watch(key: string, listener: () => void): () => void {
    const listeners = this.watched.get(key) ?? new Listeners();
    this.watched.set(key, listeners);
    const releases = [listeners.add(listener), this.everyone.use()];
    if (this.mayRead && !this.isKept(key)) this.reading.some([key]);
    return () => {
      releases.forEach((release) => release());
      if (listeners.size === 0 && this.watched.get(key) === listeners) this.watched.delete(key);
    };
  }

  /** Sends writes of one record one after another: two requests may overtake each other. */
  private async write(key: string, fields: object | null, send: () => Promise<void>): Promise<void> {
    const change = this.overlay.add(key, fields);
    this.show([key]);
    try {
      await this.turns.take(key, send);
      change.savedAt = this.reading.tick();
    } catch (error) {
      this.overlay.remove(key, change);
      this.show([key]);
      throw error;
    } finally {
      // Even where it failed: whether it was done is not known when an answer is lost.
      this.onChanged([key]);
    }
  }

  private begin(): void {
    this.leave = this.stream.follow(this.collection.name, this.follower());
  }

  private end(): void {
    this.leave?.();
    this.reading.stop();
    for (const forgotten of [this.overlay, this.saved, this.rows, this.known]) forgotten.clear();
    this.isFollowing = false;
    this.show([], { isComplete: false, lostBecause: null, failure: null });
    this.answerWaiting();
  }

  private follower(): Follower {
    return {
      fresh: () => {
        this.isFollowing = true;
        this.show([], { lostBecause: null });
        this.readWanted();
      },
      resumed: () => {
        this.show([], { lostBecause: null });
        if (this.everything.isUsed && !this.condition.isComplete) this.readWanted();
        else this.reading.kick();
      },
      changed: (keys) => this.onChanged(keys),
      lost: (error) => {
        this.show([], { lostBecause: error });
        // Without a stream there is at least what can be read now.
        if (!this.isFollowing && !this.condition.isComplete) this.readWanted();
      },
    };
  }

  private reader(): Reader<T> {
    return {
      onAll: (records, begunAt) => {
        const keys = new Set([...this.saved.keys(), ...this.overlay.keys(), ...records.keys()]);
        for (const key of keys) this.learn(key, records.get(key), begunAt);
        this.show(keys, { isComplete: true, failure: null });
        this.answerWaiting();
      },
      onSome: (keys, records, begunAt) => {
        for (const key of keys) this.learn(key, records.get(key), begunAt);
        this.show(keys, this.reading.isQuiet ? { failure: null } : {});
        // One that is not there has not changed, but now that is known.
        for (const key of keys) this.watched.get(key)?.tell();
      },
      onFailure: (error) => {
        this.show([], { failure: error });
        this.answerWaiting();
      },
    };
  }

  private learn(key: string, record: T | undefined, begunAt: number): void {
    if (record === undefined) this.saved.delete(key);
    else this.saved.set(key, record);
    if (this.watched.has(key)) this.known.add(key);
    this.overlay.settle(key, begunAt);
  }

  private isKept(key: string): boolean {
    return this.condition.isComplete || this.known.has(key);
  }

  private get mayRead(): boolean {
    return this.isFollowing || this.condition.lostBecause !== null;
  }

  /** Reads what somebody looks at. */
  private readWanted(): void {
    if (!this.mayRead) return;
    if (this.everything.isUsed) return this.reading.all();
    this.forgetUnwatched();
    this.reading.stop();
    this.reading.some(this.watched.keys());
  }

  /** What nobody looks at is not kept up to date, so it is not kept. */
  private forgetUnwatched(): void {
    if (this.condition.isComplete) for (const key of this.watched.keys()) this.known.add(key);
    this.forget([...this.saved.keys(), ...this.known].filter((key) => !this.watched.has(key)));
    this.show([], { isComplete: false });
  }

  private forget(keys: readonly string[]): void {
    for (const key of keys) {
      this.saved.delete(key);
      this.known.delete(key);
    }
    this.show(keys);
  }

  private onChanged(keys: readonly string[]): void {
    const isLookedAt = (key: string) => this.everything.isUsed || this.watched.has(key);
    const others = keys.filter((key) => !isLookedAt(key));
    for (const key of others) this.overlay.settle(key, this.reading.tick());
    this.forget(others);
    this.reading.some(keys.filter(isLookedAt));
  }

  /** Shows these records and this condition as they are now, and tells whoever looks at what has changed: once. */
  private show(keys: Iterable<string>, next: Partial<Condition> = {}): void {
    const before = this.condition;
    this.condition = { ...before, ...next };
    const isNew = (name: keyof Condition) => before[name] !== this.condition[name];
    const changed = [...keys].filter((key) => this.rows.set(key, this.overlay.over(key, this.saved.get(key))));
    if (changed.length === 0 && !isNew("isComplete") && !isNew("failure") && !isNew("lostBecause")) return;
    this.state = undefined;
    // A row is still true when the connection is lost; only lists say that they may be out of date.
    const told = isNew("isComplete") || isNew("failure") ? this.watched.keys() : changed;
    for (const key of [...told]) this.watched.get(key)?.tell();
    this.lists.tell();
  }

  private answerWaiting(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}
