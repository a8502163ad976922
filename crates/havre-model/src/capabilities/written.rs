//! What the files ask for and the target cannot do, where it is written.

use crate::diagnostic::Severity;
use crate::project::{NetworkName, Project, ServiceName, VolumeName};
use crate::read::{MEANINGFUL, says_nothing};
use crate::report::Report;
use crate::source::Span;
use crate::yaml::{Entry, Map, Node, Value};

use super::key::{File, Key, Step};
use super::{Capabilities, Lack, Owner};

/// Keys that ask for something with `false` or `no` as well.
const FALSE_ASKS: [&str; 4] = [
    "services.*.depends_on.*.required",
    "services.*.deploy.restart_policy.condition",
    "services.*.restart",
    "services.*.volumes[].bind.create_host_path",
];

/// What the files say, merged and for one environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'a> {
    pub compose: Option<&'a Map>,
    /// havre.yaml.
    pub settings: Option<&'a Map>,
}

/// Refuses what the target cannot do. Only what is written counts: a target has a way of its own where the
/// files say nothing.
pub(crate) fn report(
    capabilities: &Capabilities,
    project: &Project,
    written: Written<'_>,
    report: &mut Report,
) {
    for found in find(capabilities, project, written) {
        if report.is_full(Severity::Error) {
            return;
        }
        let refused = capabilities.unsupported(found.lack, &found.shown, found.owner, found.value);
        report
            .error("target/unsupported", found.place, refused.message)
            .hint(refused.hint);
    }
}

/// A key that is written and lacking.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub lack: &'a Lack,
    pub owner: Owner<'a>,
    /// The key, as messages name it.
    pub shown: String,
    /// Where the lack is of some values only.
    pub value: Option<&'a str>,
    pub place: Span,
}

pub(super) fn find<'a>(
    capabilities: &'a Capabilities,
    project: &Project,
    written: Written<'a>,
) -> Vec<Found<'a>> {
    let mut all = Vec::new();
    for lack in &capabilities.lacks {
        let key = Key::parse(&lack.key);
        let file = match key.file {
            File::Compose => written.compose,
            File::Settings => written.settings,
        };
        let Some(top) = file else { continue };
        visit(top, &key.steps, &mut Vec::new(), &mut |names, entry| {
            let owner = key.owner(names);
            if asks(&lack.key, &entry.value) && runs(project, owner) {
                all.extend(places(lack, entry).into_iter().map(|(place, value)| Found {
                    lack,
                    owner,
                    shown: key.shown(names),
                    value,
                    place,
                }));
            }
        });
    }
    all
}

/// Shows what the steps lead to, with the names that stand for `*`.
fn visit<'a>(
    map: &'a Map,
    steps: &[Step<'_>],
    names: &mut Vec<&'a str>,
    found: &mut impl FnMut(&[&'a str], &'a Entry),
) {
    match steps {
        [Step::Name(name)] => {
            if let Some(entry) = map.entries.get(*name) {
                found(names, entry);
            }
        }
        [Step::Name(name), Step::Each, below @ ..] => {
            let items = map.get(name).and_then(|list| list.as_list());
            for item in items.unwrap_or_default() {
                if let Some(item) = item.as_map() {
                    visit(item, below, names, found);
                }
            }
        }
        [Step::Name(name), below @ ..] => {
            if let Some(value) = map.get(name).and_then(|value| value.as_map()) {
                visit(value, below, names, found);
            }
        }
        [Step::Any, below @ ..] => {
            for (name, entry) in &map.entries {
                if let Some(value) = entry.value.as_map().filter(|_| !name.starts_with("x-")) {
                    names.push(name);
                    visit(value, below, names, found);
                    names.pop();
                }
            }
        }
        // A key ends in a name.
        [Step::Each, ..] | [] => {}
    }
}

/// Whether the key with this value asks for something.
fn asks(key: &str, value: &Node) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    let meaningful = FALSE_ASKS.contains(&key) || MEANINGFUL.contains(&name);
    !value.is_null() && (meaningful || !says_nothing(value))
}

/// Whether it is of the project, as what no profile enables is not.
fn runs(project: &Project, owner: Owner<'_>) -> bool {
    match owner {
        Owner::Project => true,
        Owner::Service(name) => project.services.contains_key(&ServiceName::new(name)),
        Owner::Network(name) => project.networks.contains_key(&NetworkName::new(name)),
        Owner::Volume(name) => project.volumes.contains_key(&VolumeName::new(name)),
        Owner::Secret(name) => project.secrets.contains_key(name),
        Owner::Config(name) => project.configs.contains_key(name),
    }
}

/// The key, or those of its values that are lacking.
fn places<'a>(lack: &Lack, entry: &'a Entry) -> Vec<(Span, Option<&'a str>)> {
    if lack.values.is_empty() {
        return vec![(entry.key, None)];
    }
    let values: Vec<(Span, &str)> = match &entry.value.value {
        Value::Null => Vec::new(),
        Value::Scalar(scalar) => vec![(entry.value.span, scalar.text.as_str())],
        Value::List(items) => items
            .iter()
            .filter_map(|item| Some((item.span, item.text()?)))
            .collect(),
        Value::Map(map) => map
            .entries
            .iter()
            .map(|(name, entry)| (entry.key, name.as_str()))
            .collect(),
    };
    let lacking = values.into_iter().filter(|(_, value)| lack.covers(value));
    lacking.map(|(place, value)| (place, Some(value))).collect()
}
