-- One row a record. What the app sees is `document`; NULL while a deletion made here is still to be sent.
-- `server_document` is what the server is believed to have. It is stored only while operations stand on the
-- record and the server has the row; at all other times it equals `document`. Large columns stand last, so
-- that the small ones are read without them.
CREATE TABLE tl_records (
  id              INTEGER PRIMARY KEY,
  collection      TEXT NOT NULL,
  key             TEXT NOT NULL,
  on_server       INTEGER NOT NULL,
  confirmed       INTEGER NOT NULL,
  has_operations  INTEGER NOT NULL,
  stamp           INTEGER NOT NULL,
  origin          TEXT NOT NULL,
  round           INTEGER,
  revision        INTEGER NOT NULL,
  version         TEXT,
  document        TEXT,
  server_document TEXT
) STRICT;

CREATE UNIQUE INDEX tl_records_place ON tl_records (collection, key);

-- The outbox. A sequence is never used again: the newest one is kept in `tl_counters`.
-- `state` is pending (to be sent), parked (set aside with its cause) or held (its record has an open conflict).
-- All stamps here are hybrid logical time: `datetime((stamp >> 16) / 1000, 'unixepoch')` is when it was made.
CREATE TABLE tl_operations (
  seq            INTEGER PRIMARY KEY,
  transaction_id INTEGER NOT NULL,
  record         INTEGER NOT NULL,
  collection     TEXT NOT NULL,
  key            TEXT NOT NULL,
  action         TEXT NOT NULL,
  stamp          INTEGER NOT NULL,
  state          TEXT NOT NULL,
  attempts       INTEGER NOT NULL DEFAULT 0,
  depends_on     INTEGER,
  cause          TEXT,
  patch          TEXT NOT NULL
) STRICT;

CREATE INDEX tl_operations_record ON tl_operations (record);
CREATE INDEX tl_operations_pending ON tl_operations (seq) WHERE state = 'pending';
CREATE INDEX tl_operations_set_aside ON tl_operations (seq) WHERE state <> 'pending';
CREATE INDEX tl_operations_depends_on ON tl_operations (depends_on) WHERE depends_on IS NOT NULL;

-- Versions that were replaced, each with who replaced it and when. The current version is the record itself.
CREATE TABLE tl_history (
  id          INTEGER PRIMARY KEY,
  collection  TEXT NOT NULL,
  key         TEXT NOT NULL,
  stamp       INTEGER NOT NULL,
  origin      TEXT NOT NULL,
  round       INTEGER,
  ended       INTEGER NOT NULL,
  ended_by    TEXT NOT NULL,
  ended_round INTEGER,
  version     TEXT,
  document    TEXT NOT NULL
) STRICT;

CREATE INDEX tl_history_place ON tl_history (collection, key);

-- Both sides of every conflict. NULL documents are absent rows. `winner` is local, remote or merged.
CREATE TABLE tl_conflicts (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  collection     TEXT NOT NULL,
  key            TEXT NOT NULL,
  base           TEXT,
  local          TEXT,
  remote         TEXT,
  remote_version TEXT,
  result         TEXT,
  winner         TEXT,
  strategy       TEXT NOT NULL,
  state          TEXT NOT NULL,
  round          INTEGER NOT NULL,
  detected       INTEGER NOT NULL,
  resolved       INTEGER
) STRICT;

CREATE UNIQUE INDEX tl_conflicts_open ON tl_conflicts (collection, key) WHERE state = 'open';

CREATE TABLE tl_checkpoints (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Who this store is: client_id, epoch, user.
CREATE TABLE tl_meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Exact numbers, written in the transaction that changes them, and the newest sequence and stamp used.
CREATE TABLE tl_counters (
  collection TEXT PRIMARY KEY,
  records    INTEGER NOT NULL DEFAULT 0,
  pending    INTEGER NOT NULL DEFAULT 0,
  parked     INTEGER NOT NULL DEFAULT 0,
  conflicts  INTEGER NOT NULL DEFAULT 0,
  on_server  INTEGER NOT NULL DEFAULT 0,
  sequence   INTEGER NOT NULL DEFAULT 0,
  stamp      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The columns of each collection's view.
CREATE TABLE tl_fields (
  collection TEXT NOT NULL,
  field      TEXT NOT NULL,
  PRIMARY KEY (collection, field)
) STRICT, WITHOUT ROWID;
