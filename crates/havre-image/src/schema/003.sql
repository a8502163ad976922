-- What is said of images: documents that lie beside them, as OCI's referrers, and go with them.
CREATE TABLE attestations (
    -- Digest of the image's manifest.
    subject  TEXT NOT NULL,
    -- Digest of the manifest that refers to it.
    manifest TEXT NOT NULL,
    -- Digest of the document.
    document TEXT NOT NULL,
    -- What kind of document it is (a media type).
    kind     TEXT NOT NULL,
    made_at  INTEGER NOT NULL,
    PRIMARY KEY (subject, manifest)
) STRICT, WITHOUT ROWID;
