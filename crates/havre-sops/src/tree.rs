//! What a file holds, whatever its form: names and values in the order of the file.

use zeroize::Zeroizing;

/// Deepest nesting.
pub(crate) const MAX_DEPTH: usize = 32;
/// Most nodes.
pub(crate) const MAX_NODES: usize = 50_000;

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    /// What a value is as the MAC sees it: its text, `True`, a number in full.
    Value(Zeroizing<String>),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// It is nested too deeply, or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_NODES} values, or nested deeper than {MAX_DEPTH}")]
pub(crate) struct TooLarge;

impl Node {
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, node)| node),
            Self::Null | Self::Value(_) | Self::List(_) => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Value(text) => Some(text),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// Takes a name out of a mapping.
    pub(crate) fn take(&mut self, name: &str) -> Option<Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        let at = entries.iter().position(|(key, _)| key == name)?;
        Some(entries.remove(at).1)
    }
}

/// A step on the way to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// Visits each value in the order of the file, with the way to it.
pub(crate) fn walk<'a, E>(
    node: &'a Node,
    way: &mut Vec<Step<'a>>,
    visit: &mut impl FnMut(&[Step<'a>], &'a Zeroizing<String>) -> Result<(), E>,
) -> Result<(), E> {
    match node {
        Node::Null => Ok(()),
        Node::Value(text) => visit(way, text),
        Node::List(items) => {
            for (index, item) in items.iter().enumerate() {
                way.push(Step::Index(index));
                walk(item, way, visit)?;
                way.pop();
            }
            Ok(())
        }
        Node::Map(entries) => {
            for (name, node) in entries {
                way.push(Step::Name(name));
                walk(node, way, visit)?;
                way.pop();
            }
            Ok(())
        }
    }
}
