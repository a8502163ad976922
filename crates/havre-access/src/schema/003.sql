-- Keys by which this machine signs what it says of jobs; the newest that holds signs.
CREATE TABLE access_issuer_keys (
    id         TEXT PRIMARY KEY,
    -- The public one: an uncompressed point of P-256.
    point      BLOB NOT NULL,
    -- PKCS #8, sealed.
    sealed     BLOB NOT NULL,
    -- Milliseconds since 1970.
    made_at    INTEGER NOT NULL,
    -- From when on it signs: those who keep what is published learn of it before.
    signs_from INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
