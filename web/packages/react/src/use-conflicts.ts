// Conflicts that wait for a decision, and deciding them.

import { useCallback, useMemo } from "react";
import type { ConflictView, Decision } from "@tidelock/client";
import { LOADING } from "./loading.js";
import { useTidelock } from "./provider.js";
import { useStore } from "./use-store.js";
import { useWrites } from "./use-writes.js";

export interface OpenConflicts {
  /** The newest first. */
  readonly conflicts: readonly ConflictView[];
  readonly isLoading: boolean;
  /** Why the last decision failed, or why the list may be out of date. */
  readonly error: Error | null;
  /** Decides one: `{ take: "local" }`, `{ take: "remote" }` or `{ merged: document }`. Whether it went well. */
  readonly resolve: (id: number, decision: Decision) => Promise<boolean>;
  /** Takes a decision back. Whether it went well. */
  readonly undo: (id: number) => Promise<boolean>;
  readonly refresh: () => Promise<void>;
}

export function useConflicts(): OpenConflicts {
  const { live, conflicts: review } = useTidelock();
  const store = live.conflicts;
  const { records: conflicts, isLoading, error: readError } = useStore(store, LOADING);
  const [writeError, attempt] = useWrites(store);
  const error = writeError ?? readError;
  const refresh = useCallback(() => store.refresh(), [store]);
  const decide = useCallback(
    async (step: () => Promise<void>) => {
      const isDone = await attempt(step);
      await refresh();
      return isDone;
    },
    [attempt, refresh],
  );
  const resolve = useCallback(
    (id: number, decision: Decision) => decide(() => review.resolve(id, decision)),
    [decide, review],
  );
  const undo = useCallback((id: number) => decide(() => review.undo(id)), [decide, review]);
  return useMemo(
    () => ({ conflicts, isLoading, error, resolve, undo, refresh }),
    [conflicts, isLoading, error, resolve, undo, refresh],
  );
}
