-- Version 3: what REM phases know of memories, beside them: all of it can be dropped, and dreamed again.
-- dreamsvc.dreamer.v1.Expansion; change: the dream that it comes from.
CREATE TABLE expansions (
    node INTEGER PRIMARY KEY REFERENCES nodes (id),
    change INTEGER NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

-- Points in the Poincare ball: float32, little-endian. seq: the change at which a dream placed it; a memory that a
-- user changed since is placed anew.
CREATE TABLE positions (
    node INTEGER PRIMARY KEY REFERENCES nodes (id),
    change INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

-- state: dreamsvc.v1.BlindSpot.State. body: dreamsvc.dreamer.v1.FoundBlindSpot. change: the dream that found it.
CREATE TABLE blind_spots (
    id INTEGER PRIMARY KEY,
    uid BLOB NOT NULL UNIQUE,
    space INTEGER NOT NULL REFERENCES spaces (id),
    change INTEGER NOT NULL,
    source INTEGER NOT NULL REFERENCES nodes (id),
    target INTEGER NOT NULL REFERENCES nodes (id),
    state INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    user_seq INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX blind_spots_space ON blind_spots (space, id);
CREATE INDEX blind_spots_pair ON blind_spots (source, target);
CREATE INDEX blind_spots_target ON blind_spots (target);

-- Pairs that were of use together, source below target: how often recalls returned them together and how often a
-- caller said so. used_by: the dream that replayed them.
CREATE TABLE coactivations (
    space INTEGER NOT NULL REFERENCES spaces (id),
    source INTEGER NOT NULL REFERENCES nodes (id),
    target INTEGER NOT NULL REFERENCES nodes (id),
    recalled INTEGER NOT NULL DEFAULT 0,
    confirmed INTEGER NOT NULL DEFAULT 0,
    at_us INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    used_by INTEGER,
    PRIMARY KEY (space, source, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX coactivations_source ON coactivations (source);
CREATE INDEX coactivations_target ON coactivations (target);
