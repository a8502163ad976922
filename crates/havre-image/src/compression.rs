//! gzip and zstd, told apart by their first bytes: media types lie.

use std::io::{self, BufReader, Cursor, Read};

/// How a stream is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The widest window zstd may ask memory for: 2^27 bytes, its own default limit.
const MAX_WINDOW_LOG: u32 = 27;

impl Compression {
    /// By the first bytes of a stream.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable one before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Looks at the first bytes of `source` and gives them back with the rest.
    pub(crate) fn sniff<R: Read>(mut source: R) -> io::Result<(Self, impl Read)> {
        let mut start = Vec::with_capacity(4);
        source.by_ref().take(4).read_to_end(&mut start)?;
        Ok((Self::of(&start), Cursor::new(start).chain(source)))
    }
}

/// Decompresses `source`; several members or frames in a row count as one stream.
pub(crate) fn decoder<'a, R: Read + 'a>(
    compression: Compression,
    source: R,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(BufReader::new(source))?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}
