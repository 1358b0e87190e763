// The one entry point: what a page or a host does with a tidelock process.

import { Backups } from "./backups.js";
import { Caller } from "./caller.js";
import { Collection } from "./collection.js";
import { Conflicts } from "./conflicts.js";
import { HttpTransport, type HttpOptions } from "./http.js";
import { Live } from "./live/live.js";
import { Logs } from "./logs.js";
import { Queue } from "./queue.js";
import type {
  AuditReport,
  BulkSaved,
  Checkup,
  JsonObject,
  RollbackReport,
  RollbackTarget,
  RoundView,
  Stats,
  Status,
  SyncReport,
  SyncRequest,
  Verified,
} from "./shapes.js";
import { Transaction } from "./transaction.js";
import type { RequestOptions, Transport } from "./transport.js";

export class Tidelock {
  /** What changes by itself: status, records and queries that tell whenever they do. */
  readonly live: Live;
  readonly queue: Queue;
  readonly conflicts: Conflicts;
  readonly backups: Backups;
  readonly logs: Logs;
  private readonly caller: Caller;

  constructor(transport: Transport) {
    this.caller = new Caller(transport);
    this.live = new Live(this.caller);
    this.queue = new Queue(this.caller);
    this.conflicts = new Conflicts(this.caller);
    this.backups = new Backups(this.caller);
    this.logs = new Logs(this.caller);
  }

  collection<T extends object = JsonObject>(name: string): Collection<T> {
    return new Collection<T>(this.caller, name);
  }

  /** What the function collects is written together or not at all, once it has ended. */
  async transaction(
    collect: (transaction: Transaction) => void | Promise<void>,
    options?: RequestOptions,
  ): Promise<BulkSaved> {
    const transaction = new Transaction();
    await collect(transaction);
    const body = { operations: transaction.operations };
    return this.caller.ask("POST", ["transaction"], { body, ...options });
  }

  /** Runs a round and waits for its end. To give up waiting does not stop it. */
  sync(request: Partial<SyncRequest> = {}, options?: RequestOptions): Promise<SyncReport> {
    return this.caller.ask("POST", ["sync"], { body: { push: true, pull: true, ...request }, ...options });
  }

  status(options?: RequestOptions): Promise<Status> {
    return this.caller.ask("GET", ["status"], { ...options });
  }

  /** Read-only SQL; each collection is a view. */
  query<Row extends object = JsonObject>(
    sql: string,
    parameters: readonly unknown[] = [],
    options?: RequestOptions,
  ): Promise<Row[]> {
    return this.caller.ask("POST", ["query"], { body: { sql, parameters }, ...options });
  }

  /** The rounds and rollbacks that changed records here, the newest first. */
  rounds(options?: RequestOptions): Promise<RoundView[]> {
    return this.caller.ask("GET", ["rounds"], { ...options });
  }

  /** Makes records again what they were; `dryRun` only says what it would do. */
  rollback(target: RollbackTarget, options: RequestOptions & { dryRun?: boolean } = {}): Promise<RollbackReport> {
    const { dryRun = false, signal } = options;
    return this.caller.ask("POST", ["rollback"], { body: { target, dry_run: dryRun }, signal });
  }

  /** Compares what came from the server with what it has; no collections means all. */
  audit(options: RequestOptions & { repair?: boolean; collections?: readonly string[] } = {}): Promise<AuditReport> {
    const { repair = false, collections = [], signal } = options;
    return this.caller.ask("POST", ["audit"], { body: { repair, collections }, signal });
  }

  /** Checks the store against itself. */
  verify(options?: RequestOptions): Promise<Verified> {
    return this.caller.ask("GET", ["verify"], { ...options });
  }

  /** Sizes and counts; `exact` reads everything for exact sizes. */
  stats(options: RequestOptions & { exact?: boolean } = {}): Promise<Stats> {
    const { exact = false, signal } = options;
    return this.caller.ask("GET", ["stats"], { parameters: { exact }, signal });
  }

  /** Whether everything is in place, and what to do where it is not. */
  doctor(options?: RequestOptions): Promise<Checkup> {
    return this.caller.ask("GET", ["doctor"], { ...options });
  }
}

/** A client of the process at this address, or over a transport of the host's own. */
export function connect(to: HttpOptions | { readonly transport: Transport }): Tidelock {
  return new Tidelock("transport" in to ? to.transport : new HttpTransport(to));
}
