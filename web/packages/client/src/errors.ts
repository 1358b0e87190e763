// What can go wrong: the process refused, or it could not be asked.

import type { Answer } from "./transport.js";
import type { ProblemDocument } from "./shapes.js";

/** The process answered, and the answer was no. */
export class ProblemError extends Error {
  override readonly name = "ProblemError";

  constructor(
    /** A stable name, such as `unknown_collection` or `quota_exceeded`. */
    readonly code: string,
    /** The HTTP status. */
    readonly status: number,
    /** What went wrong and what to do, in one line. */
    readonly detail: string,
    /** How long to wait before asking again, where the process said so. */
    readonly retryAfterMs?: number,
  ) {
    super(detail);
  }
}

/** The process could not be asked, or its answer did not arrive: what was asked may have been done. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
}

/** The error of an answer that is not good. */
export function problem(answer: Answer): ProblemError {
  const document = answer.body as Partial<ProblemDocument> | null | undefined;
  const isProblem = typeof document === "object" && document !== null && typeof document.code === "string";
  const code = isProblem ? String(document.code) : "unknown";
  const detail = isProblem ? String(document.detail) : `the process answered with status ${answer.status}`;
  return new ProblemError(code, answer.status, detail, answer.retryAfterMs);
}

/** Whether the same request may go through later. */
export function isTransient(error: unknown): boolean {
  if (error instanceof ProblemError) {
    return error.status >= 500 || error.status === 401 || error.status === 429;
  }
  return error instanceof ConnectionError;
}

/** An error whatever was thrown. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new ConnectionError(String(thrown));
}
