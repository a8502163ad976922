//! nf_tables over netlink: one table is replaced as a whole, in one transaction.
//!
//! Only what the firewall of this crate needs: filter and nat chains of family `ip`, and rules
//! made of a few expressions over one register. Source of the numbers: the kernel's
//! `include/uapi/linux/netfilter/nf_tables.h`; attributes are big-endian.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::{APPEND, Attributes, CREATE, Message, NetlinkError, Socket};
use crate::subnet::Subnet;

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;

/// `NFPROTO_IPV4`.
const FAMILY: u8 = 2;
/// The first 16-byte register.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
/// `NFTNL_UDATA_TABLE_COMMENT`, as the nft tool reads it.
const COMMENT: u8 = 0;
/// Size of the kernel's interface names, closing NUL included.
const INTERFACE_NAME: usize = 16;

/// Connection states as bits.
pub mod state {
    /// Part of a connection that both sides know.
    pub const ESTABLISHED: u32 = 2;
    /// Started by another connection (ICMP errors).
    pub const RELATED: u32 = 4;
}

/// A table with all it holds.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where in the path of a packet; `None`: where a rule jumps to it.
    pub hook: Option<Hook>,
    /// What happens to packets no rule decides, where it has a hook.
    pub policy: Verdict,
    /// Its rules, in order: the expressions of each.
    pub rules: Vec<Vec<Expr>>,
}

/// Place of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Filter what is delivered here.
    Input,
    /// Filter what passes through.
    Forward,
    /// Translate sources of what leaves.
    SourceNat,
    /// Translate destinations of what arrives.
    DestinationNat,
}

impl Hook {
    const fn number(self) -> u32 {
        match self {
            Self::DestinationNat => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::SourceNat => 4,
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Input | Self::Forward => "filter",
            Self::SourceNat | Self::DestinationNat => "nat",
        }
    }

    const fn priority(self) -> u32 {
        match self {
            Self::Input | Self::Forward => 0,
            Self::SourceNat => 100,
            Self::DestinationNat => (-100_i32).cast_unsigned(),
        }
    }
}

/// End of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it pass this chain.
    Accept,
    /// Throw it away.
    Drop,
    /// Look at the rules of this chain, then go on.
    Jump(&'static str),
}

impl Verdict {
    const fn code(self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => (-3_i32).cast_unsigned(),
        }
    }
}

/// An expression: a condition, or what is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Came in by this link.
    InputIs(String),
    /// Came in by a link whose name starts so.
    InputStarts(String),
    /// Leaves by this link.
    OutputIs(String),
    /// Leaves by another link than this.
    OutputIsNot(String),
    /// Leaves by a link whose name starts so.
    OutputStarts(String),
    /// Leaves by a link whose name does not start so.
    OutputStartsNot(String),
    /// Source address.
    From(Subnet),
    /// Destination address.
    To(Ipv4Addr),
    /// Destination in here.
    Within(Subnet),
    /// Transport protocol (`IPPROTO_*`).
    Protocol(u8),
    /// Destination port.
    Port(u16),
    /// Any of these [`state`] bits.
    State(u32),
    /// None of these [`state`] bits.
    StateNot(u32),
    /// Decide.
    Verdict(Verdict),
    /// One connection in so many, at random.
    OneIn(u32),
    /// What comes to this rule faster than this.
    Beyond(Rate),
    /// The destination was translated.
    DestinationTranslated,
    /// Translate the destination to this address.
    TranslateTo(Ipv4Addr),
    /// Translate the source to the address of the outgoing link.
    Masquerade,
    /// Throw away and tell the sender (ICMP unreachable with this code).
    Reject(u8),
}

/// How often something may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// So many more at a time.
    pub at_once: u32,
}

/// ICMP unreachable code: port.
pub const PORT_UNREACHABLE: u8 = 3;
/// ICMP unreachable code: forbidden by rule.
pub const ADMIN_PROHIBITED: u8 = 13;

impl Socket {
    /// Puts `table` in place of what is there under its name, unless that is the same already.
    /// True when something was changed.
    pub fn put_table(&mut self, table: &Table) -> Result<bool, NetlinkError> {
        let comment = format!("havre {:016x}", digest(table));
        let mut messages = vec![batch_edge(BATCH_BEGIN)];
        match self.table(&table.name)? {
            Present::With(found) if found == comment => return Ok(false),
            // Only where there is one: the kernel takes some 20 ms to tear a table down.
            Present::With(_) | Present::Bare => {
                messages.push(table_message(DELETE_TABLE, 0, &table.name, None));
            }
            Present::Absent => {}
        }
        messages.push(table_message(
            NEW_TABLE,
            CREATE,
            &table.name,
            Some(&comment),
        ));
        for chain in &table.chains {
            messages.push(chain_message(&table.name, chain));
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                messages.push(rule_message(&table.name, chain.name, rule));
            }
        }
        let last = messages.len() - 1;
        messages.push(batch_edge(BATCH_END));
        self.batch(messages, last)?;
        Ok(true)
    }

    /// Removes a table; one that is gone already is no error.
    pub fn delete_table(&mut self, name: &str) -> Result<(), NetlinkError> {
        let messages = vec![
            batch_edge(BATCH_BEGIN),
            table_message(DELETE_TABLE, 0, name, None),
            batch_edge(BATCH_END),
        ];
        match self.batch(messages, 1) {
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// Whether a program keeps a table of that name for both versions of IP (family `inet`).
    pub fn has_inet_table(&mut self, name: &str) -> Result<bool, NetlinkError> {
        const INET: u8 = 1;
        let mut question = Message::new(GET_TABLE, 0).fixed(&[INET, 0, 0, 0]);
        question.attr_str(1, name);
        match self.ask(question, |_, _| Ok(())) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What is there under the name of a table.
    fn table(&mut self, name: &str) -> Result<Present, NetlinkError> {
        let mut found = Present::Bare;
        let message = table_message(GET_TABLE, 0, name, None);
        let result = self.ask(message, |kind, body| {
            if kind == NEW_TABLE
                && let Some(comment) = body.get(4..).and_then(read_comment)
            {
                found = Present::With(comment);
            }
            Ok(())
        });
        match result {
            Ok(()) => Ok(found),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(Present::Absent),
            Err(error) => Err(error),
        }
    }
}

/// A table as it was found.
enum Present {
    Absent,
    Bare,
    With(String),
}

/// FNV-1a over the encoded table: enough to see that a table is the one wanted.
fn digest(table: &Table) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for chain in &table.chains {
        add(&chain_message(&table.name, chain).finish(0));
        for rule in &chain.rules {
            add(&rule_message(&table.name, chain.name, rule).finish(0));
        }
    }
    hash
}

fn batch_edge(kind: u16) -> Message {
    // nfgenmsg: family, version, and here the subsystem the batch is for.
    Message::new(kind, 0).fixed(&[0, 0, 0, 10])
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags).fixed(&[FAMILY, 0, 0, 0])
}

fn table_message(kind: u16, flags: u16, name: &str, comment: Option<&str>) -> Message {
    const NAME: u16 = 1;
    const USERDATA: u16 = 6;
    let mut table = message(kind, flags);
    table.attr_str(NAME, name);
    if let Some(comment) = comment {
        let mut data = vec![COMMENT, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
        data.extend_from_slice(comment.as_bytes());
        data.push(0);
        table.attr(USERDATA, &data);
    }
    table
}

fn read_comment(attributes: &[u8]) -> Option<String> {
    let data = Attributes(attributes).find(6)?;
    let (header, text) = data.split_first_chunk::<2>()?;
    let text = text.get(..usize::from(header[1]))?;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    (header[0] == COMMENT).then(|| String::from_utf8_lossy(text).into_owned())
}

fn chain_message(table: &str, chain: &Chain) -> Message {
    let mut message = message(NEW_CHAIN, CREATE);
    message.attr_str(1, table).attr_str(3, chain.name);
    if let Some(place) = chain.hook {
        message.nest(4, |hook| {
            hook.attr_be32(1, place.number())
                .attr_be32(2, place.priority());
        });
        message
            .attr_be32(5, chain.policy.code())
            .attr_str(7, place.kind());
    }
    message
}

fn rule_message(table: &str, chain: &str, rule: &[Expr]) -> Message {
    let mut message = message(NEW_RULE, CREATE | APPEND);
    message.attr_str(1, table).attr_str(2, chain);
    message.nest(4, |list| {
        for expr in rule {
            encode(list, expr);
        }
    });
    message
}

const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_PROTOCOL: u32 = 16;
const META_RANDOM: u32 = 24;
const CONNECTION_STATE: u32 = 0;
const CONNECTION_STATUS: u32 = 2;
/// `IPS_DST_NAT`.
const DESTINATION_TRANSLATED: u32 = 1 << 5;
/// `NFT_LIMIT_PKTS`.
const PACKETS: u32 = 0;
/// `NFT_LIMIT_F_INV`.
const ABOVE: u32 = 1;
/// `NFT_NAT_DNAT`.
const TO_DESTINATION: u32 = 1;

fn encode(list: &mut Message, expr: &Expr) {
    match expr {
        Expr::InputIs(name) => interface(list, META_INPUT_NAME, &whole_name(name), Compare::Equal),
        Expr::InputStarts(prefix) => {
            interface(list, META_INPUT_NAME, prefix.as_bytes(), Compare::Equal);
        }
        Expr::OutputIs(name) => {
            interface(list, META_OUTPUT_NAME, &whole_name(name), Compare::Equal);
        }
        Expr::OutputIsNot(name) => {
            interface(list, META_OUTPUT_NAME, &whole_name(name), Compare::NotEqual);
        }
        Expr::OutputStarts(prefix) => {
            interface(list, META_OUTPUT_NAME, prefix.as_bytes(), Compare::Equal);
        }
        Expr::OutputStartsNot(prefix) => {
            interface(list, META_OUTPUT_NAME, prefix.as_bytes(), Compare::NotEqual);
        }
        Expr::From(subnet) => address(list, SOURCE, *subnet),
        Expr::To(to) => address(list, DESTINATION, Subnet::containing(*to, 32)),
        Expr::Within(subnet) => address(list, DESTINATION, *subnet),
        Expr::Protocol(protocol) => {
            meta(list, META_PROTOCOL);
            compare(list, Compare::Equal, &[*protocol]);
        }
        Expr::Port(port) => {
            payload(list, TRANSPORT_HEADER, 2, 2);
            compare(list, Compare::Equal, &port.to_be_bytes());
        }
        Expr::State(bits) => connection(list, CONNECTION_STATE, *bits, Compare::NotEqual),
        Expr::StateNot(bits) => connection(list, CONNECTION_STATE, *bits, Compare::Equal),
        Expr::OneIn(many) => {
            meta(list, META_RANDOM);
            let below = u32::MAX / (*many).max(1);
            compare(list, Compare::LessOrEqual, &below.to_be_bytes());
        }
        Expr::Beyond(rate) => element(list, "limit", |data| {
            data.attr(1, &u64::from(rate.per_second).to_be_bytes())
                .attr(2, &1_u64.to_be_bytes())
                .attr_be32(3, rate.at_once)
                .attr_be32(4, PACKETS)
                .attr_be32(5, ABOVE);
        }),
        Expr::DestinationTranslated => {
            connection(
                list,
                CONNECTION_STATUS,
                DESTINATION_TRANSLATED,
                Compare::NotEqual,
            );
        }
        Expr::TranslateTo(address) => {
            element(list, "immediate", |data| {
                data.attr_be32(1, REGISTER).nest(2, |value| {
                    value.attr(1, &address.octets());
                });
            });
            element(list, "nat", |data| {
                data.attr_be32(1, TO_DESTINATION)
                    .attr_be32(2, u32::from(FAMILY))
                    .attr_be32(3, REGISTER);
            });
        }
        Expr::Verdict(verdict) => element(list, "immediate", |data| {
            data.attr_be32(1, VERDICT_REGISTER).nest(2, |value| {
                value.nest(2, |code| {
                    code.attr_be32(1, verdict.code());
                    if let Verdict::Jump(chain) = verdict {
                        code.attr_str(2, chain);
                    }
                });
            });
        }),
        Expr::Masquerade => element(list, "masq", |_| {}),
        Expr::Reject(code) => element(list, "reject", |data| {
            data.attr_be32(1, 0).attr(2, &[*code]);
        }),
    }
}

#[derive(Clone, Copy)]
enum Compare {
    Equal = 0,
    NotEqual = 1,
    LessOrEqual = 3,
}

const NETWORK_HEADER: u32 = 1;
/// Places of the addresses in an IPv4 header.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const TRANSPORT_HEADER: u32 = 2;

fn element(list: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    list.nest(1, |element| {
        element.attr_str(1, name).nest(2, fill);
    });
}

fn meta(list: &mut Message, key: u32) {
    element(list, "meta", |data| {
        data.attr_be32(1, REGISTER).attr_be32(2, key);
    });
}

fn payload(list: &mut Message, base: u32, offset: u32, length: u32) {
    element(list, "payload", |data| {
        data.attr_be32(1, REGISTER)
            .attr_be32(2, base)
            .attr_be32(3, offset)
            .attr_be32(4, length);
    });
}

fn address(list: &mut Message, place: u32, subnet: Subnet) {
    payload(list, NETWORK_HEADER, place, 4);
    if subnet.length() < 32 {
        let mask = u32::MAX
            .checked_shl(32 - u32::from(subnet.length()))
            .unwrap_or(0);
        bitwise_and(list, mask.to_be_bytes());
    }
    compare(list, Compare::Equal, &subnet.base().octets());
}

fn compare(list: &mut Message, operation: Compare, value: &[u8]) {
    element(list, "cmp", |data| {
        data.attr_be32(1, REGISTER)
            .attr_be32(2, operation as u32)
            .nest(3, |operand| {
                operand.attr(1, value);
            });
    });
}

fn bitwise_and(list: &mut Message, mask: [u8; 4]) {
    element(list, "bitwise", |data| {
        data.attr_be32(1, REGISTER)
            .attr_be32(2, REGISTER)
            .attr_be32(3, 4);
        data.nest(4, |value| {
            value.attr(1, &mask);
        });
        data.nest(5, |value| {
            value.attr(1, &[0; 4]);
        });
    });
}

fn interface(list: &mut Message, key: u32, name: &[u8], operation: Compare) {
    meta(list, key);
    compare(list, operation, name);
}

/// A name padded to its full size compares whole; a shorter operand compares a prefix.
fn whole_name(name: &str) -> [u8; INTERFACE_NAME] {
    let mut bytes = [0; INTERFACE_NAME];
    for (to, from) in bytes.iter_mut().take(INTERFACE_NAME - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// Leaves the register zero when none of `bits` is set; they are in the machine's order.
fn connection(list: &mut Message, key: u32, bits: u32, operation: Compare) {
    element(list, "ct", |data| {
        data.attr_be32(1, REGISTER).attr_be32(2, key);
    });
    bitwise_and(list, bits.to_ne_bytes());
    compare(list, operation, &[0; 4]);
}
