//! Typed access to a tree: each reader takes what it can and records what is wrong, with the place.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Severity};
use crate::keys::{Section, Support};
use crate::project::Account;
use crate::report::Report;
use crate::scalar;
use crate::source::Span;
use crate::suggest;
use crate::yaml::{Map, Node, Value};

/// Longest name of an account.
const MAX_ACCOUNT: usize = 64;

/// Keys whose empty value has a meaning of its own.
pub(crate) const MEANINGFUL: [&str; 5] = ["command", "content", "entrypoint", "image", "test"];

/// The keys of one mapping, already checked against its section.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'n> {
    /// As messages name it, e.g. "service `web`".
    pub owner: String,
    pub span: Span,
    map: &'n Map,
    #[cfg(test)]
    section: Section,
}

/// One value of a mapping or list, with the names messages need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'n> {
    pub owner: &'n str,
    pub key: &'n str,
    pub node: &'n Node,
}

impl<'n> Fields<'n> {
    /// Checks every key; `None` (and an error) when `node` is no mapping.
    pub fn open(
        owner: impl Into<String>,
        node: &'n Node,
        section: &Section,
        report: &mut Report,
    ) -> Option<Self> {
        let owner = owner.into();
        let Some(map) = node.as_map() else {
            let message = format!("{owner} must be a mapping, not {}", node.kind());
            report.error("compose/type", node.span, message);
            return None;
        };
        check_keys(&owner, map, section, report);
        Some(Self {
            owner,
            span: node.span,
            map,
            #[cfg(test)]
            section: *section,
        })
    }

    /// A key that is there and says something. An empty text, as `${NAME:-}` gives, says nothing
    /// but where it has a meaning of its own.
    pub fn get<'s>(&'s self, key: &'s str) -> Option<Field<'s>> {
        #[cfg(test)]
        trace::note(self.section.path, key);
        let empty =
            |node: &Node| node.is_null() || node.text() == Some("") && !MEANINGFUL.contains(&key);
        let node = self.map.get(key).filter(|node| !empty(node))?;
        Some(Field {
            owner: &self.owner,
            key,
            node,
        })
    }

    /// Whether the key is written at all.
    pub fn has(&self, key: &str) -> bool {
        #[cfg(test)]
        trace::note(self.section.path, key);
        self.map.get(key).is_some()
    }

    /// The place of a key.
    pub fn key_span(&self, key: &str) -> Span {
        self.map.key_span(key).unwrap_or(self.span)
    }

    pub fn string(&self, key: &str, report: &mut Report) -> Option<String> {
        self.get(key)?.string(report)
    }

    pub fn truth(&self, key: &str, report: &mut Report) -> Option<bool> {
        self.get(key)?.truth(report)
    }

    pub fn pairs(&self, key: &str, report: &mut Report) -> BTreeMap<String, Option<String>> {
        self.get(key)
            .map(|field| field.pairs(report))
            .unwrap_or_default()
    }

    /// As [`Self::pairs`]; a name without a value has an empty one.
    pub fn labels(&self, key: &str, report: &mut Report) -> BTreeMap<String, String> {
        let pairs = self.pairs(key, report).into_iter();
        pairs
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect()
    }

    pub fn strings(&self, key: &str, report: &mut Report) -> Vec<String> {
        self.get(key)
            .map(|field| field.strings(report))
            .unwrap_or_default()
    }
}

impl<'n> Field<'n> {
    pub fn span(&self) -> Span {
        self.node.span
    }

    /// Says that the value is not what it must be.
    fn wrong<'r>(&self, report: &'r mut Report, expected: &str) -> &'r mut Diagnostic {
        let Self { owner, key, node } = self;
        let message = match &node.value {
            Value::Scalar(scalar) => {
                let shown: String = scalar.text.chars().take(60).collect();
                format!("{owner}: `{key}` must be {expected}, not `{shown}`")
            }
            _ => format!("{owner}: `{key}` must be {expected}, not {}", node.kind()),
        };
        report.error("compose/type", node.span, message)
    }

    /// Says which item of a list is not what each must be.
    fn wrong_item(&self, report: &mut Report, expected: &str) {
        let items = self.node.as_list().unwrap_or_default();
        let Some(item) = items.iter().find(|item| item.text().is_none()) else {
            return;
        };
        let Self { owner, key, .. } = self;
        let message = format!(
            "{owner}: each item of `{key}` must be {expected}, not {}",
            item.kind()
        );
        let error = report.error("compose/type", item.span, message);
        let first = item.as_map().and_then(|map| map.entries.first());
        if let (Some((name, entry)), "NAME=value") = (first, expected) {
            let value = entry.value.text().unwrap_or("…");
            error.hint(format!("write `- {name}={value}`, or leave the dashes out"));
        }
    }

    /// Whether a list of names may stand for the mapping.
    fn takes_names(&self) -> bool {
        matches!(self.key, "depends_on" | "networks") && self.owner.starts_with("service")
    }

    /// The text of a scalar of any kind.
    pub fn string(&self, report: &mut Report) -> Option<String> {
        let text = self.node.text();
        if text.is_none() {
            self.wrong(report, "a single value");
        }
        text.map(str::to_owned)
    }

    fn parse<T>(
        &self,
        report: &mut Report,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.node.text().and_then(read);
        if value.is_none() {
            self.wrong(report, expected);
        }
        value
    }

    pub fn truth(&self, report: &mut Report) -> Option<bool> {
        self.parse(report, "`true` or `false`", scalar::truth)
    }

    pub fn duration(&self, report: &mut Report) -> Option<Duration> {
        let text = self.node.text();
        let value = text.and_then(scalar::duration);
        if value.is_none() {
            let error = self.wrong(report, "a duration like `30s` or `1m30s`");
            let bare = text.filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
            if let Some(number) = bare {
                error.hint(format!("it has no unit; write `{number}s` for seconds"));
            }
        }
        value
    }

    pub fn bytes(&self, report: &mut Report) -> Option<u64> {
        self.parse(report, "a size like `512m` or `1g`", scalar::bytes)
    }

    pub fn nano_cpus(&self, report: &mut Report) -> Option<u64> {
        self.parse(report, "a number of CPUs like `0.5`", scalar::nano_cpus)
    }

    /// A whole number that fits.
    pub fn number<T: std::str::FromStr>(&self, report: &mut Report) -> Option<T> {
        self.parse(report, "a whole number in range", |text| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if digits { text.parse().ok() } else { None }
        })
    }

    /// A number, or a name that the image is asked for when the container starts.
    pub fn account(&self, report: &mut Report) -> Option<Account> {
        let expected = "a number, or the name of an account of the image";
        self.parse(report, expected, |text| {
            let first = |c: char| c.is_ascii_alphabetic() || c == '_';
            let rest = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            match text.parse() {
                Ok(number) => Some(Account::Number(number)),
                Err(_) => {
                    (text.len() <= MAX_ACCOUNT && text.starts_with(first) && text.chars().all(rest))
                        .then(|| Account::Name(text.to_owned()))
                }
            }
        })
    }

    /// Microseconds, as a number or with a unit.
    pub fn micros(&self, report: &mut Report) -> Option<u64> {
        let expected = "a number of microseconds, or a duration like `50ms`";
        self.parse(report, expected, |text| match text.parse() {
            Ok(micros) => Some(micros),
            Err(_) => u64::try_from(scalar::duration(text)?.as_micros()).ok(),
        })
    }

    /// A port; 0 is none.
    pub fn port(&self, report: &mut Report) -> Option<u16> {
        self.parse(report, "a port from 1 to 65535", |text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|port| digits && *port > 0)
        })
    }

    /// Permission bits, with a warning where a decimal number is probably meant to be octal.
    pub fn mode(&self, report: &mut Report) -> Option<u32> {
        let Value::Scalar(scalar) = &self.node.value else {
            self.wrong(report, "permission bits like `0440`");
            return None;
        };
        let Some(mode) = scalar::mode(&scalar.text, scalar.quoted) else {
            self.wrong(report, "permission bits like `0440`");
            return None;
        };
        let looks_octal = scalar.text.bytes().all(|b| b < b'8');
        if mode.decimal && looks_octal && scalar.text.len() >= 3 {
            let text = &scalar.text;
            let message = format!(
                "{}: mode {text} is decimal and means 0{:o}",
                self.owner, mode.bits
            );
            report
                .warn("compose/decimal-mode", self.node.span, message)
                .hint(format!("write `0{text}` for octal"));
        }
        Some(mode.bits)
    }

    /// The items of a list.
    pub fn items(&self, report: &mut Report) -> Vec<Field<'n>> {
        match self.node.as_list() {
            Some(items) => items.iter().map(|node| Field { node, ..*self }).collect(),
            None => {
                self.wrong(report, "a list");
                Vec::new()
            }
        }
    }

    /// A list of single values.
    pub fn strings(&self, report: &mut Report) -> Vec<String> {
        let items = self.items(report);
        items
            .into_iter()
            .filter_map(|item| item.string(report))
            .collect()
    }

    /// A single value or a list of them.
    pub fn one_or_many(&self, report: &mut Report) -> Vec<Field<'n>> {
        match self.node.value {
            Value::Scalar(_) => vec![*self],
            _ => self.items(report),
        }
    }

    /// A mapping with any keys; those that start with `x-` are left out.
    pub fn entries(&self, report: &mut Report) -> Vec<(&'n str, Span, &'n Node)> {
        match self.node.as_map() {
            Some(map) => map
                .entries
                .iter()
                .filter(|(name, _)| !name.starts_with("x-"))
                .map(|(name, entry)| (name.as_str(), entry.key, &entry.value))
                .collect(),
            None => {
                match self.node.as_list() {
                    Some(_) if self.takes_names() => self.wrong_item(report, "a name"),
                    Some([first, ..]) if first.as_map().is_some() => {
                        self.wrong(report, "a mapping").hint("leave the dashes out");
                    }
                    _ => {
                        self.wrong(report, "a mapping");
                    }
                }
                Vec::new()
            }
        }
    }

    /// Names and single values; `None` for a name without one.
    pub fn pairs(&self, report: &mut Report) -> BTreeMap<String, Option<String>> {
        let Some(map) = self.node.as_map() else {
            match self.node.as_list() {
                Some(_) => self.wrong_item(report, "NAME=value"),
                None => {
                    self.wrong(report, "a mapping or a list of NAME=value");
                }
            }
            return BTreeMap::new();
        };
        let mut pairs = BTreeMap::new();
        for (name, entry) in &map.entries {
            let value = match &entry.value.value {
                Value::Null => None,
                Value::Scalar(scalar) => Some(scalar.text.clone()),
                Value::List(_) | Value::Map(_) => {
                    let field = Field {
                        owner: self.owner,
                        key: name,
                        node: &entry.value,
                    };
                    field.wrong(report, "a single value");
                    continue;
                }
            };
            if name.is_empty() {
                let message = format!("{}: `{}` has an empty name", self.owner, self.key);
                report.error("compose/value", entry.key, message);
                continue;
            }
            pairs.insert(name.clone(), value);
        }
        pairs
    }

    /// A mapping with known keys.
    pub fn fields(&self, section: &Section, report: &mut Report) -> Option<Fields<'n>> {
        Fields::open(
            format!("{}: `{}`", self.owner, self.key),
            self.node,
            section,
            report,
        )
    }
}

/// Unknown keys, and those that the table refuses or ignores.
fn check_keys(owner: &str, map: &Map, section: &Section, report: &mut Report) {
    for (name, entry) in &map.entries {
        if name.starts_with("x-") {
            continue;
        }
        let Some(key) = section.find(name) else {
            let message = format!("{owner} has unknown key `{name}`");
            let near = if report.is_full(Severity::Error) {
                None
            } else {
                suggest::nearest(name, section.keys.iter().map(|key| key.name))
            };
            let error = report.error("compose/unknown-key", entry.key, message);
            match near {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("keys of your own start with `x-`"),
            };
            continue;
        };
        if says_nothing(&entry.value) {
            continue;
        }
        match key.support {
            Support::Honoured | Support::Partly(_) | Support::Quiet(_) => {}
            Support::Ignored(why) => {
                let message = format!("{owner}: `{name}` has no effect: {why}");
                report.warn("compose/ignored", entry.key, message);
            }
            Support::Refused { why, hint } => {
                let message = format!("{owner}: `{name}` is not supported: {why}");
                report
                    .error("compose/unsupported", entry.key, message)
                    .hint(hint);
            }
        }
    }
}

/// A value that asks for nothing: empty, or `false`.
pub(crate) fn says_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Scalar(scalar) => {
            scalar.text.is_empty() || scalar::truth(&scalar.text) == Some(false)
        }
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.entries.is_empty(),
    }
}

/// Refuses one value of a key that is honoured for others.
pub(crate) fn refuse(field: Field<'_>, why: &str, hint: &str, report: &mut Report) {
    let value = field.node.text().unwrap_or_default();
    let message = format!(
        "{}: `{}: {value}` is not supported: {why}",
        field.owner, field.key
    );
    report
        .error("compose/unsupported", field.node.span, message)
        .hint(hint);
}

/// Which keys are asked for, for a test that none of a table is forgotten.
#[cfg(test)]
pub(crate) mod trace {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    /// Paths of sections and keys.
    type Keys = BTreeSet<(&'static str, String)>;

    thread_local! {
        static KEYS: RefCell<Option<Keys>> = const { RefCell::new(None) };
    }

    pub fn start() {
        KEYS.with_borrow_mut(|keys| *keys = Some(Keys::new()));
    }

    pub fn note(section: &'static str, key: &str) {
        KEYS.with_borrow_mut(|keys| {
            if let Some(keys) = keys {
                keys.insert((section, key.to_owned()));
            }
        });
    }

    pub fn stop() -> Keys {
        KEYS.take().unwrap_or_default()
    }
}
