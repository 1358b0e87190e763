// What changes by itself, over one event stream. Whoever asks for the same collection or query shares one store, which
// reads while somebody looks at it.

import type { Caller } from "../caller.js";
import { Collection, readAll, type ListQuery } from "../collection.js";
import type { BackupView, ConflictView, JsonObject, Status } from "../shapes.js";
import { followStatus } from "./follow-status.js";
import { LiveList } from "./list.js";
import { LiveRecords } from "./records.js";
import { Shared } from "./shared.js";
import type { RecordsState, RecordState } from "./states.js";
import type { Store } from "./store.js";
import { EventStream, type LiveState } from "./stream.js";

export class Live implements Store<LiveState> {
  /** Conflicts that wait for a decision, the newest first. */
  readonly conflicts: LiveList<ConflictView>;
  /** Backups, the newest first. */
  readonly backups: LiveList<BackupView>;
  private readonly stream: EventStream;
  private readonly collections = new Shared<LiveRecords<object>>();
  private readonly lists = new Shared<LiveList<object>>();

  constructor(private readonly caller: Caller) {
    this.stream = new EventStream(caller.transport);
    this.conflicts = this.reviewed(["conflicts"], (status) => [
      status.conflicts,
      status.last_pulled_at,
      status.last_pushed_at,
    ]);
    this.backups = this.reviewed(["backups"], (status) => [status.last_backup_at, status.backup_error]);
  }

  /** Tells whenever the connection or the status changes. */
  subscribe(listener: () => void): () => void {
    return this.stream.subscribe(listener);
  }

  getSnapshot(): LiveState {
    return this.stream.getSnapshot();
  }

  /** All records of a collection, by key, with changes that show at once. */
  records<T extends object = JsonObject>(collection: string): LiveRecords<T> {
    const make = () => new LiveRecords<object>(new Collection(this.caller, collection), this.stream);
    return this.collections.get(collection, make) as unknown as LiveRecords<T>;
  }

  /** One record. */
  record<T extends object = JsonObject>(collection: string, key: string): Store<RecordState<T>> {
    return this.records<T>(collection).record(key);
  }

  /** What a query finds, in its order. */
  query<T extends object = JsonObject>(collection: string, query: ListQuery = {}): Store<RecordsState<T>> {
    const { filter = [], order = [], limit } = query;
    if (filter.length === 0 && order.length === 0 && limit === undefined) return this.records<T>(collection);
    const make = () => {
      const all = readAll(new Collection<object>(this.caller, collection), query);
      return new LiveList(all, (follower) => this.stream.follow(collection, follower));
    };
    const list = this.lists.get(JSON.stringify([collection, filter, order, limit ?? null]), make);
    return list as unknown as LiveList<T>;
  }

  /** A list of which nothing tells but what the status says about it. */
  private reviewed<T extends { id: unknown }>(path: string[], mark: (status: Status) => unknown): LiveList<T> {
    const all = async (signal: AbortSignal) => {
      const found = await this.caller.ask<T[]>("GET", path, { signal });
      return new Map(found.map((each) => [String(each.id), each]));
    };
    return new LiveList<T>(all, (follower) => followStatus(this.stream, mark, follower));
  }
}
