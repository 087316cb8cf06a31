CREATE TABLE IF NOT EXISTS pictures (
    id INTEGER PRIMARY KEY,
    line TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL, -- what makes it this picture and no other: where it came from
    sha256 TEXT NOT NULL,
    file TEXT, -- below the station's folder; NULL once it was removed
    map TEXT,
    num_bytes INTEGER NOT NULL,
    received_at REAL NOT NULL,
    is_sampled INTEGER NOT NULL DEFAULT 0, -- drawn at random, whatever its score: a person looks at it
    num_crashes INTEGER NOT NULL DEFAULT 0, -- of the station while it was this picture's turn
    seq INTEGER UNIQUE, -- the order of verdicts; NULL: it waits for its verdict
    verdict TEXT CHECK (verdict IN ('good', 'review', 'defective', 'error')),
    score REAL,
    threshold REAL,
    threshold_source TEXT,
    width INTEGER,
    height INTEGER,
    regions TEXT,
    properties TEXT,
    error TEXT,
    model TEXT,
    judged_at REAL,
    seconds REAL,
    UNIQUE (line, key),
    CHECK ((seq IS NULL) = (verdict IS NULL)),
    -- SQLite stores NaN as NULL: no picture is good or defective by a score that is no number
    CHECK (verdict IS NULL OR verdict = 'error' OR score IS NOT NULL)
);
CREATE INDEX IF NOT EXISTS waiting_for_verdict ON pictures (id) WHERE seq IS NULL;
CREATE INDEX IF NOT EXISTS sampled ON pictures (id) WHERE is_sampled;
CREATE INDEX IF NOT EXISTS by_verdict ON pictures (verdict, seq);
CREATE INDEX IF NOT EXISTS by_line ON pictures (line, seq);
CREATE INDEX IF NOT EXISTS by_time ON pictures (judged_at, verdict, line);
CREATE INDEX IF NOT EXISTS stored ON pictures (id, num_bytes) WHERE file IS NOT NULL;

CREATE TABLE IF NOT EXISTS models (
    line TEXT NOT NULL,
    hash TEXT NOT NULL,
    facts TEXT NOT NULL,
    PRIMARY KEY (line, hash)
);

CREATE TABLE IF NOT EXISTS reviews (
    id INTEGER PRIMARY KEY,
    picture INTEGER NOT NULL REFERENCES pictures,
    label TEXT NOT NULL CHECK (label IN ('good', 'defective', 'cannot tell')),
    who TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS of_picture ON reviews (picture, who, id);
-- what a person said last
CREATE VIEW IF NOT EXISTS opinions AS
    SELECT picture, who, label, at FROM reviews
    WHERE id IN (SELECT max(id) FROM reviews GROUP BY picture, who);
-- what all people together say
CREATE VIEW IF NOT EXISTS labels AS
    SELECT picture, CASE WHEN count(DISTINCT label) = 1 THEN min(label) ELSE 'disputed' END AS label
    FROM opinions WHERE label != 'cannot tell' GROUP BY picture;

CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY,
    line TEXT,
    kind TEXT NOT NULL,
    who TEXT NOT NULL,
    at REAL NOT NULL,
    seq INTEGER NOT NULL, -- of the last verdict before it
    facts TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS sinks (
    name TEXT PRIMARY KEY,
    seq INTEGER NOT NULL -- of the last verdict that was delivered
);

CREATE TABLE IF NOT EXISTS tokens (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE,
    at REAL NOT NULL
);
