// Backups: which there are, taking, trying, exporting and restoring them. Paths are of the process's machine.

import type { Caller } from "./caller.js";
import type {
  BackupInfo,
  BackupTrial,
  BackupView,
  Exported,
  Notice,
  Point,
  RestoreReport,
  RestoreRequest,
  RestoredCopy,
} from "./shapes.js";
import type { RequestOptions } from "./transport.js";

export class Backups {
  constructor(private readonly caller: Caller) {}

  /** The newest first. */
  list(options?: RequestOptions): Promise<BackupView[]> {
    return this.caller.ask("GET", ["backups"], { ...options });
  }

  /** The newest one, and how much all of them take. */
  info(options?: RequestOptions): Promise<BackupInfo> {
    return this.caller.ask("GET", ["backups", "info"], { ...options });
  }

  /** What the server was told of the backups of all of the user's devices. */
  everywhere(options?: RequestOptions): Promise<Notice[]> {
    return this.caller.ask("GET", ["backups", "everywhere"], { ...options });
  }

  /** Takes one now. */
  create(options?: RequestOptions): Promise<BackupView> {
    return this.caller.ask("POST", ["backups"], { ...options });
  }

  /** Restores one into a file beside and checks that; without a name the newest. */
  verify(backup?: string, options?: RequestOptions): Promise<BackupTrial> {
    return this.caller.ask("POST", ["backups", "verify"], { body: { backup }, ...options });
  }

  /** Writes one file that needs no other; without a point the newest backup's state. */
  exportTo(to: string, point?: Point, options?: RequestOptions): Promise<Exported> {
    return this.caller.ask("POST", ["backups", "export"], { body: { point, to }, ...options });
  }

  /** The same with one that lies in Supabase Storage. */
  fetch(to: string, backup?: string, options?: RequestOptions): Promise<Exported> {
    return this.caller.ask("POST", ["backups", "fetch"], { body: { backup, to }, ...options });
  }

  /** Restores into the running store. */
  restore(request: RestoreRequest, options?: RequestOptions): Promise<RestoreReport> {
    return this.caller.ask("POST", ["backups", "restore"], { body: request, ...options });
  }

  /** Makes a store in a folder that has none yet. */
  restoreCopy(to: string, point?: Point, options?: RequestOptions): Promise<RestoredCopy> {
    return this.caller.ask("POST", ["backups", "restore-copy"], { body: { point, to }, ...options });
  }
}
