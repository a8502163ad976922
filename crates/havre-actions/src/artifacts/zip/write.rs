//! Writing.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use flate2::read::DeflateEncoder;
use flate2::{Compression, Crc};

use super::{
    CENTRAL, Counted, DEFLATED, END, END64, EXTRA64, Entry, LOCAL, LOCATOR64, STORED, WIDE, bad,
    long,
};

/// Names are UTF-8.
const UTF8: u16 = 1 << 11;
/// 1980-01-01 00:00: no artifact depends on when it was made.
const TIME: u32 = 0x0021_0000;
/// A regular file that its owner may write.
const MODE: u32 = 0o100_644 << 16;
/// Unix, and the version that has sizes of 64 bits.
const MADE_BY: u16 = 3 << 8 | 45;
const NEEDS: u16 = 45;

/// Writes an archive.
pub(in crate::artifacts) struct Writer {
    out: BufWriter<File>,
    at: u64,
    level: u32,
    entries: Vec<Entry>,
}

impl Writer {
    /// `level`: from 0, which stores, to 9.
    pub(in crate::artifacts) fn create(path: &Path, level: u32) -> io::Result<Self> {
        Ok(Self {
            out: BufWriter::new(File::create(path)?),
            at: 0,
            level,
            entries: Vec::new(),
        })
    }

    /// Adds the file at `path` under a name.
    pub(in crate::artifacts) fn add(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let method = if self.level == 0 { STORED } else { DEFLATED };
        let mut entry = Entry {
            name: name.as_bytes().to_vec(),
            method,
            crc: 0,
            packed: 0,
            bytes: 0,
            at: self.at,
        };
        let header = entry.local()?;
        self.out.write_all(&header)?;
        let mut source = Counted {
            inner: File::open(path)?,
            crc: Crc::new(),
            bytes: 0,
        };
        entry.packed = if method == STORED {
            io::copy(&mut source, &mut self.out)?
        } else {
            io::copy(
                &mut DeflateEncoder::new(&mut source, Compression::new(self.level)),
                &mut self.out,
            )?
        };
        entry.crc = source.crc.sum();
        entry.bytes = source.bytes;
        // Now that they are known.
        self.out.seek(SeekFrom::Start(entry.at))?;
        self.out.write_all(&entry.local()?)?;
        self.at = entry.at + long(header.len()) + entry.packed;
        self.out.seek(SeekFrom::Start(self.at))?;
        self.entries.push(entry);
        Ok(())
    }

    pub(in crate::artifacts) fn finish(mut self) -> io::Result<()> {
        let begin = self.at;
        let mut directory = Vec::new();
        for entry in &self.entries {
            directory.extend_from_slice(&entry.central()?);
        }
        let (bytes, count) = (long(directory.len()), long(self.entries.len()));
        self.out.write_all(&directory)?;
        let mut end = Bytes::default();
        end.u32(END64)
            .u64(44)
            .u16(MADE_BY)
            .u16(NEEDS)
            .u32(0)
            .u32(0)
            .u64(count)
            .u64(count)
            .u64(bytes)
            .u64(begin);
        end.u32(LOCATOR64).u32(0).u64(begin + bytes).u32(1);
        end.u32(END)
            .u16(0)
            .u16(0)
            .u16(u16::MAX)
            .u16(u16::MAX)
            .u32(WIDE)
            .u32(WIDE)
            .u16(0);
        self.out.write_all(&end.0)?;
        self.out.flush()
    }
}

impl Entry {
    fn local(&self) -> io::Result<Vec<u8>> {
        let mut head = Bytes::default();
        head.u32(LOCAL)
            .u16(NEEDS)
            .u16(UTF8)
            .u16(self.method)
            .u32(TIME)
            .u32(self.crc)
            .u32(WIDE)
            .u32(WIDE);
        head.u16(short(self.name.len())?).u16(20).raw(&self.name);
        head.u16(EXTRA64).u16(16).u64(self.bytes).u64(self.packed);
        Ok(head.0)
    }

    fn central(&self) -> io::Result<Vec<u8>> {
        let mut head = Bytes::default();
        head.u32(CENTRAL)
            .u16(MADE_BY)
            .u16(NEEDS)
            .u16(UTF8)
            .u16(self.method)
            .u32(TIME)
            .u32(self.crc);
        head.u32(WIDE)
            .u32(WIDE)
            .u16(short(self.name.len())?)
            .u16(28)
            .u16(0)
            .u16(0)
            .u16(0)
            .u32(MODE)
            .u32(WIDE);
        head.raw(&self.name)
            .u16(EXTRA64)
            .u16(24)
            .u64(self.bytes)
            .u64(self.packed)
            .u64(self.at);
        Ok(head.0)
    }
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }
}

fn short(length: usize) -> io::Result<u16> {
    u16::try_from(length).map_err(|_| bad("a name is too long"))
}
