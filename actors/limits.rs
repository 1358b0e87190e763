//! Every bound in one place, with its unit. What a user may want to change is in the configuration instead.

use std::time::Duration;

/// Messages that wait in the storage actor's mailbox; senders beyond it wait.
pub const STORAGE_MAILBOX: usize = 1_024;
/// Messages that wait in any other actor's mailbox.
pub const ACTOR_MAILBOX: usize = 256;
/// Writes that share one commit.
pub const GROUP_WRITES: usize = 512;
/// Records in one local transaction.
pub const TRANSACTION_RECORDS: usize = 10_000;
/// Records that the answer to a rollback shows.
pub const ROLLBACK_SHOWN: usize = 20;
/// Rounds that one list returns.
pub const ROUNDS_LISTED: usize = 1_000;
/// Bytes of one document.
pub const DOCUMENT_BYTES: usize = 8 * 1024 * 1024;
/// Levels of a document that are compared by meaning, so that a comparison needs a bounded stack.
pub const COMPARED_DEPTH: usize = 256;
/// Bytes of a key.
pub const KEY_BYTES: usize = 512;
/// Bytes of operations in one batch.
pub const BATCH_BYTES: usize = 1024 * 1024;
/// Batches that may be on their way through the server kit at the same time.
pub const BATCHES_AT_ONCE: usize = 3;
/// Rows asked for in one page.
pub const PAGE_ROWS: usize = 1_000;
/// Bytes of a request line, so that no gateway refuses it.
pub const REQUEST_LINE_BYTES: usize = 4_000;
/// Times that a resolution is made anew because the record was edited meanwhile.
pub const RESOLUTION_TRIES: usize = 16;
/// Change notices kept for a slow watcher before it is told to read anew.
pub const WATCH_BACKLOG: usize = 1_024;
/// Records that one list may return.
pub const LIST_ROWS: usize = 10_000;
/// How far a clock may run ahead of the server's before it is clamped.
pub const CLOCK_AHEAD: Duration = Duration::from_secs(5 * 60);
/// How long one actor waits for another's answer.
pub const ASK_DEADLINE: Duration = Duration::from_secs(60);
/// How long a stopping part may take to drain.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How often a degraded part is tried again.
pub const DEGRADED_RETRY: Duration = Duration::from_secs(60);
/// How long local writes gather before they are sent.
pub const NUDGE_DELAY: Duration = Duration::from_millis(100);
/// How long refused credentials are left alone, unless new ones are given.
pub const UNAUTHORIZED_RETRY: Duration = Duration::from_secs(60);
/// A batch that takes longer than this keeps the next one from growing.
pub const QUICK_BATCH: Duration = Duration::from_secs(2);
/// Deep rounds that trust equal counts, before one lists all keys whatever the counts say.
pub const TRUSTED_COUNTS: u32 = 12;
/// The longest time that one request to the server, with all its parts, may take within a round.
pub const REMOTE_DEADLINE: Duration = Duration::from_secs(300);
/// Keys read from the server at once.
pub const FETCH_KEYS: usize = 500;
/// Rows that a bucket of an audit is to have, so that little is listed where one of them differs.
pub const BUCKET_ROWS: usize = 256;
/// Buckets of an audit at most: each is 16 bytes of an answer.
pub const AUDIT_BUCKETS: usize = 4_096;
/// Rows that are listed in one answer of an audit, roughly.
pub const AUDIT_ROWS: usize = 20_000;
/// Times that an audit looks at rows that the server is just changing, before it leaves them to the next one.
pub const AUDIT_LOOKS: usize = 4;
/// How long a periodic audit that was cut short is left alone.
pub const AUDIT_RETRY: Duration = Duration::from_secs(60 * 60);
/// The least time between two published statuses.
pub const STATUS_PAUSE: Duration = Duration::from_millis(100);
/// The least time between two looks at what waits to be sent, for the status.
pub const BACKLOG_PAUSE: Duration = Duration::from_secs(1);
/// How long opening a store waits for the first of these looks.
pub const BACKLOG_PATIENCE: Duration = Duration::from_millis(20);
/// Of the time, one part in so many may go into these looks.
pub const BACKLOG_SHARE: u32 = 50;
/// How often what was measured is put into its distributions, where nobody asks for them.
pub const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// How often history is pruned and the log truncated.
pub const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Connections that only read, for short reads; as many again are for long ones.
pub const READERS: usize = 2;
/// Reads that wait for a connection; more are refused.
pub const READS_WAITING: usize = 1_024;
/// How long one SQL query of the host's may run.
pub const QUERY_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes that the answer to one SQL query may have.
pub const QUERY_BYTES: usize = 64 * 1024 * 1024;
/// Columns of a collection's view; fields beyond them are kept, but have no column.
pub const VIEW_FIELDS: usize = 500;
/// Issues that one verification lists.
pub const VERIFY_ISSUES: usize = 100;
/// The longest `Retry-After` that is obeyed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// Bytes of one part of an upload; Supabase Storage takes no other parts but the last.
pub const UPLOAD_PART_BYTES: u64 = 6 * 1024 * 1024;
/// Bytes of a backup that is uploaded in one piece, where the server takes no parts; it is held in memory.
pub const PLAIN_UPLOAD_BYTES: u64 = 50 * 1024 * 1024;
/// Warnings, errors and API calls that wait in memory to be written to the log book; the oldest beyond it are shed.
pub const LOG_INTAKE_ROWS: usize = 2_048;
/// Bytes of the same.
pub const LOG_INTAKE_BYTES: usize = 2 * 1024 * 1024;
/// Less important entries that wait in memory; they stay on this device, and the oldest beyond it are forgotten.
pub const LOG_LOCAL_ROWS: usize = 512;
/// Bytes of the same.
pub const LOG_LOCAL_BYTES: usize = 1024 * 1024;
/// Bytes of one log entry; what is longer is cut.
pub const LOG_ENTRY_BYTES: usize = 16 * 1024;
/// Bytes of one text in a log entry.
pub const LOG_TEXT_BYTES: usize = 4 * 1024;
/// Bytes of one text that are looked at for secrets before it is cut.
pub const LOG_TEXT_READ: usize = 32 * 1024;
/// Fields of a log entry, and of each of its spans.
pub const LOG_FIELDS: usize = 32;
/// Spans of a log entry, the innermost ones.
pub const LOG_SPANS: usize = 8;
/// Levels of a value in a log entry.
pub const LOG_DEPTH: usize = 8;
/// How long identical warnings are folded into one.
pub const LOG_FOLD_WINDOW: Duration = Duration::from_secs(30);
/// Different warnings that are counted at the same time.
pub const LOG_FOLD_WINDOWS: usize = 512;
/// How long log entries gather before they are written.
pub const LOG_WRITE_PAUSE: Duration = Duration::from_secs(1);
/// The least time from one write of log entries to the next, whatever is in them.
pub const LOG_WRITE_LEAST: Duration = Duration::from_millis(100);
/// Entries in the log book that the server is still to have; the oldest beyond it are shed.
pub const LOG_PENDING_ROWS: usize = 10_000;
/// Bytes of the same.
pub const LOG_PENDING_BYTES: usize = 16 * 1024 * 1024;
/// Log entries in one request.
pub const LOG_BATCH_ROWS: usize = 200;
/// Bytes of the same.
pub const LOG_BATCH_BYTES: usize = 256 * 1024;
/// How long log entries gather before they are shipped.
pub const LOG_SHIP_PAUSE: Duration = Duration::from_secs(2);
/// How long shipping rests where the server has no such table, or does not let this user write to it.
pub const LOG_REFUSED_RETRY: Duration = Duration::from_secs(10 * 60);
/// How long the log book waits for somebody else who has its file locked.
pub const LOG_BOOK_BUSY: Duration = Duration::from_secs(5);
/// The least time from a failure of the log book's file until it is opened again; it goes on in memory meanwhile.
pub const LOG_BOOK_RETRY: Duration = Duration::from_secs(60);
/// Questions that wait for the log book; more are refused.
pub const LOG_BOOK_QUESTIONS: usize = 64;
/// Entries that the log book keeps at most, whatever is configured.
pub const LOG_HISTORY_MAX: usize = 10_000;
/// How long the doctor waits for one answer of the server, where `remote.timeout` is not shorter.
pub const DOCTOR_STEP: Duration = Duration::from_secs(10);
/// How long it looks at the server in all.
pub const DOCTOR_SERVER: Duration = Duration::from_secs(60);
/// How long it reads the store; a large one takes longer to read as a whole.
pub const DOCTOR_STORE: Duration = Duration::from_secs(50);
/// How long each other part of the store is waited for.
pub const DOCTOR_PART: Duration = Duration::from_secs(5);
/// How long a command waits for the doctor of a process, which looks at the store and then at the server.
pub const DOCTOR_ALL: Duration = Duration::from_secs(120);
/// Parked operations whose causes it tells, and operations and conflicts that a bundle names.
pub const DOCTOR_ROWS: usize = 100;
/// Bytes of one part of a bundle.
pub const BUNDLE_PART_BYTES: usize = 2 * 1024 * 1024;
