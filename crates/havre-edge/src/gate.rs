//! HTTP/1 requests before the parser sees them.
//!
//! The parser (hyper) answers what it refuses by itself, in no log, and forgives what we do not: both
//! Content-Length and Transfer-Encoding, or a length said twice. So each head is read here first, and
//! passed on when it is sound. One that is not is put aside as a [`Refusal`], and the parser is given a
//! plain request in its place, the last one of the connection: it is answered in its turn and written
//! to the log like any other.
//!
//! To find the next head the framing of bodies is followed as well, by rules no looser than the
//! parser's.

mod chunks;
mod head;

use chunks::Chunks;
use head::Head;

use crate::headers::Body;
use crate::limits;
use crate::page::Cause;

/// What a request says of itself, as far as it could be read: for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstLine {
    /// Method.
    pub method: String,
    /// Host as sent.
    pub host: String,
    /// Path without the query.
    pub path: String,
    /// User-Agent.
    pub user_agent: String,
}

/// A request that is not passed on.
#[derive(Debug)]
pub struct Refusal {
    /// How many came before it on its connection.
    pub number: u64,
    /// Why.
    pub cause: Cause,
    /// What it was.
    pub line: FirstLine,
}

/// What becomes of bytes that arrived.
#[derive(Debug)]
pub enum Step {
    /// More are needed to tell.
    Wait,
    /// The first so many go to the parser as they are.
    Pass(usize),
    /// The first so many go to the parser in this form.
    Replace(usize, Vec<u8>),
    /// Neither they nor anything after them goes to the parser, which gets these instead.
    Refuse(Box<Refusal>, Vec<u8>),
    /// They are not the body that was announced; nothing after them can be understood.
    Broken,
}

/// Where in a connection's bytes we are.
#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// In a body with this many bytes to come.
    Length(u64),
    Chunked(Chunks),
    /// After a head that asks for another protocol: requests follow, or that.
    Undecided,
    /// What follows is no longer HTTP.
    Tunnel,
    /// Nothing more is passed on.
    Shut,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Gate {
    state: State,
    /// Heads passed on.
    heads: u64,
    /// Bytes of an incomplete head that were looked at already.
    seen: usize,
}

impl Gate {
    /// Looks at bytes that were not passed on yet.
    pub fn step(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return Step::Wait;
        }
        match &mut self.state {
            State::Head => self.head(bytes),
            State::Length(left) => {
                let count =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= u64::try_from(count).unwrap_or(*left);
                if *left == 0 {
                    self.state = State::Head;
                }
                Step::Pass(count)
            }
            State::Chunked(chunks) => match chunks.take(bytes) {
                Ok(taken) => {
                    if taken.is_last {
                        self.state = State::Head;
                    }
                    Step::Pass(taken.count)
                }
                Err(_) => {
                    self.state = State::Shut;
                    Step::Broken
                }
            },
            State::Undecided => Step::Wait,
            State::Tunnel => Step::Pass(bytes.len()),
            State::Shut => Step::Wait,
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Step {
        let blank = leading_line_ends(bytes);
        let rest = &bytes[blank..];
        if rest.is_empty() {
            self.seen = 0;
            return Step::Pass(blank);
        }
        if self.seen > 0 && rest.len() <= limits::HEAD_BYTES && !head::may_end(rest, self.seen) {
            self.seen = rest.len();
            return Step::Wait;
        }
        match head::read(rest) {
            Head::Partial => {
                self.seen = rest.len();
                Step::Wait
            }
            Head::Whole(whole) => {
                self.heads += 1;
                self.seen = 0;
                self.state = match whole.body {
                    Body::Length(0) if whole.asks_for_upgrade => State::Undecided,
                    Body::Length(0) => State::Head,
                    Body::Length(length) => State::Length(length),
                    Body::Chunked => State::Chunked(Chunks::default()),
                };
                match whole.rewritten {
                    Some(head) => Step::Replace(blank + whole.length, head),
                    None => Step::Pass(blank + whole.length),
                }
            }
            Head::Refused(cause) => self.refuse(cause, rest),
        }
    }

    fn refuse(&mut self, cause: Cause, head: &[u8]) -> Step {
        let line = head::first_line(head);
        let in_its_place = if line.method == "HEAD" {
            "HEAD / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n"
        } else {
            "GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n"
        };
        let refusal = Refusal {
            number: self.heads,
            cause,
            line,
        };
        self.state = State::Shut;
        Step::Refuse(Box::new(refusal), in_its_place.as_bytes().to_vec())
    }

    /// The time for a head is up; `bytes` is what there is of it.
    pub fn time_out(&mut self, bytes: &[u8]) -> Step {
        self.refuse(Cause::SlowHead, bytes)
    }

    /// A head has begun and is not complete.
    pub fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head) && self.seen > 0
    }

    /// The request for another protocol whose answer decides what follows, by its number.
    pub fn undecided(&self) -> Option<u64> {
        matches!(self.state, State::Undecided).then(|| self.heads.saturating_sub(1))
    }

    /// How it was answered.
    pub fn decide(&mut self, agreed: bool) {
        if self.undecided().is_some() {
            self.state = if agreed { State::Tunnel } else { State::Head };
        }
    }

    /// Nothing more is passed on.
    pub fn is_shut(&self) -> bool {
        matches!(self.state, State::Shut)
    }
}

/// Line ends before a request line are passed over (RFC 9112 §2.2).
fn leading_line_ends(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [b'\n', ..] => at += 1,
            _ => return at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of `size`; gives what the parser gets, and why a request was refused.
    fn passed(bytes: &[u8], size: usize) -> (String, Option<Cause>) {
        let mut gate = Gate::default();
        let (mut held, mut out) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            held.extend_from_slice(piece);
            loop {
                match gate.step(&held) {
                    Step::Wait => break,
                    Step::Pass(count) => out.extend(held.drain(..count)),
                    Step::Replace(count, head) => {
                        held.drain(..count);
                        out.extend(head);
                    }
                    Step::Refuse(refusal, _) => {
                        let out = String::from_utf8(out).expect("text");
                        return (out, Some(refusal.cause));
                    }
                    Step::Broken => {
                        out.extend(b"BROKEN");
                        return (String::from_utf8(out).expect("text"), None);
                    }
                }
            }
        }
        (String::from_utf8(out).expect("text"), None)
    }

    #[test]
    fn requests_are_told_apart_however_they_arrive() {
        let bytes = b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n\
            POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
            POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
            5;x=\"y\"\r\nhello\r\n00a \t\r\n0123456789\r\n0\r\nA: b\r\n\r\n\
            GET /d?\" HTTP/1.1\nHost: a\n\nGET /e HTTP/1.1\r\nX : y\r\n\r\n";
        let text = std::str::from_utf8(bytes).expect("text");
        let sound = text.split("GET /e").next().expect("a part");
        let expected = sound.replace("/d?\" HTTP/1.1\n", "/d?%22 HTTP/1.1\n");
        for size in [1, 2, 3, 7, 50, 1000] {
            let (out, cause) = passed(bytes, size);
            assert_eq!(out, expected, "{size}");
            assert!(matches!(cause, Some(Cause::BadRequest(_))), "{size}");
        }
    }

    #[test]
    fn after_a_request_to_switch_the_answer_decides() {
        let head =
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        for agreed in [true, false] {
            let mut gate = Gate::default();
            assert!(matches!(gate.step(head), Step::Pass(count) if count == head.len()));
            let frame = b"\x81\x82\x01\x02\x03\x04ab";
            assert!(matches!(gate.step(frame), Step::Wait));
            gate.decide(agreed);
            match gate.step(frame) {
                Step::Pass(count) => assert!(agreed && count == frame.len()),
                Step::Refuse(..) => assert!(!agreed),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_broken_body_ends_everything() {
        let head = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "\r\n\r\n",
            "5;a\nb\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "fffffffffffffffff\r\n",
            "0\r\nA: b\n\r\n",
            "0\n\r\n",
        ] {
            let (out, _) = passed(
                format!("{head}{body}GET /x HTTP/1.1\r\n\r\n").as_bytes(),
                1000,
            );
            assert!(
                out.ends_with("BROKEN") && !out.contains("/x"),
                "{body:?}: {out}"
            );
        }
    }

    #[test]
    fn a_head_has_an_end() {
        for (bytes, expected) in [
            (
                [b"GET /".to_vec(), vec![b'x'; 150_000]].concat(),
                Cause::TargetTooLong,
            ),
            (
                [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(20_000)].concat(),
                Cause::TooManyFields,
            ),
            (
                [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'x'; 70_000]].concat(),
                Cause::HeadTooLong,
            ),
        ] {
            for size in [1000, 1 << 20] {
                assert_eq!(passed(&bytes, size).1.as_ref(), Some(&expected));
            }
        }
    }
}
