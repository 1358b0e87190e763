-- Whether older versions of the same record were forgotten because it had too many: what it was before is not known.
ALTER TABLE tl_history ADD COLUMN follows_forgotten INTEGER NOT NULL DEFAULT 0;

-- What a round changed is found without reading everything.
CREATE INDEX tl_history_round ON tl_history (round) WHERE round IS NOT NULL;
CREATE INDEX tl_history_ended_round ON tl_history (ended_round) WHERE ended_round IS NOT NULL;

-- No version that was alive at this stamp or later was forgotten for its age. What an earlier build forgot is not known.
INSERT INTO tl_meta (name, value)
SELECT 'history_known_since', CAST(max(stamp) AS TEXT) FROM tl_counters HAVING max(stamp) > 0;
