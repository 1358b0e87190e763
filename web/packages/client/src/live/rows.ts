// Records in the order of their keys, kept so that whatever has not changed stays the same object: each record, and the
// list itself.

import { compareKeys, isSame } from "./same.js";

/** What a list shows. */
export interface Shown<T> {
  readonly keys: readonly string[];
  readonly records: readonly T[];
}

export class Rows<T extends object> {
  private readonly byKey = new Map<string, T>();
  private shown: Shown<T> | undefined = { keys: [], records: [] };
  private keys: readonly string[] = [];
  private areKeysOld = false;

  get(key: string): T | undefined {
    return this.byKey.get(key);
  }

  /** Puts the record there, or takes it away. Whether that changed anything. */
  set(key: string, record: T | undefined): boolean {
    const before = this.byKey.get(key);
    if (isSame(before, record)) return false;
    if (record === undefined) this.byKey.delete(key);
    else this.byKey.set(key, record);
    this.areKeysOld ||= before === undefined || record === undefined;
    this.shown = undefined;
    return true;
  }

  allKeys(): string[] {
    return [...this.byKey.keys()];
  }

  clear(): void {
    this.byKey.clear();
    this.areKeysOld = true;
    this.shown = undefined;
  }

  /** All of them, in order. */
  list(): Shown<T> {
    if (this.areKeysOld) this.keys = this.sorted();
    this.areKeysOld = false;
    this.shown ??= { keys: this.keys, records: this.keys.flatMap((key) => this.byKey.get(key) ?? []) };
    return this.shown;
  }

  /** Few keys are new as a rule, so these alone are sorted and then merged with the others. */
  private sorted(): string[] {
    const old = this.keys.filter((key) => this.byKey.has(key));
    const known = new Set(old);
    const added = this.allKeys()
      .filter((key) => !known.has(key))
      .sort(compareKeys);
    const merged: string[] = [];
    let next = 0;
    for (const key of old) {
      for (let candidate = added[next]; candidate !== undefined && compareKeys(candidate, key) < 0;) {
        merged.push(candidate);
        next += 1;
        candidate = added[next];
      }
      merged.push(key);
    }
    return [...merged, ...added.slice(next)];
  }
}
