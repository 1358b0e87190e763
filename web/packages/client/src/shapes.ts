// What travels between the process and a page, under the names that the rest of the package uses. It is made from the
// API's own document (`npm run types`).

import type { components } from "./schema.js";

type Schemas = components["schemas"];

/** Any JSON object: what a record holds. */
export type JsonObject = Schemas["Document"];

/** A snapshot of everything that a user or operator should know. Times are RFC 3339. */
export type Status = Schemas["Status"];
export type Phase = Schemas["Phase"];
export type CollectionStatus = Schemas["CollectionStatus"];
export type PartStatus = Schemas["PartStatus"];
export type SyncRequest = Schemas["SyncRequest"];
export type SyncReport = Schemas["SyncReport"];

export type Condition = Schemas["Condition"];
export type Operator = Schemas["Operator"];
export type Listed = Schemas["Listed"];
export type BulkSaved = Schemas["BulkSaved"];
/** One write of a transaction. */
export type TransactionOperation = Schemas["Change"];

export type QueuedOperation = Schemas["QueuedOperation"];
export type OperationState = Schemas["OperationState"];
export type Fault = Schemas["Fault"];
/** A record that changed on both sides; a document that is null is a row that was absent. */
export type ConflictView = Schemas["ConflictView"];
/** How a conflict is decided. */
export type Decision = Schemas["Decision"];

export type VersionView = Schemas["VersionView"];
export type Difference = Schemas["Difference"];
/** A field that means something else; absent where there was, or is, no such field. */
export type FieldChange = Schemas["FieldChange"];
export type RoundView = Schemas["RoundView"];
export type RollbackTarget = Schemas["RollbackTarget"];
export type RollbackReport = Schemas["RollbackReport"];
export type AuditReport = Schemas["AuditReport"];

export type BackupView = Schemas["BackupView"];
export type BackupInfo = Schemas["BackupInfo"];
export type BackupTrial = Schemas["BackupTrial"];
export type Exported = Schemas["Exported"];
export type Notice = Schemas["Notice"];
/** Which state is wanted: a backup's, or that of a moment. Nothing means the newest backup's. */
export type Point = Schemas["Point"];
export type RestoreRequest = Schemas["RestoreRequest"];
export type RestoreReport = Schemas["RestoreReport"];
export type RestoredCopy = Schemas["RestoredCopy"];

/** A log entry that is kept. */
export type Kept = Schemas["Kept"];
export type Severity = Schemas["Severity"];
export type Level = Schemas["Level"];
export type LoggedCall = Schemas["LoggedCall"];

export type Verified = Schemas["Verified"];
export type Stats = Schemas["Stats"];
export type ProblemDocument = Schemas["Problem"];

/** Whether everything is in place: what was looked at, how it is, and what to do next where it is not as it should be. */
export type Checkup = Schemas["Checkup"];
