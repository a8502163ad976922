//! What a container gets, and its shim masks, that must not be in any file of the host: it reaches the shim
//! in memory that no path leads to.
//!
//! ```text
//! daemon ── sealed memory: filter ──► shim   maps it, shared by all shims of an environment
//!        └─ sealed memory: parcel ──► shim   holds it; each process being set up reads what it needs
//! ```
//! A parcel is records of `kind u8 · length of name u32 · name · length u32 · bytes`, little-endian. Kinds
//! that are not known are passed over: shims outlive upgrades.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use havre_redact::Filter;
use zeroize::Zeroizing;

use crate::memory;

const FILE: u8 = 1;
const VARIABLE: u8 = 2;

/// Most bytes of what one container is given, counted by [`Confidential::bytes_of`].
pub const MAX_CONFIDENTIAL: u64 = 64 << 20;

/// Name of what a container's first process reads from its standard input, which ends with it.
pub const STANDARD_INPUT: &str = "/dev/stdin";

/// Of a record beside its name and its bytes.
const HEADERS: usize = 9;

/// What is not in a container's spec, since that is kept and shown.
#[derive(Clone, Debug, Default)]
pub struct Confidential {
    /// Masks what the container prints before it is written; `None`: nothing is masked.
    pub filter: Option<SharedFilter>,
    /// Contents of [`crate::SecretSpec`]s, by name; of the name [`STANDARD_INPUT`], what the container's first
    /// process reads there.
    pub files: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Variables for its processes, beside those of the spec.
    pub env: BTreeMap<String, Zeroizing<String>>,
    /// What stands for those of the files that can change as the program runs: told of the container, so no
    /// help in guessing them.
    pub contents: Option<String>,
}

/// A filter that is made once for all containers of an environment.
#[derive(Clone, Debug)]
pub struct SharedFilter(Arc<OwnedFd>);

impl SharedFilter {
    /// Puts it where others can map it.
    pub fn new(filter: &Filter) -> io::Result<Self> {
        memory::sealed(c"havre-filter", filter.as_bytes()).map(|fd| Self(Arc::new(fd)))
    }
}

impl AsFd for SharedFilter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Confidential {
    /// What a file or variable takes of [`MAX_CONFIDENTIAL`].
    pub fn bytes_of(name: &str, content: &[u8]) -> u64 {
        (HEADERS + name.len() + content.len()) as u64
    }

    /// Files and variables as a parcel; `None` of none.
    pub(crate) fn parcel(&self) -> io::Result<Option<OwnedFd>> {
        if self.files.is_empty() && self.env.is_empty() {
            return Ok(None);
        }
        let files = self
            .files
            .iter()
            .map(|(name, bytes)| (FILE, name, bytes.as_slice()));
        let env = self
            .env
            .iter()
            .map(|(name, value)| (VARIABLE, name, value.as_bytes()));
        let records: Vec<_> = files.chain(env).collect();
        let sizes = records.iter();
        let size: u64 = sizes
            .map(|(_, name, bytes)| Self::bytes_of(name, bytes))
            .sum();
        if size > MAX_CONFIDENTIAL {
            let text = format!("its secrets and configs take {size} bytes, of {MAX_CONFIDENTIAL}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // Never moved, so that no copy is left behind.
        let mut parcel = Zeroizing::new(Vec::with_capacity(size as usize));
        for (kind, name, bytes) in records {
            parcel.push(kind);
            for part in [name.as_bytes(), bytes] {
                parcel.extend_from_slice(&length(part)?.to_le_bytes());
                parcel.extend_from_slice(part);
            }
        }
        memory::sealed(c"havre-parcel", &parcel).map(Some)
    }
}

fn length(part: &[u8]) -> io::Result<u32> {
    u32::try_from(part.len()).map_err(io::Error::other)
}

/// What a parcel holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub files: BTreeMap<String, Zeroizing<Vec<u8>>>,
    pub env: BTreeMap<String, Zeroizing<String>>,
}

impl Contents {
    /// Reads a parcel.
    pub fn read(parcel: BorrowedFd) -> io::Result<Self> {
        let file = File::from(parcel.try_clone_to_owned()?);
        let size = file.metadata()?.len();
        if size > MAX_CONFIDENTIAL {
            return Err(broken());
        }
        let mut bytes = Zeroizing::new(vec![0; size as usize]);
        // Others read it at the same time, so the place is not the descriptor's.
        file.read_exact_at(&mut bytes, 0)?;
        Self::parse(&bytes).ok_or_else(broken)
    }

    /// As [`Contents::read`], but files are passed over unread: for processes that need none.
    pub fn variables(parcel: BorrowedFd) -> io::Result<Self> {
        let file = File::from(parcel.try_clone_to_owned()?);
        let size = file.metadata()?.len();
        if size > MAX_CONFIDENTIAL {
            return Err(broken());
        }
        let mut contents = Self::default();
        let mut at = 0;
        while at < size {
            let mut kind = [0];
            file.read_exact_at(&mut kind, at)?;
            at += 1;
            let name = Place::read(&file, &mut at, size)?;
            let value = Place::read(&file, &mut at, size)?;
            if kind == [VARIABLE] {
                let (name, value) = (name.text(&file)?, value.text(&file)?);
                contents.env.insert(name.to_string(), value);
            }
        }
        Ok(contents)
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut contents = Self::default();
        while let Some((kind, rest)) = bytes.split_first() {
            let (name, rest) = part(rest)?;
            let (value, rest) = part(rest)?;
            bytes = rest;
            let name = std::str::from_utf8(name).ok()?.to_owned();
            match *kind {
                FILE => {
                    contents.files.insert(name, Zeroizing::new(value.to_vec()));
                }
                VARIABLE => {
                    let value = std::str::from_utf8(value).ok()?.to_owned();
                    contents.env.insert(name, Zeroizing::new(value));
                }
                _ => {}
            }
        }
        Some(contents)
    }
}

/// Where in a parcel a name or value is.
struct Place {
    at: u64,
    length: u32,
}

impl Place {
    fn read(parcel: &File, at: &mut u64, size: u64) -> io::Result<Self> {
        let mut length = [0; 4];
        parcel.read_exact_at(&mut length, *at)?;
        let length = u32::from_le_bytes(length);
        let place = Self {
            at: *at + 4,
            length,
        };
        *at = place.at + u64::from(length);
        match *at <= size {
            true => Ok(place),
            false => Err(broken()),
        }
    }

    fn text(&self, parcel: &File) -> io::Result<Zeroizing<String>> {
        let mut bytes = vec![0; self.length as usize];
        parcel.read_exact_at(&mut bytes, self.at)?;
        let text = String::from_utf8(bytes).map_err(|_| broken())?;
        Ok(Zeroizing::new(text))
    }
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a parcel of secrets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let given = Confidential {
            files: BTreeMap::from([("key".to_owned(), Zeroizing::new(vec![0, 255, 10]))]),
            env: BTreeMap::from([("TOKEN".to_owned(), Zeroizing::new("t0p".to_owned()))]),
            ..Confidential::default()
        };
        let parcel = given.parcel().expect("memory").expect("a parcel");
        for _ in 0..2 {
            let contents = Contents::read(parcel.as_fd()).expect("readable");
            assert_eq!(contents.files, given.files);
            assert_eq!(contents.env, given.env);
            let variables = Contents::variables(parcel.as_fd()).expect("readable");
            assert!(variables.files.is_empty());
            assert_eq!(variables.env, given.env);
        }
        assert!(Confidential::default().parcel().expect("memory").is_none());
    }

    #[test]
    fn what_is_not_known_is_passed_over_and_what_is_cut_refused() {
        let newer = [&[9u8][..], &1u32.to_le_bytes(), b"x", &0u32.to_le_bytes()].concat();
        assert!(Contents::parse(&newer).is_some_and(|contents| contents.files.is_empty()));
        for end in 1..newer.len() {
            assert!(Contents::parse(&newer[..end]).is_none(), "{end}");
            let cut = memory::sealed(c"test", &newer[..end]).expect("memory");
            assert!(Contents::variables(cut.as_fd()).is_err(), "{end}");
        }
    }

    #[test]
    fn what_could_not_be_read_is_not_packed() {
        let given = |bytes| Confidential {
            files: BTreeMap::from([("key".to_owned(), Zeroizing::new(vec![0; bytes]))]),
            ..Confidential::default()
        };
        let room = MAX_CONFIDENTIAL as usize - HEADERS - "key".len();
        let parcel = given(room).parcel().expect("memory").expect("a parcel");
        Contents::read(parcel.as_fd()).expect("readable");
        let error = given(room + 1).parcel().expect_err("too much");
        assert!(error.to_string().contains("67108865"), "{error}");
    }
}
