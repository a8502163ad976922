//! What people are shown of artifacts and caches.

/// A cache that is there. Times are milliseconds since 1970, sizes bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// To remove it by.
    pub id: i64,
    /// The ref that it was saved on.
    pub scope: String,
    /// What it is called.
    pub key: String,
    /// What the client makes of paths and compression.
    pub version: String,
    /// How large it is.
    pub size: u64,
    /// When it was saved.
    pub created_ms: i64,
    /// When it was last looked up.
    pub used_ms: i64,
}

/// An artifact that is there. Times are milliseconds since 1970, sizes bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its number, never given twice.
    pub id: i64,
    /// The job that made it.
    pub job: String,
    /// What it is called.
    pub name: String,
    /// What kind of file it is, e.g. `application/zip`.
    pub mime: String,
    /// How large it is.
    pub size: u64,
    /// `sha256:<hex>` of its bytes.
    pub digest: String,
    /// When it was finished.
    pub created_ms: i64,
    /// When it goes.
    pub expires_ms: i64,
}

/// A cache that went without being asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The ref that it was saved on.
    pub scope: String,
    /// What it was called.
    pub key: String,
    /// What the client made of paths and compression.
    pub version: String,
    /// How many bytes it had.
    pub size: u64,
    /// Why.
    pub why: Why,
}

/// Why a cache went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its repository has as many caches as it may.
    RepositoryQuota,
    /// All that is kept is as much as may be.
    TotalQuota,
    /// The disk has little left.
    DiskFull,
    /// The power failed before it was on disk, or its files are gone.
    Lost,
}

/// How much is kept. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How many artifacts there are.
    pub artifacts: u64,
    /// Their size.
    pub artifact_bytes: u64,
    /// How many caches there are.
    pub caches: u64,
    /// Their size.
    pub cache_bytes: u64,
    /// Of uploads that are not finished.
    pub pending_bytes: u64,
    /// Most bytes of all of them.
    pub most_bytes: u64,
}

impl Why {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::RepositoryQuota => "repository-quota",
            Self::TotalQuota => "total-quota",
            Self::DiskFull => "disk-full",
            Self::Lost => "lost",
        }
    }

    /// A word that a later version wrote is a loss of some kind.
    pub(crate) fn parse(word: &str) -> Self {
        [Self::RepositoryQuota, Self::TotalQuota, Self::DiskFull]
            .into_iter()
            .find(|why| why.word() == word)
            .unwrap_or(Self::Lost)
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RepositoryQuota => "its repository's caches were full",
            Self::TotalQuota => "the room for artifacts and caches was full",
            Self::DiskFull => "the disk was nearly full",
            Self::Lost => "its files were lost",
        })
    }
}
