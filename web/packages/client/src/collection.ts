// One collection, typed. `save` lays the fields over the record that is there; null clears a field.

import type { Caller } from "./caller.js";
import { ProblemError } from "./errors.js";
import { LIST_ROWS, READ_KEYS } from "./limits.js";
import type { BulkSaved, Condition, Difference, JsonObject, Listed, VersionView } from "./shapes.js";
import type { RequestOptions } from "./transport.js";

/** Which records, in which order. */
export interface ListQuery {
  /** What has to hold of a record; all of it. */
  readonly filter?: readonly Condition[];
  /** Fields, each with whether it falls; the key decides ties. None means by key. */
  readonly order?: readonly (readonly [field: string, falls: boolean])[];
  /** The most records. */
  readonly limit?: number;
}

/** A page of a list. */
export interface Page<T> {
  readonly rows: readonly (readonly [key: string, record: T])[];
  /** Give this as `after` for the next page; null on the last one. */
  readonly next: string | null;
}

export class Collection<T extends object = JsonObject> {
  constructor(
    private readonly caller: Caller,
    readonly name: string,
  ) {}

  /** The record, or undefined where there is none. */
  async get(key: string, options?: RequestOptions): Promise<T | undefined> {
    try {
      return await this.caller.ask<T>("GET", this.at(key), { ...options });
    } catch (error) {
      if (error instanceof ProblemError && error.code === "not_found") return undefined;
      throw error;
    }
  }

  /** Those of these records that are there. */
  async read(keys: readonly string[], options?: RequestOptions): Promise<Map<string, T>> {
    const found = new Map<string, T>();
    for (let from = 0; from < keys.length; from += READ_KEYS) {
      const body = { keys: keys.slice(from, from + READ_KEYS) };
      const path = ["collections", this.name, "read"];
      const { documents } = await this.caller.ask<{ documents: Record<string, T> }>("POST", path, { body, ...options });
      for (const [key, record] of Object.entries(documents)) found.set(key, record);
    }
    return found;
  }

  /** A page of records. */
  async list(
    query: ListQuery & { readonly after?: string | undefined } = {},
    options?: RequestOptions,
  ): Promise<Page<T>> {
    const { filter, order, limit, after } = query;
    const parameters = { filter, order, limit, after };
    const listed = await this.caller.ask<Listed>("GET", this.at(), { parameters, ...options });
    return { rows: listed.rows as unknown as [string, T][], next: listed.next ?? null };
  }

  /** All records, one by one; `limit` bounds them all together. */
  async *all(query?: ListQuery, options?: RequestOptions): AsyncGenerator<readonly [key: string, record: T]> {
    for await (const rows of this.pages(query, options)) yield* rows;
  }

  /** All records, page by page. */
  async *pages(query: ListQuery = {}, options?: RequestOptions): AsyncGenerator<Page<T>["rows"]> {
    let left = query.limit ?? Number.POSITIVE_INFINITY;
    let after: string | undefined;
    while (left > 0) {
      const page = await this.list({ ...query, limit: Math.min(left, LIST_ROWS), after }, options);
      yield page.rows;
      left -= page.rows.length;
      if (page.next === null) return;
      after = page.next;
    }
  }

  /** Creates the record, or lays the fields over it. */
  async save(key: string, fields: Partial<T>, options?: RequestOptions): Promise<void> {
    await this.caller.ask("PUT", this.at(key), { body: fields, ...options });
  }

  /** Saves all in one transaction; a record without a key gets its document's own, or a new one. */
  bulkSave(records: readonly { key?: string; document: Partial<T> }[], options?: RequestOptions): Promise<BulkSaved> {
    return this.caller.ask("POST", this.at(), { body: records, ...options });
  }

  /** Whether there was a record to delete. */
  async delete(key: string, options?: RequestOptions): Promise<boolean> {
    const answer = await this.caller.ask<{ deleted: boolean }>("DELETE", this.at(key), { ...options });
    return answer.deleted;
  }

  /** Earlier versions, the newest first. */
  history(key: string, options?: RequestOptions): Promise<VersionView[]> {
    return this.caller.ask("GET", [...this.at(key), "history"], { ...options });
  }

  /** Two versions field by field; without `from` the one before `to`, without `to` the record as it is now. */
  diff(key: string, versions: { from?: number; to?: number } = {}, options?: RequestOptions): Promise<Difference> {
    const parameters = { from: versions.from, to: versions.to };
    return this.caller.ask("GET", [...this.at(key), "diff"], { parameters, ...options });
  }

  private at(...key: string[]): string[] {
    return ["collections", this.name, "records", ...key];
  }
}

/** Reads everything that a query finds, by key and in its order. */
export function readAll<T extends object>(
  collection: Collection<T>,
  query?: ListQuery,
): (signal: AbortSignal) => Promise<Map<string, T>> {
  return async (signal) => {
    const records = new Map<string, T>();
    for await (const rows of collection.pages(query, { signal })) {
      for (const [key, record] of rows) records.set(key, record);
    }
    return records;
  };
}
