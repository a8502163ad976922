//! What a file says of itself, under `sops`.

use crate::armor::unarmored;
use crate::error::SopsError;
use crate::tree::Node;

/// Kinds of recipients other than age's.
const OTHERS: [&str; 6] = ["pgp", "kms", "gcp_kms", "azure_kv", "hc_vault", "hckms"];
/// Recipients that are looked at.
const MAX_RECIPIENTS: usize = 100;

#[derive(Debug)]
pub(crate) struct Metadata {
    /// The data key for each recipient of age's, as age files.
    pub(crate) keys: Vec<Vec<u8>>,
    /// As text: what the MAC is bound to.
    pub(crate) last_modified: String,
    pub(crate) mac: String,
    pub(crate) mac_only_encrypted: bool,
}

impl Metadata {
    pub(crate) fn new(node: &Node) -> Result<Self, SopsError> {
        let text = |name: &'static str| {
            let found = node.get(name).and_then(Node::text);
            found.map(str::to_owned).ok_or(SopsError::Metadata { name })
        };
        let count = |name: &str| match node.get(name) {
            Some(Node::List(items)) => items.len(),
            _ => 0,
        };
        if count("key_groups") > 0 {
            return Err(SopsError::KeyGroups);
        }
        let empty = Vec::new();
        let age = match node.get("age") {
            Some(Node::List(items)) => items,
            _ => &empty,
        };
        let files = age.iter().take(MAX_RECIPIENTS);
        let files = files.filter_map(|one| one.get("enc").and_then(Node::text));
        let keys: Vec<_> = files.filter_map(unarmored).collect();
        if keys.is_empty() {
            let others = OTHERS.into_iter().filter(|other| count(other) > 0);
            return Err(SopsError::NotForAge {
                others: others.collect(),
            });
        }
        let only = node.get("mac_only_encrypted").and_then(Node::text);
        Ok(Self {
            keys,
            last_modified: text("lastmodified")?,
            mac: text("mac")?,
            mac_only_encrypted: only.is_some_and(|text| text.eq_ignore_ascii_case("true")),
        })
    }
}
