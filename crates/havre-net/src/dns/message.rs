//! DNS messages as far as the resolver reads and writes them: one question, answers of type A
//! and PTR. Everything else of a message is passed on as it came. Source: RFC 1035, RFC 6891.

use std::net::Ipv4Addr;

/// How long a client may keep an answer. Short, so that a rollout is seen at once; not zero,
/// which some clients take for "never ask twice at the same time".
pub const TTL_SECONDS: u32 = 1;

/// Address.
pub const TYPE_A: u16 = 1;
/// Name of an address.
pub const TYPE_PTR: u16 = 12;
/// Anything there is.
pub const TYPE_ANY: u16 = 255;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// Largest question that is read.
pub const LARGEST_QUESTION: usize = 4096;

const HEADER: usize = 12;
/// Longest name on the wire.
const NAME: usize = 255;
/// What a client without EDNS accepts over UDP.
const CLASSIC_UDP: usize = 512;
/// What is sent over UDP at most, whatever the client accepts: no fragments.
const LARGEST_UDP: usize = 1232;

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Fine, maybe with nothing in it.
    NoError = 0,
    /// The question could not be read.
    FormatError = 1,
    /// No resolver answered.
    ServerFailure = 2,
    /// There is no such name.
    NameError = 3,
    /// Not a kind of question answered here.
    NotImplemented = 4,
}

/// A question that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The client's number for it.
    pub id: u16,
    flags: u16,
    /// The question section, byte for byte.
    pub question: &'a [u8],
    /// The name.
    pub name: Name,
    /// Type asked for.
    pub kind: u16,
    /// Size of UDP answers the client takes, where it says so.
    edns: Option<u16>,
}

/// A message that is no question to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not to be answered: too short, or an answer itself.
    Silence,
    /// To be answered with this code and nothing else.
    Refuse {
        /// The client's number.
        id: u16,
        /// Its flags.
        flags: u16,
        /// Why.
        code: Code,
    },
}

/// A name in lower case, without the closing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    labels: Vec<String>,
}

impl Name {
    /// Labels joined with dots; the root is empty.
    pub fn text(&self) -> String {
        self.labels.join(".")
    }

    /// Whether this is one word, as names of services are.
    pub fn is_single_label(&self) -> bool {
        self.labels.len() == 1
    }

    /// The address a reverse name (`4.3.2.1.in-addr.arpa`) stands for.
    pub fn reversed_address(&self) -> Option<Ipv4Addr> {
        let [d, c, b, a, "in-addr", "arpa"] =
            self.labels.iter().map(String::as_str).collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let octet = |label: &str| {
            let plain = label.bytes().all(|byte| byte.is_ascii_digit());
            label.parse::<u8>().ok().filter(|_| plain)
        };
        Some(Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;

/// Reads a question.
pub fn parse(bytes: &[u8]) -> Result<Query<'_>, Unreadable> {
    let (Some(id), Some(flags)) = (u16_at(bytes, 0), u16_at(bytes, 2)) else {
        return Err(Unreadable::Silence);
    };
    if bytes.len() < HEADER || flags & RESPONSE != 0 {
        return Err(Unreadable::Silence);
    }
    let refuse = |code| Unreadable::Refuse { id, flags, code };
    if flags & OPCODE != 0 {
        return Err(refuse(Code::NotImplemented));
    }
    if u16_at(bytes, 4) != Some(1) {
        return Err(refuse(Code::FormatError));
    }
    let (name, end) = read_name(bytes, HEADER).ok_or_else(|| refuse(Code::FormatError))?;
    let (Some(kind), Some(class)) = (u16_at(bytes, end), u16_at(bytes, end + 2)) else {
        return Err(refuse(Code::FormatError));
    };
    if class != CLASS_IN {
        return Err(refuse(Code::NotImplemented));
    }
    let question = &bytes[HEADER..end + 4];
    Ok(Query {
        id,
        flags,
        question,
        name,
        kind,
        edns: read_edns(bytes, end + 4),
    })
}

/// A name without compression (a question has nothing to point at) and the place after it.
fn read_name(bytes: &[u8], start: usize) -> Option<(Name, usize)> {
    let mut labels = Vec::new();
    let mut at = start;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((Name { labels }, at));
        }
        if length > 63 || at + length - start >= NAME {
            return None;
        }
        let label = bytes.get(at..at + length)?;
        labels.push(label.iter().map(|byte| readable(*byte)).collect());
        at += length;
    }
}

/// A byte of a label as text. No name of ours holds other bytes than these; the others are
/// written as numbers so that they cannot be taken for borders between labels.
fn readable(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
            char::from(byte.to_ascii_lowercase()).to_string()
        }
        other => format!("\\{other:03}"),
    }
}

/// The client's UDP size, when an OPT record is what follows the question.
fn read_edns(bytes: &[u8], at: usize) -> Option<u16> {
    let no_other_sections = u16_at(bytes, 6) == Some(0) && u16_at(bytes, 8) == Some(0);
    let is_opt = bytes.get(at) == Some(&0) && u16_at(bytes, at + 1) == Some(TYPE_OPT);
    (no_other_sections && is_opt)
        .then(|| u16_at(bytes, at + 3))
        .flatten()
}

/// The transport an answer goes back by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Bounded by what the client takes.
    Udp,
    /// Bounded by the length field.
    Tcp,
}

/// What an answer of ours holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Addresses of the name asked for.
    Addresses(Vec<Ipv4Addr>),
    /// Names of the address asked for.
    Names(Vec<String>),
}

impl Query<'_> {
    /// An answer of our own; what does not fit is left out and marked as cut.
    pub fn answer(&self, records: &Answers, transport: Transport) -> Vec<u8> {
        let limit = match transport {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => self.edns.map_or(CLASSIC_UDP, |size| {
                usize::from(size).clamp(CLASSIC_UDP, LARGEST_UDP)
            }),
        };
        let mut bytes = self.head(Code::NoError, AUTHORITATIVE);
        let room = limit.saturating_sub(if self.edns.is_some() { OPT_LENGTH } else { 0 });
        let mut count = 0u16;
        let mut cut = false;
        let mut push = |data: &[u8], kind: u16| {
            if bytes.len() + 12 + data.len() > room {
                cut = true;
                return;
            }
            bytes.extend_from_slice(&[0xc0, HEADER as u8]);
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
            bytes.extend_from_slice(&TTL_SECONDS.to_be_bytes());
            bytes.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
            bytes.extend_from_slice(data);
            count += 1;
        };
        match records {
            Answers::Addresses(addresses) => {
                addresses
                    .iter()
                    .for_each(|address| push(&address.octets(), TYPE_A));
            }
            Answers::Names(names) => names
                .iter()
                .filter_map(|name| encode_name(name))
                .for_each(|name| push(&name, TYPE_PTR)),
        }
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        if cut {
            bytes[2] |= TRUNCATED.to_be_bytes()[0];
        }
        self.with_edns(bytes)
    }

    /// An answer of ours without records: the name has nothing of that type, or is not there.
    pub fn empty(&self, code: Code) -> Vec<u8> {
        self.with_edns(self.head(code, AUTHORITATIVE))
    }

    /// No resolver answered in time.
    pub fn failure(&self) -> Vec<u8> {
        self.with_edns(self.head(Code::ServerFailure, 0))
    }

    fn head(&self, code: Code, extra: u16) -> Vec<u8> {
        let mut bytes = header(self.id, self.flags, code, extra);
        bytes[5] = 1;
        bytes.extend_from_slice(self.question);
        bytes
    }

    fn with_edns(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.edns.is_some() {
            bytes[11] = 1;
            bytes.push(0);
            bytes.extend_from_slice(&TYPE_OPT.to_be_bytes());
            bytes.extend_from_slice(&(LARGEST_UDP as u16).to_be_bytes());
            bytes.extend_from_slice(&[0; 6]);
        }
        bytes
    }
}

/// Size of an OPT record without options.
const OPT_LENGTH: usize = 11;

impl Unreadable {
    /// What is sent back, if anything.
    pub fn answer(self) -> Option<Vec<u8>> {
        match self {
            Self::Silence => None,
            Self::Refuse { id, flags, code } => Some(header(id, flags, code, 0)),
        }
    }
}

fn header(id: u16, flags: u16, code: Code, extra: u16) -> Vec<u8> {
    let kept = flags & (OPCODE | RECURSION_DESIRED);
    let flags = kept | RESPONSE | RECURSION_AVAILABLE | extra | code as u16;
    let mut bytes = vec![0; HEADER];
    bytes[0..2].copy_from_slice(&id.to_be_bytes());
    bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    bytes
}

fn encode_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= NAME).then_some(bytes)
}

/// What a resolver said to a question that was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not an answer to this question (a forgery, or late).
    Foreign,
    /// An answer, to be passed back.
    Answer,
    /// The resolver could or would not: another may.
    Failed,
}

/// Judges a resolver's answer to the question `question` that was sent under `id`.
pub fn judge(bytes: &[u8], id: u16, question: &[u8]) -> Verdict {
    let (Some(found), Some(flags), Some(count)) =
        (u16_at(bytes, 0), u16_at(bytes, 2), u16_at(bytes, 4))
    else {
        return Verdict::Foreign;
    };
    if bytes.len() < HEADER || found != id || flags & RESPONSE == 0 {
        return Verdict::Foreign;
    }
    // NoError and NameError are answers; the rest says something about the resolver.
    let failed = !matches!(flags & 0xf, 0 | 3);
    if failed && count == 0 {
        return Verdict::Failed;
    }
    let same = bytes
        .get(HEADER..HEADER + question.len())
        .is_some_and(|echoed| echoed.eq_ignore_ascii_case(question));
    match (count == 1 && same, failed) {
        (false, _) => Verdict::Foreign,
        (true, true) => Verdict::Failed,
        (true, false) => Verdict::Answer,
    }
}

/// Writes another number into a message of at least two bytes.
pub fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.get_mut(0..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode};
    use hickory_proto::rr::{DNSClass, Name as TheirName, RData, RecordType};

    fn asked(name: &str, kind: RecordType, udp: Option<u16>) -> Vec<u8> {
        let mut message = Message::new(77, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        let mut query = Asked::query(TheirName::from_ascii(name).expect("a name"), kind);
        query.set_query_class(DNSClass::IN);
        message.add_query(query);
        if let Some(size) = udp {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.edns = Some(edns);
        }
        message.to_vec().expect("encoded")
    }

    fn read(bytes: &[u8]) -> Message {
        Message::from_vec(bytes).expect("another implementation reads it")
    }

    #[test]
    fn answers_are_read_by_another_implementation() {
        let bytes = asked("Db.", RecordType::A, Some(1232));
        let query = parse(&bytes).expect("readable");
        assert_eq!((query.name.text().as_str(), query.kind), ("db", TYPE_A));
        assert!(query.name.is_single_label());
        let addresses = vec![Ipv4Addr::new(10, 89, 0, 2), Ipv4Addr::new(10, 89, 0, 3)];
        let answer = read(&query.answer(&Answers::Addresses(addresses), Transport::Udp));
        assert_eq!(answer.metadata.id, 77);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        assert!(!answer.metadata.truncation && answer.edns.is_some());
        assert_eq!(answer.answers.len(), 2);
        assert_eq!(answer.answers[1].ttl, TTL_SECONDS);
        assert!(
            matches!(&answer.answers[1].data, RData::A(a) if a.0 == Ipv4Addr::new(10, 89, 0, 3))
        );

        let bytes = asked("3.0.89.10.in-addr.arpa.", RecordType::PTR, None);
        let query = parse(&bytes).expect("readable");
        assert_eq!(
            query.name.reversed_address(),
            Some(Ipv4Addr::new(10, 89, 0, 3))
        );
        let names = Answers::Names(vec!["fnt.web.1".to_owned()]);
        let answer = read(&query.answer(&names, Transport::Udp));
        assert!(
            matches!(&answer.answers[0].data, RData::PTR(name) if name.to_string() == "fnt.web.1.")
        );
        assert!(answer.edns.is_none());

        let answer = read(&query.empty(Code::NameError));
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(
            read(&query.failure()).metadata.response_code,
            ResponseCode::ServFail
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_over_udp_and_whole_over_tcp() {
        let addresses: Vec<_> = (0..200).map(|n| Ipv4Addr::new(10, 89, 0, n)).collect();
        let records = Answers::Addresses(addresses);
        let check = |udp: Option<u16>, transport, limit: usize, cut: bool| {
            let bytes = asked("db.", RecordType::A, udp);
            let answer = parse(&bytes).expect("readable").answer(&records, transport);
            assert!(answer.len() <= limit, "{} > {limit}", answer.len());
            let answer = read(&answer);
            assert_eq!(answer.metadata.truncation, cut);
            assert_eq!(answer.answers.len() == 200, !cut);
            assert_eq!(answer.edns.is_some(), udp.is_some());
        };
        check(None, Transport::Udp, 512, true);
        check(Some(100), Transport::Udp, 512, true);
        check(Some(65_535), Transport::Udp, 1232, true);
        check(None, Transport::Tcp, 65_535, false);
    }

    #[test]
    fn hostile_messages_are_refused_or_ignored() {
        let good = asked("www.example.org.", RecordType::AAAA, Some(4096));
        let refused = |bytes: &[u8]| match parse(bytes) {
            Err(Unreadable::Refuse { code, .. }) => Some(code),
            Err(Unreadable::Silence) | Ok(_) => None,
        };
        for cut in 0..good.len() {
            // Never a panic; a cut question is never taken for a whole one.
            let whole = parse(&good[..cut]).is_ok();
            assert_eq!(whole, cut >= good.len() - OPT_LENGTH, "{cut}");
        }
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        assert_eq!(parse(&with(2, 0x80)), Err(Unreadable::Silence), "an answer");
        assert_eq!(
            refused(&with(2, 0x28)),
            Some(Code::NotImplemented),
            "an update"
        );
        assert_eq!(
            refused(&with(5, 2)),
            Some(Code::FormatError),
            "two questions"
        );
        assert_eq!(
            refused(&with(12, 0xc0)),
            Some(Code::FormatError),
            "a pointer"
        );
        assert_eq!(
            refused(&with(12, 64)),
            Some(Code::FormatError),
            "a long label"
        );
        let mut long = good[..12].to_vec();
        (0..5).for_each(|_| {
            long.push(63);
            long.extend_from_slice(&[b'a'; 63]);
        });
        long.extend_from_slice(&[0, 0, 1, 0, 1]);
        assert_eq!(refused(&long), Some(Code::FormatError), "a long name");
        let answer = parse(&with(5, 2))
            .expect_err("refused")
            .answer()
            .expect("said so");
        assert_eq!(read(&answer).metadata.response_code, ResponseCode::FormErr);
        // A dot inside a label is not a border between labels.
        let dotted = [&good[..12], b"\x03a.b\x00\x00\x01\x00\x01"].concat();
        assert_ne!(
            parse(&dotted).map(|query| query.name.text()),
            Ok("a.b".to_owned())
        );
    }

    #[test]
    fn answers_must_match_what_was_asked() {
        let bytes = asked("www.example.org.", RecordType::A, None);
        let query = parse(&bytes).expect("readable");
        let answer = query.answer(
            &Answers::Addresses(vec![Ipv4Addr::LOCALHOST]),
            Transport::Udp,
        );
        assert_eq!(judge(&answer, 77, query.question), Verdict::Answer);
        assert_eq!(judge(&answer, 78, query.question), Verdict::Foreign);
        assert_eq!(
            judge(&bytes, 77, query.question),
            Verdict::Foreign,
            "a question"
        );
        assert_eq!(
            judge(&query.empty(Code::NameError), 77, query.question),
            Verdict::Answer
        );
        assert_eq!(judge(&query.failure(), 77, query.question), Verdict::Failed);
        let bare = Unreadable::Refuse {
            id: 77,
            flags: 0,
            code: Code::FormatError,
        }
        .answer();
        assert_eq!(
            judge(&bare.expect("an answer"), 77, query.question),
            Verdict::Failed
        );
        let other = asked("www.example.com.", RecordType::A, None);
        let other = parse(&other).expect("readable").empty(Code::NoError);
        assert_eq!(judge(&other, 77, query.question), Verdict::Foreign);
        for cut in 0..answer.len().min(query.question.len() + HEADER) {
            assert_eq!(judge(&answer[..cut], 77, query.question), Verdict::Foreign);
        }
    }
}
