//! Keys by their full names: the path of a section of the tables, and a name in it.

use crate::keys::{self, Section, Support};
use crate::schema;

use super::Owner;

/// Before the path of a key of havre.yaml.
const SETTINGS: &str = "havre.yaml: ";

/// Sections that the tables have once for two places.
const ALIKE: [(&str, &str); 2] = [
    ("services.*.secrets[]", "services.*.configs[]"),
    ("services.*.post_start[]", "services.*.pre_stop[]"),
];

/// Keys that only say what the files are: the reader settles them, and what is below them.
const OF_THE_READER: [&str; 10] = [
    "include",
    "name",
    "services",
    "services.*.extends",
    "services.*.profiles",
    "havre.yaml: compose",
    "havre.yaml: env_file",
    "havre.yaml: environments",
    "havre.yaml: name",
    "havre.yaml: services",
];

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Compose,
    /// havre.yaml.
    Settings,
}

/// A step from a value to one in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'k> {
    /// `ports`
    Name(&'k str),
    /// `*`: each entry of a mapping with names of the user's own.
    Any,
    /// `[]`: each item of a list.
    Each,
}

/// A key's way from the top of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key<'k> {
    pub file: File,
    pub steps: Vec<Step<'k>>,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The reader takes it and a target has to do it.
    Asked,
    /// The reader settles, ignores or refuses it.
    NeverSeen,
    Unknown,
}

impl<'k> Key<'k> {
    pub fn parse(full: &'k str) -> Self {
        let (file, path) = match full.strip_prefix(SETTINGS) {
            Some(path) => (File::Settings, path),
            None => (File::Compose, full),
        };
        let mut steps = Vec::new();
        for part in path.split('.') {
            match (part, part.strip_suffix("[]")) {
                ("*", _) => steps.push(Step::Any),
                (_, Some(list)) => steps.extend([Step::Name(list), Step::Each]),
                (name, None) => steps.push(Step::Name(name)),
            }
        }
        Self { file, steps }
    }

    /// Whose it is, where `names` stand for the `*`.
    pub fn owner<'n>(&self, names: &[&'n str]) -> Owner<'n> {
        let Some(name) = names.first() else {
            return Owner::Project;
        };
        match (self.file, self.steps.as_slice()) {
            (_, [Step::Name("services"), Step::Any, ..]) => Owner::Service(name),
            (_, [Step::Name("networks"), Step::Any, ..]) => Owner::Network(name),
            (File::Compose, [Step::Name("volumes"), Step::Any, ..]) => Owner::Volume(name),
            (File::Compose, [Step::Name("secrets"), Step::Any, ..]) => Owner::Secret(name),
            (File::Compose, [Step::Name("configs"), Step::Any, ..]) => Owner::Config(name),
            _ => Owner::Project,
        }
    }

    /// As messages name it, without its owner; `names` stand for the `*`.
    pub fn shown(&self, names: &[&str]) -> String {
        // The first name is the owner's.
        let (own, names) = match self.steps.as_slice() {
            [Step::Name(_), Step::Any, own @ ..] => (own, names.get(1..).unwrap_or_default()),
            all => (all, names),
        };
        let mut names = names.iter();
        let mut text = String::new();
        for step in own {
            let part: &str = match step {
                Step::Name(name) => name,
                Step::Any => names.next().copied().unwrap_or("*"),
                Step::Each => {
                    text.push_str("[]");
                    continue;
                }
            };
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(part);
        }
        text
    }
}

/// What becomes of the key.
pub(super) fn standing(full: &str) -> Standing {
    let is_it = |(key, _): &(String, Support)| key == full;
    let Some((_, support)) = all().find(is_it) else {
        return Standing::Unknown;
    };
    match support {
        Support::Honoured | Support::Partly(_) if !is_of_the_reader(full) => Standing::Asked,
        Support::Honoured
        | Support::Partly(_)
        | Support::Quiet(_)
        | Support::Ignored(_)
        | Support::Refused { .. } => Standing::NeverSeen,
    }
}

fn is_of_the_reader(full: &str) -> bool {
    // Others stand below these two.
    let roots = ["services", "havre.yaml: services"];
    OF_THE_READER.iter().any(|key| {
        let below = full.strip_prefix(key);
        below.is_some_and(|below| {
            below.is_empty() || !roots.contains(key) && below.starts_with(['.', '['])
        })
    })
}

/// Every key of both files.
pub(super) fn all() -> impl Iterator<Item = (String, Support)> {
    let alike = keys::SECTIONS.iter().filter_map(|section| {
        let (_, path) = ALIKE.iter().find(|(path, _)| *path == section.path)?;
        Some(Section { path, ..*section })
    });
    let sections = keys::SECTIONS.iter().copied().chain(alike);
    let settings = schema::SECTIONS.iter().copied();
    sections.chain(settings).flat_map(|section| {
        let keys = section.keys.iter();
        keys.map(move |key| (full(section.path, key.name), key.support))
    })
}

fn full(section: &str, key: &str) -> String {
    match section {
        "" => key.to_owned(),
        "havre.yaml" => format!("{SETTINGS}{key}"),
        path => format!("{path}.{key}"),
    }
}
