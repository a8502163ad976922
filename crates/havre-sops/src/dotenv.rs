//! Dotenv as SOPS reads and writes it: a line is a name, `=` and a value, in which `\n` stands for a line break. Quotes
//! are part of the value.

use zeroize::Zeroizing;

use crate::cipher;
use crate::tree::Node;

/// How names of metadata begin.
const METADATA: &str = "sops_";

/// Whether a line is one that SOPS writes: of its metadata, or of an encrypted value.
pub(crate) fn is_encrypted(text: &str) -> bool {
    let mut lines = text.lines().filter_map(|line| line.split_once('='));
    lines.any(|(name, value)| {
        ["sops_mac", "sops_version"].contains(&name.trim()) || cipher::is_encrypted(value.trim())
    })
}

pub(crate) fn parse(text: &str) -> Result<Node, String> {
    let mut entries: Vec<(String, Node)> = Vec::new();
    let mut metadata = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!(
                "line {} is neither NAME=value nor a comment",
                index + 1
            ));
        };
        let value = Node::Value(Zeroizing::new(value.replace("\\n", "\n")));
        match name.strip_prefix(METADATA) {
            Some(name) => metadata.push((name.to_owned(), value)),
            None if entries.iter().any(|(known, _)| known == name) => {
                return Err(format!("{name:?} is there twice"));
            }
            None => entries.push((name.to_owned(), value)),
        }
    }
    if !metadata.is_empty() {
        entries.push(("sops".to_owned(), unflattened(metadata)));
    }
    Ok(Node::Map(entries))
}

/// `age__list_0__map_enc` is the name `enc` in the first item of the list `age`. Other lists than age's stay names that say
/// that there are such.
fn unflattened(flat: Vec<(String, Node)>) -> Node {
    let mut entries = Vec::new();
    let mut age: Vec<(String, Vec<(String, Node)>)> = Vec::new();
    for (name, value) in flat {
        let item = name
            .strip_prefix("age__list_")
            .and_then(|rest| rest.split_once("__map_"));
        match item {
            Some((index, field)) => {
                let field = (field.to_owned(), value);
                match age.iter_mut().find(|(known, _)| known == index) {
                    Some((_, fields)) => fields.push(field),
                    None => age.push((index.to_owned(), vec![field])),
                }
            }
            None => match name.split_once("__list_") {
                Some((list, _)) => entries.push((list.to_owned(), Node::List(vec![value]))),
                None => entries.push((name, value)),
            },
        }
    }
    let age = age
        .into_iter()
        .map(|(_, fields)| Node::Map(fields))
        .collect();
    entries.push(("age".to_owned(), Node::List(age)));
    Node::Map(entries)
}
