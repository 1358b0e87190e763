// The public face of the package.

export { TidelockProvider, useTidelock, type TidelockProviderProps } from "./provider.js";
export type { SyncState } from "./sync-view.js";
export { useBackups, type BackupList } from "./use-backups.js";
export { useConflicts, type OpenConflicts } from "./use-conflicts.js";
export { useRecord } from "./use-record.js";
export { useResilientDB, type ResilientDB, type ResilientDBOptions } from "./use-resilient-db.js";
export { useSupabaseSync, type SupabaseSync } from "./use-supabase-sync.js";
