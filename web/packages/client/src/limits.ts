// Every bound and pause of the client, with its unit.

/** The first wait after a connection was lost is uniform in [0, this]; it doubles with each failure. */
export const BACKOFF_BASE_MS = 250;
/** No wait of our own is longer. */
export const BACKOFF_CAP_MS = 10_000;
/** A `Retry-After` is obeyed up to here. */
export const RETRY_AFTER_CAP_MS = 60_000;
/** The process says something at least every 15 s; after so long a silence the connection is dead. */
export const SILENCE_MS = 40_000;
/** How long the stream stays open after the last subscriber has left: the next page mostly comes at once. */
export const STREAM_LINGER_MS = 1_000;
/** How long a store keeps what it has read after its last subscriber has left, so that a remount reads nothing anew. */
export const STORE_LINGER_MS = 250;
/** Between two readings of a whole list that keeps changing. */
export const RELIST_PAUSE_MS = 100;
/** Keys that one request may read. */
export const READ_KEYS = 1_000;
/** Records that one page of a list may have. */
export const LIST_ROWS = 10_000;
/** Characters of one event; more is not what a tidelock process sends. */
export const EVENT_CHARACTERS = 16 * 1024 * 1024;
