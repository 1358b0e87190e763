// Writes that take effect together or not at all. Nothing is sent before the function that collects them has ended.

import type { JsonObject, TransactionOperation } from "./shapes.js";

export class Transaction {
  private readonly collected: TransactionOperation[] = [];

  /** Creates the record, or lays the fields over it. Without a key the document's own counts, or a new one. */
  save(collection: string, document: object, key?: string): void {
    const fields = document as JsonObject;
    this.collected.push({ save: { collection, ...(key !== undefined && { key }), document: fields } });
  }

  delete(collection: string, key: string): void {
    this.collected.push({ delete: { collection, key } });
  }

  /** What was collected, in order. */
  get operations(): readonly TransactionOperation[] {
    return this.collected;
  }
}
