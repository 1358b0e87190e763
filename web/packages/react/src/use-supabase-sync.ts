// How syncing stands, and syncing now.

import { useMemo } from "react";
import type { SyncReport } from "@tidelock/client";
import { useTidelock } from "./provider.js";
import { syncViewOf, UNKNOWN, type SyncState } from "./sync-view.js";
import { useStore } from "./use-store.js";

export interface SupabaseSync extends SyncState {
  /** Runs a round and waits for its end; null where that could not be done, and `lastError` says why. */
  readonly sync: () => Promise<SyncReport | null>;
}

/** Renders again only when one of its fields changes. */
export function useSupabaseSync(): SupabaseSync {
  const view = syncViewOf(useTidelock());
  const state = useStore(view, UNKNOWN);
  return useMemo(() => ({ ...state, sync: view.sync }), [state, view]);
}
