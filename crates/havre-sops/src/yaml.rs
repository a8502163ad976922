//! YAML into a tree that keeps the order of names. Anchors are refused: SOPS does not keep them.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use zeroize::Zeroizing;

use crate::tree::{MAX_DEPTH, MAX_NODES, Node, TooLarge};

/// Why a text is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum YamlError {
    #[error("line {}: {}", .0.marker().line(), .0.info())]
    Syntax(#[from] ScanError),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("it has anchors, which are not supported")]
    Anchors,
    #[error("it has several documents, which are not supported")]
    Documents,
    #[error("a name is no text")]
    Name,
    #[error("{0:?} is there twice")]
    Twice(String),
    #[error("it is empty, or has no end")]
    Cut,
}

pub(crate) fn parse(text: &str) -> Result<Node, YamlError> {
    let mut events = Parser::new_from_str(text);
    let mut reader = Reader {
        next: || match events.next_event() {
            Some(event) => Ok(event?.0),
            None => Err(YamlError::Cut),
        },
        nodes: 0,
    };
    let mut found = None;
    loop {
        match (reader.next)()? {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => return found.ok_or(YamlError::Cut),
            _ if found.is_some() => return Err(YamlError::Documents),
            event => found = Some(reader.node(event, 0)?),
        }
    }
}

struct Reader<F> {
    next: F,
    nodes: usize,
}

impl<'a, F: FnMut() -> Result<Event<'a>, YamlError>> Reader<F> {
    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, YamlError> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(TooLarge.into());
        }
        match event {
            Event::Scalar(text, style, anchor, _) => match anchor {
                0 => Ok(scalar(&text, style)),
                _ => Err(YamlError::Anchors),
            },
            Event::SequenceStart(0, _) => {
                let mut items = Vec::new();
                loop {
                    match (self.next)()? {
                        Event::SequenceEnd => return Ok(Node::List(items)),
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(0, _) => {
                let mut entries: Vec<(String, Node)> = Vec::new();
                loop {
                    let name = match (self.next)()? {
                        Event::MappingEnd => return Ok(Node::Map(entries)),
                        Event::Scalar(text, _, 0, _) => text.into_owned(),
                        Event::Alias(_) | Event::Scalar(..) => return Err(YamlError::Anchors),
                        _ => return Err(YamlError::Name),
                    };
                    let event = (self.next)()?;
                    let node = self.node(event, depth + 1)?;
                    if entries.iter().any(|(known, _)| *known == name) {
                        return Err(YamlError::Twice(name));
                    }
                    entries.push((name, node));
                }
            }
            Event::Alias(_) | Event::SequenceStart(..) | Event::MappingStart(..) => {
                Err(YamlError::Anchors)
            }
            _ => Err(YamlError::Cut),
        }
    }
}

/// What a plain scalar means in YAML 1.2's core schema, as the MAC sees it.
fn scalar(text: &str, style: ScalarStyle) -> Node {
    let value = |text: &str| Node::Value(Zeroizing::new(text.to_owned()));
    if style != ScalarStyle::Plain {
        return value(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Node::Null,
        "true" | "True" | "TRUE" => value("True"),
        "false" | "False" | "FALSE" => value("False"),
        _ => match number(text) {
            Some(number) => value(&number),
            None => value(text),
        },
    }
}

fn number(text: &str) -> Option<String> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.to_string());
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16)
            .ok()
            .map(|number| number.to_string());
    }
    // Words such as `inf` are text.
    let is_float = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.contains(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    let number = is_float.then(|| text.parse::<f64>().ok()).flatten()?;
    Some(number.to_string())
}
