//! The project as one compose file: merged, interpolated, every short form written out. Reading
//! it gives the same project again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::mask;
use crate::project::{Project, Service, ServiceName};
use crate::report::Report;
use crate::source::Span;
use crate::yaml::{Entry, Map, Node, Value};

/// How a project is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigView {
    /// Show secrets as they are.
    pub reveal: bool,
    /// Say behind each value where it comes from.
    pub sources: bool,
}

/// Top-level keys in the order in which they are shown; extensions follow.
const ORDER: [&str; 5] = ["services", "networks", "volumes", "secrets", "configs"];
/// Keys of a service that are spent: what they name stands in the service itself by now.
const SPENT: [&str; 3] = ["env_file", "extends", "label_file"];
/// Where a value comes from that stands in no YAML file.
const NOT_WRITTEN: &str = "from env_file or the environment";

/// Longest key, in bytes, that YAML finds before a colon by itself.
const MAX_SIMPLE_KEY: usize = 1000;

/// A project as one compose file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config(Vec<(String, Shown)>);

/// A value as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Null,
    Text {
        text: String,
        /// A string, whatever it looks like.
        quoted: bool,
        origin: Option<String>,
    },
    List(Vec<Shown>),
    Map(Vec<(String, Shown)>),
}

/// The project that was read from `tree`.
pub(crate) fn config(tree: &Node, project: &Project, report: &Report, view: ConfigView) -> Config {
    let shaper = Shaper { report, view };
    let mut top = vec![(
        "name".to_owned(),
        shaper.string(project.name.as_str(), None),
    )];
    let written = tree.as_map();
    for name in ORDER {
        let Some(node) = written.and_then(|top| top.get(name)) else {
            continue;
        };
        let shown = match name {
            "services" => shaper.services(node, project),
            _ => shaper.node(node, &[]),
        };
        if !shown.is_empty() {
            top.push((name.to_owned(), shown));
        }
    }
    for (key, entry) in written.into_iter().flat_map(|top| &top.entries) {
        if key.starts_with("x-") {
            top.push((key.clone(), shaper.node(&entry.value, &[])));
        }
    }
    Config(top)
}

/// A `build` with the folder it takes where none is written: the file's own.
fn with_context<'n>(key: &str, node: &'n Node, service: &Service) -> Cow<'n, Node> {
    match (&service.build, node.as_map()) {
        (Some(build), Some(map)) if key == "build" && map.get("context").is_none() => {
            let mut node = node.clone();
            let context = Node::scalar(node.span, build.context.display().to_string());
            if let Some(map) = node.as_map_mut() {
                map.insert("context", context.span, context);
            }
            Cow::Owned(node)
        }
        _ => Cow::Borrowed(node),
    }
}

struct Shaper<'r> {
    report: &'r Report,
    view: ConfigView,
}

impl Shaper<'_> {
    fn services(&self, node: &Node, project: &Project) -> Shown {
        let services = project.services.iter().filter_map(|(name, service)| {
            let written = node.as_map()?.get(name.as_str())?.as_map()?;
            Some((name.to_string(), self.service(name, service, written)))
        });
        Shown::Map(services.collect())
    }

    fn service(&self, name: &ServiceName, service: &Service, written: &Map) -> Shown {
        let mut keys: BTreeMap<&str, Shown> = written
            .entries
            .iter()
            .filter(|(key, _)| !SPENT.contains(&key.as_str()))
            .map(|(key, entry)| {
                let value = with_context(key, &entry.value, service);
                (key.as_str(), self.node(&value, &[name.as_str(), key]))
            })
            .collect();
        // Known in full, also what comes from files alone.
        for (key, all) in [
            ("environment", &service.environment),
            ("labels", &service.labels),
        ] {
            let written = written.get(key).and_then(Node::as_map);
            keys.remove(key);
            if !all.is_empty() {
                keys.insert(key, self.variables(all, written));
            }
        }
        Shown::Map(
            keys.into_iter()
                .map(|(key, shown)| (key.to_owned(), shown))
                .collect(),
        )
    }

    fn variables(&self, all: &BTreeMap<String, String>, written: Option<&Map>) -> Shown {
        let shown = all.iter().map(|(name, value)| {
            let origin = match written.and_then(|map| map.get(name)) {
                Some(node) => self.origin(node.span),
                None => self.view.sources.then(|| NOT_WRITTEN.to_owned()),
            };
            (name.clone(), self.string(&self.masked(name, value), origin))
        });
        Shown::Map(shown.collect())
    }

    /// `path`: the service and the keys below it.
    fn node(&self, node: &Node, path: &[&str]) -> Shown {
        match &node.value {
            Value::Null => Shown::Null,
            Value::Scalar(scalar) => {
                let text = match (path, self.view.reveal) {
                    (_, true) => scalar.text.clone(),
                    ([_, "build", "args", name] | [_, _, "environment", name], false) => {
                        mask::value(name, &scalar.text)
                    }
                    (_, false) => mask::url_password(&scalar.text),
                };
                Shown::Text {
                    text,
                    quoted: scalar.quoted,
                    origin: self.origin(node.span),
                }
            }
            Value::List(items) => {
                Shown::List(items.iter().map(|item| self.node(item, path)).collect())
            }
            Value::Map(map) => {
                let sorted: BTreeMap<&String, &Entry> = map.entries.iter().collect();
                let entry = |(key, entry): (&String, &Entry)| {
                    let below = [path, &[key]].concat();
                    (key.clone(), self.node(&entry.value, &below))
                };
                Shown::Map(sorted.into_iter().map(entry).collect())
            }
        }
    }

    fn masked(&self, name: &str, value: &str) -> String {
        match self.view.reveal {
            true => value.to_owned(),
            false => mask::value(name, value),
        }
    }

    fn string(&self, text: &str, origin: Option<String>) -> Shown {
        Shown::Text {
            text: text.to_owned(),
            quoted: true,
            origin,
        }
    }

    fn origin(&self, span: Span) -> Option<String> {
        self.view.sources.then(|| {
            let place = self.report.sources.location(span);
            format!("{}:{}", place.file.display(), place.line)
        })
    }
}

impl Config {
    /// As YAML that any reader of compose files takes.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        for (key, value) in &self.0 {
            entry(&mut out, key, value, 0);
        }
        out
    }
}

/// Numbers and truth values as such.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => serializer.collect_map(entries.iter().map(|(k, v)| (k, v))),
            // Whoever reads it interpolates again, as with the YAML.
            Self::Text { text, quoted, .. } => match (quoted, text.replace('$', "$$").as_str()) {
                (false, "true") => serializer.serialize_bool(true),
                (false, "false") => serializer.serialize_bool(false),
                // Only what is written as JSON would write it: `0440` is no 440.
                (false, text) => match text.parse::<i64>() {
                    Ok(number) if number.to_string() == *text => serializer.serialize_i64(number),
                    _ => serializer.serialize_str(text),
                },
                (true, text) => serializer.serialize_str(text),
            },
        }
    }
}

impl Shown {
    fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text { .. } => false,
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
        }
    }

    /// What stands behind a key or a dash; `None`: lines of its own.
    fn inline(&self) -> Option<String> {
        match self {
            Self::Null => Some("null".to_owned()),
            Self::List(items) if items.is_empty() => Some("[]".to_owned()),
            Self::Map(entries) if entries.is_empty() => Some("{}".to_owned()),
            Self::List(_) | Self::Map(_) => None,
            Self::Text {
                text,
                quoted,
                origin,
            } => {
                let mut line = escaped(text, *quoted);
                if let Some(origin) = origin {
                    line.push_str(" # ");
                    line.push_str(origin);
                }
                Some(line)
            }
        }
    }
}

fn entry(out: &mut String, key: &str, value: &Shown, depth: usize) {
    indent(out, depth);
    let key = scalar(key, true);
    if key.len() > MAX_SIMPLE_KEY {
        out.push_str("? ");
        out.push_str(&key);
        out.push('\n');
        indent(out, depth);
    } else {
        out.push_str(&key);
    }
    match value.inline() {
        Some(line) => {
            out.push_str(": ");
            out.push_str(&line);
            out.push('\n');
        }
        None => {
            out.push_str(":\n");
            lines(out, value, depth + 1);
        }
    }
}

/// A list or a mapping on lines of its own.
fn lines(out: &mut String, value: &Shown, depth: usize) {
    match value {
        Shown::Map(entries) => {
            for (key, value) in entries {
                entry(out, key, value, depth);
            }
        }
        Shown::List(items) => {
            for item in items {
                let start = out.len();
                match item.inline() {
                    Some(line) => {
                        indent(out, depth + 1);
                        out.push_str(&line);
                        out.push('\n');
                    }
                    None => lines(out, item, depth + 1),
                }
                // The last step of the first line's indentation gives way to the dash.
                let dash = start + 2 * depth;
                out.replace_range(dash..dash + 2, "- ");
            }
        }
        Shown::Null | Shown::Text { .. } => {}
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// The images of a project, by the names they have on this machine.
pub fn images(project: &Project) -> Vec<String> {
    let image = |(name, service): (&ServiceName, &Service)| {
        service
            .image
            .clone()
            .unwrap_or_else(|| format!("{}-{name}", project.name))
    };
    let mut images: Vec<String> = project.services.iter().map(image).collect();
    images.sort();
    images.dedup();
    images
}

/// A value that must not be interpolated once more.
fn escaped(text: &str, quoted: bool) -> String {
    scalar(&text.replace('$', "$$"), quoted)
}

/// A scalar that every reader of YAML takes for the same text. `quoted`: it is a string, whatever
/// it looks like.
fn scalar(text: &str, quoted: bool) -> String {
    if is_plain(text) && !(quoted && looks_like_something_else(text)) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Needs no quotes anywhere.
fn is_plain(text: &str) -> bool {
    let starts_well = text
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '$' | '+'));
    let safe = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(
                c,
                ' ' | '/'
                    | '.'
                    | '_'
                    | '$'
                    | '-'
                    | '+'
                    | '='
                    | '@'
                    | ':'
                    | '%'
                    | '('
                    | ')'
                    | ';'
                    | '~'
                    | '^'
                    | '<'
                    | '>'
                    | ','
            )
            || (!c.is_ascii() && c.is_alphanumeric())
    };
    starts_well
        && text.chars().all(safe)
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
}

/// A truth value, null, a number, a time or a date to some reader.
fn looks_like_something_else(text: &str) -> bool {
    const WORDS: [&str; 11] = [
        "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf",
    ];
    let lower = text.to_ascii_lowercase();
    WORDS.contains(&lower.trim_start_matches(['.', '+']))
        || text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+'))
            && text.chars().all(|c| {
                c.is_ascii_hexdigit()
                    || matches!(c, '.' | '_' | ':' | '+' | '-' | 'x' | 'o' | 'T' | 'Z' | ' ')
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_stay_strings() {
        for (text, shown) in [
            ("web", "web"),
            ("/data", "/data"),
            ("yes", "\"yes\""),
            ("1.10", "\"1.10\""),
            ("22:22", "\"22:22\""),
            ("0x1f", "\"0x1f\""),
            ("5432:5432/tcp", "5432:5432/tcp"),
            ("a: b", "\"a: b\""),
            ("a #b", "\"a #b\""),
            ("", "\"\""),
            ("- x", "\"- x\""),
            ("two\nlines\u{7}", "\"two\\nlines\\u0007\""),
            ("été", "\"été\""),
            ("~", "\"~\""),
        ] {
            assert_eq!(scalar(text, true), shown);
        }
        assert_eq!(scalar("8080", false), "8080");
        assert_eq!(escaped("$HOME", true), "$$HOME");
    }
}
