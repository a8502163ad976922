-- Who made the release, why, and what became of it (JSON of the release crate).
ALTER TABLE releases ADD COLUMN record TEXT NOT NULL DEFAULT '{}';
