-- Version 1. Times are wall-clock microseconds since 1970 UTC. seq: the change that last touched
-- the row; user_seq: the last change by a user, which wins over a dream that began before it.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('change_seq', 0), ('next_node', 1), ('next_edge', 1);

CREATE TABLE spaces (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- 0 and '' until the first vector came; then all vectors of the space are of this kind.
    dimension INTEGER NOT NULL DEFAULT 0,
    embedder TEXT NOT NULL DEFAULT '',
    -- Memories and edges that users changed since the space was made, counted once for each change.
    user_changes INTEGER NOT NULL DEFAULT 0,
    created_us INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    id INTEGER PRIMARY KEY,
    space INTEGER NOT NULL REFERENCES spaces (id),
    uid BLOB NOT NULL,
    key TEXT,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    aliases TEXT NOT NULL DEFAULT '[]',
    importance REAL NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0,
    metadata TEXT NOT NULL DEFAULT '{}',
    event_us INTEGER,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    accessed_us INTEGER,
    access_count INTEGER NOT NULL DEFAULT 0,
    replay_count INTEGER NOT NULL DEFAULT 0,
    deleted_us INTEGER,
    born_in INTEGER,
    seq INTEGER NOT NULL,
    user_seq INTEGER NOT NULL,
    UNIQUE (space, uid)
) STRICT;
CREATE UNIQUE INDEX nodes_key ON nodes (space, key) WHERE key IS NOT NULL;

-- What a memory said before each change: nothing is overwritten without a trace.
CREATE TABLE node_versions (
    node INTEGER NOT NULL REFERENCES nodes (id),
    seq INTEGER NOT NULL,
    replaced_us INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (node, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE vectors (
    node INTEGER PRIMARY KEY REFERENCES nodes (id),
    -- float16, little-endian, not normalised
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

CREATE TABLE edge_types (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE edges (
    id INTEGER PRIMARY KEY,
    space INTEGER NOT NULL REFERENCES spaces (id),
    source INTEGER NOT NULL REFERENCES nodes (id),
    target INTEGER NOT NULL REFERENCES nodes (id),
    type INTEGER NOT NULL REFERENCES edge_types (id),
    weight REAL NOT NULL,
    confidence REAL NOT NULL,
    origin INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    deleted_us INTEGER,
    -- The memory that took this edge along when it was forgotten.
    hidden_by INTEGER,
    changed_by INTEGER,
    born_in INTEGER,
    seq INTEGER NOT NULL,
    user_seq INTEGER NOT NULL,
    UNIQUE (source, target, type)
) STRICT;
CREATE INDEX edges_target ON edges (target);
CREATE INDEX edges_space ON edges (space, id);

-- A dream or an import: staged in parts, sealed in one step, folded in slices.
CREATE TABLE changes (
    id INTEGER PRIMARY KEY,
    uid BLOB NOT NULL UNIQUE,
    space INTEGER NOT NULL REFERENCES spaces (id),
    kind TEXT NOT NULL CHECK (kind IN ('dream', 'import')),
    state TEXT NOT NULL CHECK (state IN ('staging', 'sealed', 'folded', 'dropped', 'reverting', 'reverted')),
    base_seq INTEGER NOT NULL,
    -- The space's user_changes when it began.
    base_changes INTEGER NOT NULL,
    -- The generation of parts that was sealed, and the next part to fold.
    generation INTEGER NOT NULL DEFAULT 0,
    fold_cursor INTEGER NOT NULL DEFAULT 0,
    -- What made the vectors of an import.
    embedder TEXT NOT NULL DEFAULT 'client',
    created_us INTEGER NOT NULL,
    ended_us INTEGER,
    -- The change number at which it began to be taken back.
    reverted_seq INTEGER
) STRICT;

CREATE TABLE change_parts (
    change INTEGER NOT NULL REFERENCES changes (id),
    generation INTEGER NOT NULL,
    part INTEGER NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL,
    -- What the rows were before, and SHA-256 of it; set when the part is folded.
    before BLOB,
    reversal_hash BLOB,
    PRIMARY KEY (change, generation, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE dreams (
    change INTEGER PRIMARY KEY REFERENCES changes (id),
    state INTEGER NOT NULL,
    now_us INTEGER NOT NULL,
    -- dreamsvc.v1.Dream and dreamsvc.v1.DreamConfig
    body BLOB NOT NULL,
    config BLOB NOT NULL
) STRICT;

CREATE TABLE checkpoints (
    change INTEGER PRIMARY KEY REFERENCES changes (id),
    body BLOB NOT NULL,
    crc INTEGER NOT NULL,
    saved_us INTEGER NOT NULL
) STRICT;

-- First answers by request id.
CREATE TABLE requests (
    space TEXT NOT NULL,
    method TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    answer BLOB NOT NULL,
    expires_us INTEGER NOT NULL,
    PRIMARY KEY (space, method, request_id)
) STRICT, WITHOUT ROWID;

-- Append-only, each row chained to the one before by its hash.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    space INTEGER,
    detail TEXT NOT NULL,
    seq INTEGER NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
-- INSERT OR REPLACE deletes without the trigger above.
CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
