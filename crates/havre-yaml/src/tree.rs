//! YAML text → a tree in which every node knows its place.
//!
//! Scalars keep their text: whether `no`, `0444` or `22:22` is a word or a number is decided by
//! the field that reads it, so the traps of YAML 1.1 do not arise. Anchors and merge keys are
//! resolved here, within a budget, so that a small file cannot become a large tree.

pub mod core;
mod relaxed;

use std::collections::HashMap;

use indexmap::IndexMap;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as YamlSpan, Tag};

use self::core::Core;
use crate::report::Report;
use crate::source::{LineColumn, SourceId, Span};
use relaxed::Relaxed;

/// Longest key: messages repeat keys.
const MAX_KEY_BYTES: usize = 1024;
/// Most nodes of a file after aliases are expanded.
const MAX_NODES: usize = 150_000;
/// Most bytes of text of a file after aliases are expanded.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// What a kind of file makes of YAML, and how large it may be.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// Deepest nesting.
    pub max_depth: usize,
    /// Whether `<<` merges mappings.
    pub merges: bool,
    /// Whether a text that only other parsers take is read as they do.
    pub relaxed: bool,
    /// What a tag does.
    pub tags: Tags,
}

/// Which tags there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// Compose's own, and YAML's without effect but `!!str`.
    Compose,
    /// YAML's own, each of which must fit its value.
    Core,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it says.
    pub value: Value,
    /// What its tag says about merging.
    pub directive: Option<Directive>,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// Empty, `~` or `null`.
    Null,
    /// Text, which may be a number or a truth value.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

/// A scalar's text.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// Without quotes and escapes.
    pub text: String,
    /// Written in quotes, as a block or with `!!str`: never a number or a truth value.
    pub quoted: bool,
}

/// Compose's own tags, which steer the merge of several files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// `!reset`: as if the key were not there.
    Reset,
    /// `!override`: replaces instead of being merged.
    Override,
}

/// A mapping in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// By key.
    pub entries: IndexMap<String, Entry>,
}

/// A key's place and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where the key stands.
    pub key: Span,
    /// What it holds.
    pub value: Node,
}

impl Node {
    /// An empty value.
    pub fn null(span: Span) -> Self {
        Self {
            span,
            value: Value::Null,
            directive: None,
        }
    }

    /// A scalar that was made, not read: at the place it was derived from.
    pub fn scalar(span: Span, text: impl Into<String>) -> Self {
        let scalar = Scalar {
            text: text.into(),
            quoted: true,
        };
        Self {
            span,
            value: Value::Scalar(scalar),
            directive: None,
        }
    }

    /// A list that was made.
    pub fn list(span: Span, items: Vec<Node>) -> Self {
        Self {
            span,
            value: Value::List(items),
            directive: None,
        }
    }

    /// A mapping that was made.
    pub fn map(span: Span, map: Map) -> Self {
        Self {
            span,
            value: Value::Map(map),
            directive: None,
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// The entries of a mapping.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The entries of a mapping, to be changed.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether nothing is written.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The kind of value in words, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "empty",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl Map {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// The place of a key, for messages about it.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.entries.get(key).map(|entry| entry.key)
    }

    /// Puts a key in, or another value in its place.
    pub fn insert(&mut self, key: impl Into<String>, at: Span, value: Node) {
        self.entries.insert(key.into(), Entry { key: at, value });
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        self.entries.shift_remove(key).map(|entry| entry.value)
    }
}

/// Parses every document of a file; `None` after an error was reported.
pub fn parse(source: SourceId, dialect: &Dialect, report: &mut Report) -> Option<Vec<Node>> {
    let text = report.sources.text(source).to_owned();
    let mark = report.mark();
    let error = match build(&text, Builder::new(source, dialect, None), report) {
        Built::Documents(documents) => return Some(documents),
        Built::Stopped => return None,
        Built::Syntax(error) => error,
    };
    let relaxed = dialect.relaxed.then(|| relaxed::relaxed(&text)).flatten();
    if let Some(relaxed) = relaxed {
        let findings = report.mark();
        let builder = Builder::new(source, dialect, Some(&relaxed));
        match build(&relaxed.text, builder, report) {
            Built::Documents(documents) => {
                // The first reading found the same up to where it ended.
                report.forget_between(mark, findings);
                return Some(documents);
            }
            Built::Stopped | Built::Syntax(_) => report.retain_since(findings, |_| false),
        }
    }
    let at = LineColumn {
        line: error.marker().line() as u32,
        column: error.marker().col() as u32 + 1,
    };
    let span = Span {
        source,
        start: at,
        end: at,
    };
    let message = format!("not valid YAML: {}", error.info());
    report.error("yaml/syntax", span, message);
    None
}

/// What became of a text.
enum Built {
    Documents(Vec<Node>),
    Syntax(ScanError),
    /// The reason is in the report.
    Stopped,
}

fn build(text: &str, mut builder: Builder<'_>, report: &mut Report) -> Built {
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                if builder.take(event, span, report).is_err() {
                    return Built::Stopped;
                }
            }
            Err(error) => return Built::Syntax(error),
        }
    }
    Built::Documents(builder.documents)
}

/// Parsing stopped; the reason is in the report.
struct Stopped;

/// A list or mapping that is not closed yet.
struct Open {
    span: Span,
    anchor: usize,
    directive: Option<Directive>,
    content: OpenContent,
}

enum OpenContent {
    List(Vec<Node>),
    Map {
        map: Map,
        /// A key without its value yet.
        key: Option<(String, Span)>,
        /// Values of `<<`, applied when the mapping ends.
        merges: Vec<Node>,
    },
}

struct Builder<'r> {
    source: SourceId,
    dialect: &'r Dialect,
    /// Where the text that is parsed is not the file's own.
    relaxed: Option<&'r Relaxed>,
    documents: Vec<Node>,
    stack: Vec<Open>,
    /// Finished anchors; an alias to one that is still open finds nothing.
    anchors: HashMap<usize, (Node, Size)>,
    nodes: usize,
    bytes: usize,
}

/// What copying a node costs.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    /// Levels of lists and mappings.
    depth: usize,
}

impl Size {
    fn of(nodes: usize, bytes: usize) -> Self {
        Self {
            nodes,
            bytes,
            depth: 0,
        }
    }
}

impl<'r> Builder<'r> {
    fn new(source: SourceId, dialect: &'r Dialect, relaxed: Option<&'r Relaxed>) -> Self {
        Self {
            source,
            dialect,
            relaxed,
            documents: Vec::new(),
            stack: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            bytes: 0,
        }
    }

    fn span(&self, span: YamlSpan) -> Span {
        let place = |marker: saphyr_parser::Marker| {
            let (line, column) = (marker.line() as u32, marker.col() as u32 + 1);
            let added = self.relaxed.map_or(0, |text| text.added(line));
            LineColumn {
                line,
                column: column.saturating_sub(added).max(1),
            }
        };
        Span {
            source: self.source,
            start: place(span.start),
            end: place(span.end),
        }
    }

    fn take(
        &mut self,
        event: Event<'_>,
        span: YamlSpan,
        report: &mut Report,
    ) -> Result<(), Stopped> {
        let span = self.span(span);
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(id) => {
                let copy = self.alias(id, span, report)?;
                self.place(copy, 0, report)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.pay(Size::of(1, text.len()), span, report)?;
                let tag = self.read_tag(tag.as_deref(), Some(&text), span, report)?;
                let directive = tag.directive;
                let quoted = tag.string.unwrap_or(style != ScalarStyle::Plain);
                let null = !quoted && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar(Scalar {
                        text: text.into_owned(),
                        quoted,
                    })
                };
                self.place(
                    Node {
                        span,
                        value,
                        directive,
                    },
                    anchor,
                    report,
                )
            }
            Event::SequenceStart(anchor, tag) => self.open(
                OpenContent::List(Vec::new()),
                anchor,
                tag.as_deref(),
                span,
                report,
            ),
            Event::MappingStart(anchor, tag) => {
                let content = OpenContent::Map {
                    map: Map::default(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(content, anchor, tag.as_deref(), span, report)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span, report),
        }
    }

    fn open(
        &mut self,
        content: OpenContent,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
        report: &mut Report,
    ) -> Result<(), Stopped> {
        self.pay(Size::of(1, 0), span, report)?;
        self.descend(1, span, report)?;
        let directive = self.read_tag(tag, None, span, report)?.directive;
        self.stack.push(Open {
            span,
            anchor,
            directive,
            content,
        });
        Ok(())
    }

    fn close(&mut self, end: Span, report: &mut Report) -> Result<(), Stopped> {
        let Some(open) = self.stack.pop() else {
            return Ok(());
        };
        // Of a block, the end has no width; of a list in brackets it is the bracket.
        let span = Span {
            end: end.end,
            ..open.span
        };
        let value = match open.content {
            OpenContent::List(items) => Value::List(items),
            OpenContent::Map {
                mut map, merges, ..
            } => {
                apply_merges(&mut map, merges, report)?;
                Value::Map(map)
            }
        };
        self.place(
            Node {
                span,
                value,
                directive: open.directive,
            },
            open.anchor,
            report,
        )
    }

    /// Whether so many more levels may stand here.
    fn descend(&self, levels: usize, span: Span, report: &mut Report) -> Result<(), Stopped> {
        let most = self.dialect.max_depth;
        if self.stack.len() + levels <= most {
            return Ok(());
        }
        let message = format!("nested deeper than {most} levels");
        report.error("yaml/too-deep", span, message);
        Err(Stopped)
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, anchor: usize, report: &mut Report) -> Result<(), Stopped> {
        if anchor != 0 {
            let size = size_of(&node);
            // The anchor's own copy is paid for as well: anchors nest.
            self.pay(size, node.span, report)?;
            let mut copy = node.clone();
            copy.directive = None;
            self.anchors.insert(anchor, (copy, size));
        }
        let Some(open) = self.stack.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.content {
            OpenContent::List(items) => items.push(node),
            OpenContent::Map { map, key, merges } => {
                let is_merge = key.as_ref().is_some_and(|(name, _)| name == "<<");
                match key.take() {
                    None => *key = Some(read_key(&node, map, report)?),
                    Some((_, at)) if is_merge && !self.dialect.merges => {
                        report
                            .error("yaml/merge-key", at, "`<<` merges nothing here")
                            .hint("an alias stands for a whole value; write the keys out");
                        return Err(Stopped);
                    }
                    Some((_, at)) if is_merge => {
                        if node.is_null() {
                            report.error("yaml/merge-key", at, "`<<` merges nothing");
                            return Err(Stopped);
                        }
                        merges.push(node);
                    }
                    Some((name, at)) => map.insert(name, at, node),
                }
            }
        }
        Ok(())
    }

    fn alias(&mut self, id: usize, span: Span, report: &mut Report) -> Result<Node, Stopped> {
        let Some((_, size)) = self.anchors.get(&id) else {
            report.error("yaml/alias", span, "alias to a value that contains it");
            return Err(Stopped);
        };
        let size = *size;
        self.pay(size, span, report)?;
        self.descend(size.depth, span, report)?;
        Ok(self.anchors[&id].0.clone())
    }

    fn pay(&mut self, size: Size, span: Span, report: &mut Report) -> Result<(), Stopped> {
        self.nodes += size.nodes;
        self.bytes += size.bytes;
        if self.nodes <= MAX_NODES && self.bytes <= MAX_TEXT_BYTES {
            return Ok(());
        }
        let message = format!(
            "the file grows beyond {MAX_NODES} values or {} MiB of text when its aliases are \
             expanded",
            MAX_TEXT_BYTES >> 20
        );
        report.error("yaml/too-large", span, message);
        Err(Stopped)
    }
}

fn size_of(node: &Node) -> Size {
    let mut size = Size::of(1, 0);
    let mut add = |inner: Size| {
        size.nodes += inner.nodes;
        size.bytes += inner.bytes;
        size.depth = size.depth.max(inner.depth);
    };
    match &node.value {
        Value::Null => return size,
        Value::Scalar(scalar) => {
            size.bytes = scalar.text.len();
            return size;
        }
        Value::List(items) => items.iter().for_each(|item| add(size_of(item))),
        Value::Map(map) => {
            for (key, entry) in &map.entries {
                add(Size::of(0, key.len()));
                add(size_of(&entry.value));
            }
        }
    }
    size.depth += 1;
    size
}

fn read_key(node: &Node, map: &Map, report: &mut Report) -> Result<(String, Span), Stopped> {
    let name = match &node.value {
        Value::Scalar(scalar) => scalar.text.clone(),
        Value::Null => "null".to_owned(),
        Value::List(_) | Value::Map(_) => {
            let message = format!("a key must be a single value, not {}", node.kind());
            report.error("yaml/key", node.span, message);
            return Err(Stopped);
        }
    };
    if name.len() > MAX_KEY_BYTES {
        let message = format!("a key is longer than {MAX_KEY_BYTES} bytes");
        report.error("yaml/key", node.span, message);
        return Err(Stopped);
    }
    if let Some(first) = map.key_span(&name) {
        let message = format!("key `{name}` is given twice");
        report
            .error("yaml/duplicate-key", node.span, message)
            .hint(format!(
                "the first one is in line {}; keep one of them",
                first.start.line
            ));
        // The tree stays usable: the later value wins, and the error is already recorded.
    }
    Ok((name, node.span))
}

/// `<<: *base` or `<<: [*a, *b]`: keys that the mapping lacks, earlier ones first.
fn apply_merges(map: &mut Map, merges: Vec<Node>, report: &mut Report) -> Result<(), Stopped> {
    for node in merges {
        let span = node.span;
        let sources = match node.value {
            Value::List(items) => items,
            value => vec![Node {
                span,
                value,
                directive: None,
            }],
        };
        for source in sources {
            let Value::Map(base) = source.value else {
                let message = format!("`<<` takes a mapping or a list of mappings, not {}", {
                    source.kind()
                });
                report.error("yaml/merge-key", source.span, message);
                return Err(Stopped);
            };
            for (key, entry) in base.entries {
                map.entries.entry(key).or_insert(entry);
            }
        }
    }
    Ok(())
}

/// What a tag says of its value.
#[derive(Default)]
struct Tagged {
    directive: Option<Directive>,
    /// Whether it is text, whatever it looks like; `None`: as it is written.
    string: Option<bool>,
}

impl Builder<'_> {
    /// `text`: of a scalar.
    fn read_tag(
        &self,
        tag: Option<&Tag>,
        text: Option<&str>,
        span: Span,
        report: &mut Report,
    ) -> Result<Tagged, Stopped> {
        let Some(tag) = tag else {
            return Ok(Tagged::default());
        };
        let read = match self.dialect.tags {
            Tags::Compose => compose_tag(tag),
            Tags::Core => core_tag(tag, text),
        };
        read.map_err(|wrong| {
            match wrong {
                WrongTag::Unknown(hint) => {
                    let message = format!("tag `{tag}` is not known");
                    report.error("yaml/unknown-tag", span, message).hint(hint)
                }
                WrongTag::Unfit => {
                    let message = format!("the value does not fit its tag `{tag}`");
                    report.error("yaml/tag", span, message)
                }
            };
            Stopped
        })
    }
}

enum WrongTag {
    /// With what there is instead.
    Unknown(&'static str),
    /// The value is of another kind.
    Unfit,
}

fn compose_tag(tag: &Tag) -> Result<Tagged, WrongTag> {
    let directive = |directive| {
        Ok(Tagged {
            directive: Some(directive),
            string: None,
        })
    };
    let plain = |string: bool| {
        Ok(Tagged {
            directive: None,
            string: string.then_some(true),
        })
    };
    let suffix = tag.suffix.as_str();
    if tag.is_yaml_core_schema() {
        // `merge` is what `<<` has anyway; yq writes it out.
        let known = ["str", "int", "float", "bool", "null", "map", "seq", "merge"];
        if known.contains(&suffix) {
            return plain(suffix == "str");
        }
    } else if tag.handle == "!" {
        match suffix {
            "reset" => return directive(Directive::Reset),
            "override" => return directive(Directive::Override),
            "" => return plain(true),
            _ => {}
        }
    }
    Err(WrongTag::Unknown("compose knows `!reset` and `!override`"))
}

fn core_tag(tag: &Tag, text: Option<&str>) -> Result<Tagged, WrongTag> {
    let string = |string| {
        Ok(Tagged {
            directive: None,
            string: Some(string),
        })
    };
    let whole = tag.suffix.as_str();
    if tag.handle == "!" && whole.is_empty() {
        return string(true);
    }
    // As `!<tag:yaml.org,2002:int>` is read.
    let verbatim = whole.strip_prefix("tag:yaml.org,2002:");
    let of_schema = tag.is_yaml_core_schema().then_some(whole);
    let Some(suffix) = of_schema.or(verbatim) else {
        return Err(WrongTag::Unknown(
            "leave it out; an expression that begins with `!` is written in `${{ }}`",
        ));
    };
    let fits = |kind: fn(&Core) -> bool| match text {
        Some(text) if kind(&core::core(text)) => string(false),
        _ => Err(WrongTag::Unfit),
    };
    match suffix {
        "str" if text.is_some() => string(true),
        "int" => fits(|core| matches!(core, Core::Number(number) if number.fract() == 0.0)),
        "float" => fits(|core| matches!(core, Core::Number(_))),
        "bool" => fits(|core| matches!(core, Core::Boolean(_))),
        "null" => fits(|core| matches!(core, Core::Null)),
        "map" | "seq" if text.is_none() => Ok(Tagged::default()),
        "str" | "map" | "seq" => Err(WrongTag::Unfit),
        _ => Err(WrongTag::Unknown("leave it out")),
    }
}

/// Values in a mapping, itself included.
pub fn count(map: &Map) -> usize {
    1 + map
        .entries
        .values()
        .map(|entry| size_of(&entry.value).nodes)
        .sum::<usize>()
}

/// Whether two trees say the same, wherever they stand.
pub fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Null, Value::Null) => true,
        (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.entries.len() == b.entries.len()
                && a.entries
                    .iter()
                    .all(|(key, entry)| b.get(key).is_some_and(|other| same(&entry.value, other)))
        }
        _ => false,
    }
}
