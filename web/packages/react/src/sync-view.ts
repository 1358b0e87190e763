// What the status says, as the original system's hook shows it. Nothing is shown that is not known: while the process
// cannot be reached, counts are null rather than what they last were, or zero.

import type { Store, SyncReport, Tidelock } from "@tidelock/client";

export interface SyncState {
  /** Whether both the process and, as far as that knows, the server can be reached. */
  readonly isOnline: boolean;
  /** Whether a round runs. */
  readonly isSyncing: boolean;
  /** Operations that are to be sent; null while that is not known. */
  readonly pendingCount: number | null;
  /** Operations that were set aside with their cause; null while that is not known. */
  readonly failedCount: number | null;
  /** Conflicts that wait for a decision; null while that is not known. */
  readonly conflictCount: number | null;
  /** When the last round ended well, as far as that is known. */
  readonly lastSyncedAt: Date | null;
  /** What went wrong last: the process cannot be reached, a round that was asked for failed, or the server's word. */
  readonly lastError: string | null;
}

export const UNKNOWN: SyncState = {
  isOnline: false,
  isSyncing: false,
  pendingCount: null,
  failedCount: null,
  conflictCount: null,
  lastSyncedAt: null,
  lastError: null,
};

/** One a client, so that what one component asked for shows in all. */
export class SyncView implements Store<SyncState> {
  private state = UNKNOWN;
  private readonly listeners = new Set<() => void>();
  /** Why the last round that was asked for failed; until a later one ends well. */
  private failed: { error: string; lastSyncedAt: string | null } | null = null;

  constructor(private readonly client: Tidelock) {}

  subscribe(listener: () => void): () => void {
    const own = () => listener();
    this.listeners.add(own);
    const leave = this.client.live.subscribe(own);
    return () => {
      this.listeners.delete(own);
      leave();
    };
  }

  /** The same object until one of its fields changes. */
  getSnapshot(): SyncState {
    const next = this.look();
    const names = Object.keys(next) as (keyof SyncState)[];
    const isSame = names.every((name) => comparable(next[name]) === comparable(this.state[name]));
    if (!isSame) this.state = next;
    return this.state;
  }

  /** Runs a round; null where that could not be done, and `lastError` says why. */
  readonly sync = async (): Promise<SyncReport | null> => {
    try {
      const report = await this.client.sync();
      this.fail(null);
      return report;
    } catch (thrown) {
      this.fail(thrown instanceof Error ? thrown.message : String(thrown));
      return null;
    }
  };

  private fail(error: string | null): void {
    const lastSyncedAt = this.client.live.getSnapshot().status?.last_synced_at ?? null;
    this.failed = error === null ? null : { error, lastSyncedAt };
    for (const listener of [...this.listeners]) listener();
  }

  private look(): SyncState {
    const { status, error } = this.client.live.getSnapshot();
    if (status === null)
      return { ...UNKNOWN, lastError: error === null ? null : `no connection to tidelock: ${error.message}` };
    const failed = this.failed?.lastSyncedAt === status.last_synced_at ? this.failed.error : null;
    return {
      isOnline: status.online,
      isSyncing: status.syncing,
      pendingCount: status.pending,
      failedCount: status.parked,
      conflictCount: status.conflicts,
      lastSyncedAt: status.last_synced_at === null ? null : new Date(status.last_synced_at),
      lastError: failed ?? status.last_error ?? (status.online ? null : status.phase_reason),
    };
  }
}

/** Two dates of the same moment are two objects. */
function comparable(value: SyncState[keyof SyncState]): unknown {
  return value instanceof Date ? value.getTime() : value;
}

const views = /* @__PURE__ */ new WeakMap<Tidelock, SyncView>();

export function syncViewOf(client: Tidelock): SyncView {
  const view = views.get(client) ?? new SyncView(client);
  views.set(client, view);
  return view;
}
