//! Certificates as the edge gets them: what is in the files, read again when the files change.
//!
//! A renewal may be half done (a chain that its key does not fit yet) or broken: what served before
//! serves on until the files can be used again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use havre_acme::{Facts, Moment};
use havre_base::read_small;
use havre_edge::{Certificate, CertificateError, PrivateKey};

use crate::tls::CertificateFiles;

/// Far more than any chain.
const MAX_BYTES: u64 = 1024 * 1024;

/// A certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: PrivateKey,
}

/// What is served, and what a person should know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// `None` where the files have not been usable since the daemon started.
    pub(crate) pair: Option<Pair>,
    pub(crate) findings: Vec<String>,
}

/// What is known of files.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    known: Mutex<BTreeMap<CertificateFiles, Known>>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    marks: Option<[Mark; 2]>,
    pair: Pair,
    facts: Option<Facts>,
    /// Of the newest files, which are not the pair's.
    unusable: Option<String>,
}

/// Tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("cannot read {}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} and {} cannot be used", .chain.display(), .key.display())]
    Pair {
        chain: PathBuf,
        key: PathBuf,
        source: CertificateError,
    },
    #[error("cannot read the certificate in {}", .path.display())]
    Certificate {
        path: PathBuf,
        source: havre_acme::CertificateError,
    },
}

impl Certificates {
    /// What the files hold for these hosts.
    pub(crate) fn read(
        &self,
        files: &CertificateFiles,
        hosts: &[String],
        now: SystemTime,
    ) -> Reading {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(files.clone()).or_default();
        known.look(files);
        let about = |finding: String| format!("certificate {}: {finding}", files.chain.display());
        let findings = known.facts.iter().flat_map(|it| assess(it, hosts, now));
        Reading {
            pair: known.facts.as_ref().map(|_| known.pair.clone()),
            findings: known
                .unusable
                .iter()
                .cloned()
                .chain(findings.map(about))
                .collect(),
        }
    }
}

impl Pair {
    /// Whether it can be served and has not expired.
    pub(crate) fn is_usable(&self, now: SystemTime) -> bool {
        let certificate = Certificate {
            hosts: Vec::new(),
            chain: self.chain.clone(),
            key: self.key.clone(),
        };
        let facts = || havre_acme::facts(&self.chain);
        certificate.check().is_ok() && facts().is_ok_and(|facts| Moment::from(now) <= facts.until)
    }
}

impl Known {
    /// Reads the files where they are others than before.
    fn look(&mut self, files: &CertificateFiles) {
        let marks = mark(&files.chain).and_then(|chain| Ok([chain, mark(&files.key)?]));
        let marks = match marks {
            Ok(marks) if self.marks == Some(marks) => return,
            Ok(marks) => Some(marks),
            Err(_) => None,
        };
        match load(files) {
            Ok((pair, facts)) => {
                *self = Self {
                    marks,
                    pair,
                    facts: Some(facts),
                    unusable: None,
                };
            }
            Err(error) => {
                let what = havre_base::one_line(&error);
                let fate = match self.facts {
                    Some(_) => "the certificate before it stays in use",
                    None => {
                        "until then the certificate served before is, or one that this machine signs \
                         itself and browsers do not trust"
                    }
                };
                self.marks = marks;
                self.unusable = Some(format!("{what}; {fate}"));
            }
        }
    }
}

fn mark(path: &Path) -> io::Result<Mark> {
    let metadata = fs::metadata(path)?;
    Ok(Mark {
        inode: metadata.ino(),
        length: metadata.len(),
        changed: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

fn load(files: &CertificateFiles) -> Result<(Pair, Facts), ReadError> {
    let pair = Pair {
        chain: read(&files.chain)?,
        key: PrivateKey(read(&files.key)?),
    };
    let unusable = |source| ReadError::Pair {
        chain: files.chain.clone(),
        key: files.key.clone(),
        source,
    };
    let certificate = Certificate {
        hosts: Vec::new(),
        chain: pair.chain.clone(),
        key: pair.key.clone(),
    };
    certificate.check().map_err(unusable)?;
    let facts = havre_acme::facts(&pair.chain).map_err(|source| ReadError::Certificate {
        path: files.chain.clone(),
        source,
    })?;
    Ok((pair, facts))
}

fn read(path: &Path) -> Result<String, ReadError> {
    read_small(path, MAX_BYTES).map_err(|source| ReadError::File {
        path: path.to_owned(),
        source,
    })
}

/// What browsers will not accept.
fn assess(facts: &Facts, hosts: &[String], now: SystemTime) -> Vec<String> {
    let mut findings = Vec::new();
    let uncovered: Vec<&str> = hosts
        .iter()
        .map(String::as_str)
        .filter(|host| !facts.names.iter().any(|name| covers(name, host)))
        .collect();
    if !uncovered.is_empty() {
        let none = match uncovered.len() == hosts.len() {
            true => "it covers none of",
            false => "it does not cover",
        };
        let names = match facts.names.as_slice() {
            [] => "nobody".to_owned(),
            names => names.join(", "),
        };
        findings.push(format!(
            "{none} {}; it is for {names}",
            uncovered.join(", ")
        ));
    }
    let now = Moment::from(now);
    if now > facts.until {
        findings.push(format!("it expired on {}", facts.until));
    } else if now < facts.from {
        findings.push("it is not valid yet".to_owned());
    }
    findings
}

/// Whether a certificate for `name` is one for `host`; both in lower case.
fn covers(name: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    match name.strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => name == host,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn files(&self) -> CertificateFiles {
            CertificateFiles {
                chain: self.0.path().join("a.pem"),
                key: self.0.path().join("a.key"),
            }
        }

        /// As a renewal does: a file of a new name takes the old one's place.
        fn put(&self, name: &str, text: &str) {
            let new = self.0.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.0.path().join(name)).unwrap();
        }
    }

    /// Chain and key, valid for these days from now.
    fn made(names: &[&str], days: std::ops::Range<i64>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let day = |days: i64| {
            let offset = Duration::from_secs(days.unsigned_abs() * 24 * 3600);
            let now = SystemTime::now();
            match days < 0 {
                true => now - offset,
                false => now + offset,
            }
        };
        params.not_before = day(days.start).into();
        params.not_after = day(days.end).into();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn renewed_files_are_read_and_half_a_renewal_changes_nothing() {
        let folder = Folder::new();
        let (certificates, files) = (Certificates::default(), folder.files());
        let read = || certificates.read(&files, &hosts(&["a.test"]), SystemTime::now());
        let first = read();
        assert_eq!(first.pair, None);
        let told = "until then the certificate served before is";
        assert!(first.findings[0].contains(told), "{first:?}");

        let (chain, key) = made(&["a.test"], -1..90);
        folder.put("a.pem", &chain);
        folder.put("a.key", &key);
        let good = read();
        let pair = |chain: &str, key: &str| Pair {
            chain: chain.to_owned(),
            key: PrivateKey(key.to_owned()),
        };
        assert_eq!(good.pair, Some(pair(&chain, &key)));
        assert!(pair(&chain, &key).is_usable(SystemTime::now()));
        assert_eq!(good.findings, [""; 0]);

        let (newer, newer_key) = made(&["a.test"], -1..90);
        folder.put("a.pem", &newer);
        let half = read();
        assert_eq!(half.pair, good.pair);
        assert!(half.findings[0].contains("stays in use"), "{half:?}");
        folder.put("a.key", &newer_key);
        let whole = read();
        assert_eq!(whole.pair, Some(pair(&newer, &newer_key)));
        assert!(!pair(&newer, &key).is_usable(SystemTime::now()));
        let (old, old_key) = made(&["a.test"], -9..-1);
        assert!(!pair(&old, &old_key).is_usable(SystemTime::now()));
        assert_eq!(whole.findings, [""; 0]);

        folder.put("a.pem", "garbage");
        assert!(
            read().findings[0].contains("cannot be used"),
            "{:?}",
            read()
        );
        fs::remove_file(&files.chain).unwrap();
        assert!(read().findings[0].contains("cannot read"), "{:?}", read());
        assert!(read().pair.is_some(), "it still serves");
    }

    #[test]
    fn what_a_browser_will_not_accept_is_told() {
        for (names, days, wanted, expected) in [
            (
                &["a.test", "*.w.test"][..],
                -1..9,
                &["a.test", "x.w.test"][..],
                None,
            ),
            (&["192.0.2.1", "::1"], -1..9, &["192.0.2.1", "[::1]"], None),
            (
                &["b.test"],
                -1..9,
                &["a.test", "c.test"],
                Some("it covers none of a.test, c.test; it is for b.test"),
            ),
            (
                &["a.test"],
                -1..9,
                &["a.test", "c.test"],
                Some("it does not cover c.test; it is for a.test"),
            ),
            (
                &["*.w.test"],
                -1..9,
                &["x.y.w.test"],
                Some("it covers none of x.y.w.test; it is for *.w.test"),
            ),
            (&["a.test"], -9..-1, &["a.test"], Some("it expired on ")),
            (&["a.test"], 1..9, &["a.test"], Some("it is not valid yet")),
        ] {
            let facts = havre_acme::facts(&made(names, days).0).unwrap();
            let findings = assess(&facts, &hosts(wanted), SystemTime::now());
            match expected {
                None => assert_eq!(findings, [""; 0]),
                Some(begin) => assert!(findings[0].starts_with(begin), "{findings:?}"),
            }
        }
    }

    #[test]
    fn a_pipe_and_a_flood_are_refused() {
        let folder = Folder::new();
        let files = folder.files();
        let (chain, key) = made(&["a.test"], -1..9);
        folder.put("a.key", &key);
        let flood = format!("{chain}{}", " ".repeat(1024 * 1024));
        folder.put("a.pem", &flood);
        assert!(matches!(load(&files), Err(ReadError::File { .. })));
        fs::remove_file(&files.chain).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &files.chain,
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        assert!(matches!(load(&files), Err(ReadError::File { .. })));
    }
}
