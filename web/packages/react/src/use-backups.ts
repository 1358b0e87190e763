// Backups: which there are, and taking one.

import { useCallback, useMemo } from "react";
import type { BackupView } from "@tidelock/client";
import { LOADING } from "./loading.js";
import { useTidelock } from "./provider.js";
import { useStore } from "./use-store.js";
import { useWrites } from "./use-writes.js";

export interface BackupList {
  /** The newest first. */
  readonly backups: readonly BackupView[];
  readonly isLoading: boolean;
  /** Why the last backup failed, or why the list may be out of date. */
  readonly error: Error | null;
  /** Takes one now. Whether it went well. */
  readonly createBackup: () => Promise<boolean>;
  readonly refresh: () => Promise<void>;
}

export function useBackups(): BackupList {
  const { live, backups: archive } = useTidelock();
  const store = live.backups;
  const { records: backups, isLoading, error: readError } = useStore(store, LOADING);
  const [writeError, attempt] = useWrites(store);
  const error = writeError ?? readError;
  const refresh = useCallback(() => store.refresh(), [store]);
  const createBackup = useCallback(async () => {
    const isDone = await attempt(() => archive.create());
    await refresh();
    return isDone;
  }, [attempt, archive, refresh]);
  return useMemo(
    () => ({ backups, isLoading, error, createBackup, refresh }),
    [backups, isLoading, error, createBackup, refresh],
  );
}
