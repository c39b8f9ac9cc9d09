-- Version 2: memories that stand for others. role: dreamsvc.v1.MemoryRole. changed_by: the dream that last changed
-- what a memory is or stands for. apart: dreams do not merge it. purged: its content is gone.
ALTER TABLE nodes ADD COLUMN role INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN merged_into INTEGER REFERENCES nodes (id);
ALTER TABLE nodes ADD COLUMN changed_by INTEGER;
ALTER TABLE nodes ADD COLUMN event_end_us INTEGER;
ALTER TABLE nodes ADD COLUMN apart INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN purged INTEGER NOT NULL DEFAULT 0;
-- Holds the row ids of a space in their order: pages of a space are read by it.
CREATE INDEX nodes_space ON nodes (space);
CREATE INDEX nodes_merged ON nodes (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX nodes_deleted ON nodes (deleted_us) WHERE deleted_us IS NOT NULL AND purged = 0;

-- Centroids of containers (8 bits) and codes of facets against them; crc over scale and body.
CREATE TABLE packed_vectors (
    node INTEGER PRIMARY KEY REFERENCES nodes (id),
    bits INTEGER NOT NULL CHECK (bits IN (1, 2, 4, 8)),
    scale REAL NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

-- dreamsvc.dreamer.v1.EdgeDetail
ALTER TABLE edges ADD COLUMN detail BLOB;

-- When the journal and the images from before were let go; the change cannot be taken back any more.
ALTER TABLE changes ADD COLUMN purged_us INTEGER;
