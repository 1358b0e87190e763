// A collection as the original system's hook shows it: live, with changes that show at once and are taken back where
// saving fails.

import { useCallback, useMemo } from "react";
import type { JsonObject } from "@tidelock/client";
import { newKey } from "./key.js";
import { LOADING } from "./loading.js";
import { useTidelock } from "./provider.js";
import { useStore } from "./use-store.js";
import { useWrites } from "./use-writes.js";

export interface ResilientDB<T> {
  /** All records, by key. One that has not changed is the same object as before. */
  readonly runs: readonly T[];
  /** The same array, for collections that are not called runs. */
  readonly records: readonly T[];
  /** Whether nothing was read yet. */
  readonly isLoading: boolean;
  /** Why the last write failed, or why the records may be out of date. */
  readonly error: Error | null;
  /** Creates a record, or lays its fields over the one there is; one without a key gets one. Whether it went well. */
  readonly saveRun: (record: Partial<T>) => Promise<boolean>;
  /** Deletes the record with this key. Whether it went well. */
  readonly deleteRun: (key: string) => Promise<boolean>;
  /** Reads everything anew; only needed where somebody wants to be sure. */
  readonly refresh: () => Promise<void>;
}

export interface ResilientDBOptions {
  /** The field that holds the key, as the collection is configured. */
  readonly keyField?: string;
}

export function useResilientDB<T extends object = JsonObject>(
  collection = "runs",
  { keyField = "id" }: ResilientDBOptions = {},
): ResilientDB<T> {
  const { live } = useTidelock();
  const store = useMemo(() => live.records<T>(collection), [live, collection]);
  const { records, isLoading, error: readError } = useStore(store, LOADING);
  const [writeError, attempt] = useWrites(store);
  const error = writeError ?? readError;
  const saveRun = useCallback(
    (record: Partial<T>) => {
      const key = (record as JsonObject)[keyField] ?? newKey();
      return attempt(() => store.save(String(key), { ...record, [keyField]: key }));
    },
    [attempt, store, keyField],
  );
  const deleteRun = useCallback((key: string) => attempt(() => store.delete(key)), [attempt, store]);
  const refresh = useCallback(() => store.refresh(), [store]);
  return useMemo(
    () => ({ runs: records, records, isLoading, error, saveRun, deleteRun, refresh }),
    [records, isLoading, error, saveRun, deleteRun, refresh],
  );
}
