// A status as a process tells it when all is well.

import type { Status } from "@tidelock/client";

export function status(changes: Partial<Status> = {}): Status {
  return {
    phase: "idle",
    phase_reason: "everything is done until the next round",
    online: true,
    syncing: false,
    pending: 0,
    pending_bytes: 0,
    oldest_pending_at: null,
    parked: 0,
    conflicts: 0,
    last_synced_at: "2026-01-01T00:00:00Z",
    last_pushed_at: null,
    last_pulled_at: null,
    last_error: null,
    stalled_since: null,
    stalled_reason: null,
    next_round_at: null,
    next_round_reason: null,
    mode: "kit",
    server: { caught_up_at: null, open_transactions: null, oldest_open_transaction: null, oldest_open_seen_at: null },
    clock_offset_ms: null,
    session: { state: "anonymous", user: null, expires_at: null },
    last_backup_at: null,
    backup_error: null,
    backups_published_at: null,
    publish_error: null,
    storage: { bytes: 0, quota_bytes: null, state: "ok", disk_full: false },
    logger: { pending: 0, shed: 0, folded: 0, refused: 0, last_shipped_at: null, last_error: null },
    collections: {},
    parts: {},
    ...changes,
  };
}
