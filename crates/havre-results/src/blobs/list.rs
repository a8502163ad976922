//! The list of a folder: which files, in which order.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::{LIST, MAX_BLOCKS};

/// Most bytes of a list.
const MAX_LIST: u64 = (MAX_BLOCKS as u64) * 160;

/// A file of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) size: u64,
}

/// Puts a list in the place of the one before, as a whole.
pub(super) fn write(folder: &Path, segments: &[Segment]) -> io::Result<()> {
    let new = folder.join("list.new");
    let mut file = io::BufWriter::new(fs::File::create(&new)?);
    for Segment { name, size } in segments {
        writeln!(file, "{size} {name}")?;
    }
    file.flush()?;
    drop(file);
    fs::rename(new, folder.join(LIST))
}

/// What [`write`] wrote.
pub(super) fn read(folder: &Path) -> io::Result<Vec<Segment>> {
    let text = havre_base::read_small(&folder.join(LIST), MAX_LIST)?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no block list"))
}

fn parse(text: &str) -> Option<Vec<Segment>> {
    let segment = |line: &str| {
        let (size, name) = line.split_once(' ')?;
        let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric());
        is_plain.then_some(Segment {
            name: name.to_owned(),
            size: size.parse().ok()?,
        })
    };
    text.lines().map(segment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let segment = |name: &str, size| Segment {
            name: name.to_owned(),
            size,
        };
        for segments in [vec![], vec![segment("b01", 0), segment("whole", u64::MAX)]] {
            write(folder.path(), &segments).unwrap();
            assert_eq!(read(folder.path()).unwrap(), segments);
        }
        for broken in ["x", "1 ../x", "1", "-1 b", "1 a b"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
