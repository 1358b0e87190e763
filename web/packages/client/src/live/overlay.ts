// Changes that are shown before they are saved. One lies over its record until it was saved and the record was read
// after that, or until saving has failed.

/** A change: fields laid over the record, or null for its deletion. */
export interface Change {
  readonly fields: object | null;
  /** When it was saved, in the reader's moments. */
  savedAt?: number;
}

export class Overlay {
  private readonly changes = new Map<string, Change[]>();

  /** Records that are changed. */
  keys(): Iterable<string> {
    return this.changes.keys();
  }

  add(key: string, fields: object | null): Change {
    const change: Change = { fields };
    this.changes.set(key, [...(this.changes.get(key) ?? []), change]);
    return change;
  }

  remove(key: string, change: Change): void {
    this.keep(key, (other) => other !== change);
  }

  /** The record was read from this moment on: what was saved before is in it. */
  settle(key: string, begunAt: number): void {
    this.keep(key, ({ savedAt }) => savedAt === undefined || savedAt > begunAt);
  }

  clear(): void {
    this.changes.clear();
  }

  /** The record with its changes, in their order; undefined where there is none. */
  over<T extends object>(key: string, record: T | undefined): T | undefined {
    const changes = this.changes.get(key);
    if (changes === undefined) return record;
    const lay = (under: object | undefined, { fields }: Change) =>
      fields === null ? undefined : { ...under, ...fields };
    return changes.reduce(lay, record as object | undefined) as T | undefined;
  }

  private keep(key: string, isKept: (change: Change) => boolean): void {
    const kept = this.changes.get(key)?.filter(isKept) ?? [];
    if (kept.length > 0) this.changes.set(key, kept);
    else this.changes.delete(key);
  }
}
