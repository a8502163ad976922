//! Where a chunked body ends (RFC 9112 §7.1), with CR LF as the only line end.

/// Bytes of all chunk extensions of a body, and of its trailer section.
const ASIDE: usize = 16 * 1024;

/// Digits of a chunk's size.
const DIGITS: u8 = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    aside: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit.
    #[default]
    Start,
    Size {
        size: u64,
        digits: u8,
    },
    /// After the size: blanks, then an extension or the line's end.
    Blank(u64),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the beginning of a line of the trailer section.
    Trailer,
    TrailerLine,
    TrailerEnd,
    /// Within the empty line that ends all.
    Last,
}

/// Bytes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many of those offered.
    pub count: usize,
    /// The body ends with them.
    pub is_last: bool,
}

/// It is not a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotChunks;

impl Chunks {
    /// Takes the bytes that belong to the body.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, NotChunks> {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Data(left) = self.state {
                let here = bytes.len() - at;
                let count = usize::try_from(left).map_or(here, |left| left.min(here));
                at += count;
                let left = left - u64::try_from(count).map_err(|_| NotChunks)?;
                self.state = if left == 0 {
                    State::DataCr
                } else {
                    State::Data(left)
                };
                continue;
            }
            let byte = bytes[at];
            at += 1;
            if self.state == State::Last {
                return match byte {
                    b'\n' => Ok(Taken {
                        count: at,
                        is_last: true,
                    }),
                    _ => Err(NotChunks),
                };
            }
            self.state = self.after(byte)?;
        }
        Ok(Taken {
            count: at,
            is_last: false,
        })
    }

    fn after(&mut self, byte: u8) -> Result<State, NotChunks> {
        let next = match (self.state, byte) {
            (State::Start, _) => State::Size {
                size: digit(byte)?,
                digits: 1,
            },
            (State::Size { size, .. }, b'\r') => State::SizeEnd(size),
            (State::Size { size, .. }, b' ' | b'\t') => State::Blank(size),
            (State::Size { size, .. }, b';') => State::Extension(size),
            (State::Size { digits: DIGITS, .. }, _) => return Err(NotChunks),
            (State::Size { size, digits }, _) => State::Size {
                size: size * 16 + digit(byte)?,
                digits: digits + 1,
            },
            (State::Blank(size), b' ' | b'\t') => State::Blank(size),
            (State::Blank(size), b';') => State::Extension(size),
            (State::Blank(size) | State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Blank(_), _) | (State::Extension(_) | State::TrailerLine, b'\n') => {
                return Err(NotChunks);
            }
            (State::Extension(size), _) => State::Extension(size),
            (State::SizeEnd(0), b'\n') => State::Trailer,
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Start,
            (State::Trailer, b'\r') => State::Last,
            (State::Trailer, b'\n') => return Err(NotChunks),
            (State::Trailer, _) => State::TrailerLine,
            (State::TrailerLine, b'\r') => State::TrailerEnd,
            (State::TrailerLine, _) => State::TrailerLine,
            (State::TrailerEnd, b'\n') => State::Trailer,
            (
                State::SizeEnd(_)
                | State::DataCr
                | State::DataLf
                | State::TrailerEnd
                | State::Data(_)
                | State::Last,
                _,
            ) => return Err(NotChunks),
        };
        if matches!(
            next,
            State::Blank(_) | State::Extension(_) | State::TrailerLine
        ) {
            self.aside += 1;
            if self.aside > ASIDE {
                return Err(NotChunks);
            }
        }
        Ok(next)
    }
}

fn digit(byte: u8) -> Result<u64, NotChunks> {
    char::from(byte)
        .to_digit(16)
        .map(u64::from)
        .ok_or(NotChunks)
}
