// What changes by itself, over one event stream. Whoever asks for the same collection or query shares one store, which
// reads while somebody looks at it.

import type { Caller } from "../caller.js";
import { Collection, type ListQuery } from "../collection.js";
import type { JsonObject } from "../shapes.js";
import { LiveList } from "./list.js";
import { LiveRecords } from "./records.js";
import { Shared } from "./shared.js";
import type { RecordsState, RecordState } from "./states.js";
import type { Store } from "./store.js";
import { EventStream, type LiveState } from "./stream.js";

export class Live implements Store<LiveState> {
  private readonly stream: EventStream;
  private readonly collections = new Shared<LiveRecords<object>>();
  private readonly lists = new Shared<LiveList<object>>();

  constructor(private readonly caller: Caller) {
    this.stream = new EventStream(caller.transport);
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
    const make = () => new LiveList<object>(new Collection(this.caller, collection), this.stream, query);
    const list = this.lists.get(JSON.stringify([collection, filter, order, limit ?? null]), make);
    return list as unknown as LiveList<T>;
  }
}
