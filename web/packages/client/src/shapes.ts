// What travels between the process and a page. This is the one file that knows how the API writes things down; every
// other file uses these names.

/** Any JSON object: what a record holds. */
export type JsonObject = { [field: string]: unknown };

export type Phase = "idle" | "syncing" | "offline" | "paused" | "needs_auth" | "degraded" | "failed";

export interface CollectionStatus {
  records: number;
  pending: number;
  pending_bytes: number;
  oldest_pending_at: string | null;
  parked: number;
  conflicts: number;
  last_pushed_at: string | null;
  last_pulled_at: string | null;
  paused: string | null;
}

export interface PartStatus {
  state: string;
  restarts: number;
  cause: string | null;
}

/** A snapshot of everything that a user or operator should know. Times are RFC 3339. */
export interface Status {
  phase: Phase;
  phase_reason: string;
  online: boolean;
  syncing: boolean;
  pending: number;
  pending_bytes: number;
  oldest_pending_at: string | null;
  parked: number;
  conflicts: number;
  last_synced_at: string | null;
  last_pushed_at: string | null;
  last_pulled_at: string | null;
  last_error: string | null;
  stalled_since: string | null;
  stalled_reason: string | null;
  next_round_at: string | null;
  next_round_reason: "changes" | "interval" | "retry" | null;
  mode: string;
  server: {
    caught_up_at: string | null;
    open_transactions: number | null;
    oldest_open_transaction: number | null;
    oldest_open_seen_at: string | null;
  };
  clock_offset_ms: number | null;
  session: { state: "anonymous" | "signed_in" | "needs_auth"; user: string | null; expires_at: string | null };
  last_backup_at: string | null;
  backup_error: string | null;
  backups_published_at: string | null;
  publish_error: string | null;
  storage: { bytes: number; quota_bytes: number | null; state: "ok" | "near" | "full" };
  logger: {
    pending: number;
    shed: number;
    folded: number;
    refused: number;
    last_shipped_at: string | null;
    last_error: string | null;
  };
  collections: { [name: string]: CollectionStatus };
  parts: { [name: string]: PartStatus };
}

export interface SyncRequest {
  push: boolean;
  pull: boolean;
  accept_server?: boolean;
}

export interface SyncReport {
  pushed: number;
  pulled: number;
  failed: number;
  parked: number;
  conflicts: number;
  requests: number;
  paused: { [collection: string]: string };
}

export type Operator = "=" | "!=" | "<" | "<=" | ">" | ">=" | "like" | "in" | "is null" | "is not null";

export interface Condition {
  field: string;
  operator: Operator;
  value?: unknown;
}

/** A page of a list: keys and documents, in order. */
export interface Listed {
  rows: [string, JsonObject][];
  next: string | null;
}

export interface BulkSaved {
  changed: number;
  ids: string[];
}

/** One write of a transaction. */
export type TransactionOperation =
  | { save: { collection: string; key?: string; document: JsonObject } }
  | { delete: { collection: string; key: string } };

/** Why the server did not take an operation. */
export interface Fault {
  kind: string;
  status: number | null;
  code: string | null;
  message: string;
}

export type OperationState = "pending" | "parked" | "held";

export interface QueuedOperation {
  id: number;
  collection: string;
  key: string;
  action: "create" | "update" | "delete";
  state: OperationState;
  attempts: number;
  payload: JsonObject;
  cause: Fault | null;
  depends_on: number | null;
  created_at: string;
}

/** A record that changed on both sides; a document that is null is a row that was absent. */
export interface ConflictView {
  id: number;
  collection: string;
  key: string;
  base: JsonObject | null;
  local: JsonObject | null;
  remote: JsonObject | null;
  result: JsonObject | null;
  winner: string | null;
  strategy: string;
  state: "open" | "resolved" | "undone";
  detected_at: string;
  resolved_at: string | null;
  cause: Fault;
}

/** How a conflict is decided. */
export type Decision = { take: "local" | "remote" } | { merged: JsonObject };

export interface VersionView {
  id: number;
  document: JsonObject;
  version: string | null;
  origin: string;
  since: string;
  until: string;
  replaced_by: string;
  round: number | null;
  replaced_in_round: number | null;
}

/** A field that means something else; absent where there was, or is, no such field. */
export interface FieldChange {
  field: string;
  before?: unknown;
  after?: unknown;
}

export interface Difference {
  collection: string;
  key: string;
  from: number | null;
  to: number | null;
  fields: FieldChange[];
}

export interface RoundView {
  number: number;
  kind: "sync" | "rollback";
  at: string;
  records: number;
}

export type RollbackTarget =
  | { version: { collection: string; key: string; version: number } }
  | { record: { collection: string; key: string; to: string } }
  | { round: { number: number; collections?: string[]; force?: boolean } }
  | { collections: { names: string[]; to: string } };

export interface RollbackReport {
  number: number | null;
  dry_run: boolean;
  changed: number;
  unknown: number;
  changed_since: number;
  skipped: number;
  records: { collection: string; key: string; change: "made" | "changed" | "deleted"; fields: FieldChange[] }[];
  left: { collection: string; key: string; why: "unknown" | "changed_since" | "skipped" }[];
}

export interface BackupView {
  id: string;
  path: string;
  kind: "full" | "log";
  reason: string;
  timestamp: string;
  age_seconds: number;
  bytes: number;
  records: number;
  pending: number;
  client_id: string;
  base: string;
  encrypted: boolean;
  verified: boolean;
  verified_at: string | null;
}

export interface BackupInfo {
  exists: boolean;
  id: string | null;
  path: string | null;
  timestamp: string | null;
  age_seconds: number | null;
  bytes: number | null;
  verified: boolean;
  count: number;
  total_bytes: number;
  damaged: string[];
}

/** Which state is wanted: a backup's, or that of a moment. Nothing means the newest backup. */
export type Point = { backup: string } | { at: string };

export interface BackupTrial {
  id: string;
  healthy: boolean;
  issues: string[];
}

export interface Exported {
  path: string;
  id: string;
  records: number;
}

export interface Notice {
  place: string;
  id: string;
  device: string;
  path: string;
  kind: "full" | "log";
  reason: string;
  timestamp: string;
  bytes: number;
  records: number;
  pending: number;
  client_id: string;
  encrypted: boolean;
  digest: string;
  after: string | null;
  verified_at: string | null;
  object: string | null;
}

export interface RestoreRequest {
  point?: Point;
  mode: "replica" | "authority" | "merge";
  dry_run?: boolean;
}

export interface AuditReport {
  equal: boolean;
  missing: number;
  extra: number;
  different: number;
  repaired: number;
  collections: { [name: string]: { [finding: string]: unknown } };
  paused: { [name: string]: string };
}

export interface RestoreReport {
  id: string;
  timestamp: string;
  mode: RestoreRequest["mode"];
  restored: RollbackReport;
  before: string | null;
  audit: AuditReport | null;
  server_error: string | null;
}

export interface RestoredCopy {
  path: string;
  id: string;
  timestamp: string;
  records: number;
  pending: number;
}

export type Severity = "error" | "warn" | "info" | "debug" | "trace";

/** A log entry that is kept. */
export interface Kept {
  number: number;
  pending: boolean;
  id: string;
  at: string;
  last_at: string;
  level: Severity;
  target: string;
  message: string;
  fields?: JsonObject;
  spans?: { name: string; fields?: JsonObject }[];
  count: number;
  call?: { provider: string; action: string; credits: number; metadata: unknown };
}

export interface LoggedCall {
  provider: string;
  action: string;
  credits?: number;
  metadata?: unknown;
}

export interface Verified {
  healthy: boolean;
  issues: string[];
}

export interface Stats {
  records: number;
  bytes: number;
  quota_bytes: number | null;
  quota_state: "ok" | "near" | "full";
  free_bytes: number;
  pending: number;
  parked: number;
  conflicts: number;
  history: number;
  collections: { [name: string]: unknown };
  sizes: { [part: string]: unknown };
}

export interface Examination {
  healthy: boolean;
  checks: { check: string; state: string; found: string; next: string | null }[];
}

export interface ProblemDocument {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  exit: number;
}
