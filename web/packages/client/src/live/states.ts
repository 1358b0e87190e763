// What live stores show.

/** A list of records. */
export interface RecordsState<T> {
  readonly keys: readonly string[];
  /** In the order of the keys, or of the query. One that has not changed is the same object as before. */
  readonly records: readonly T[];
  /** Whether nothing was read yet. */
  readonly isLoading: boolean;
  /** Why the list may be out of date; what can be tried again is. */
  readonly error: Error | null;
}

/** One record. */
export interface RecordState<T> {
  /** Undefined where there is none, or none was read yet. */
  readonly record: T | undefined;
  readonly isLoading: boolean;
  /** Why it could not be read. */
  readonly error: Error | null;
}
