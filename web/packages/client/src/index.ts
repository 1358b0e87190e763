// The public face of the package.

export { Backups } from "./backups.js";
export { Collection, type ListQuery, type Page } from "./collection.js";
export { Conflicts } from "./conflicts.js";
export { ConnectionError, ProblemError } from "./errors.js";
export { EventParser } from "./event-parser.js";
export { HttpTransport, type HttpOptions } from "./http.js";
export type { LiveList } from "./live/list.js";
export type { Live } from "./live/live.js";
export type { LiveRecords } from "./live/records.js";
export type { RecordsState, RecordState } from "./live/states.js";
export type { Store } from "./live/store.js";
export type { LiveState } from "./live/stream.js";
export { Logs, type LogQuery } from "./logs.js";
export { Queue, type QueueFilter } from "./queue.js";
export type { Source } from "./remembered.js";
export type * from "./shapes.js";
export { connect, Tidelock } from "./tidelock.js";
export type { Transaction } from "./transaction.js";
export type { Answer, EventsOptions, Method, RequestOptions, ServerSentEvent, Transport } from "./transport.js";
