//! Checks a tree against the table of keys: kinds of values, unknown and missing keys, and what
//! expressions may use where.

use std::collections::HashSet;

use havre_expressions::{Piece, pieces};
use havre_yaml::tree::core::Core;
use havre_yaml::{Follow, Map, Node, Report, Severity, Span, Value, suggest};

use crate::expression;
use crate::schema::{Allowed, FUNCTIONS, Key, NOTHING, ROOT, Section, Shape, Support};
use crate::text::{as_text, kind, short};

/// Every context there is.
const CONTEXTS: &[&str] = &[
    "env", "github", "inputs", "job", "jobs", "matrix", "needs", "runner", "secrets", "steps",
    "strategy", "vars",
];

/// Bytes of a path in a message, beside its last step: what is said of it matters more.
const MAX_OWNER: usize = 200;

/// Records everything that the table does not allow.
pub(crate) fn check(root: &Node, report: &mut Report) {
    check_as(
        "the workflow",
        root,
        &Shape::Section(&ROOT),
        &NOTHING,
        report,
    );
}

/// The same for anything else that is read by a table; `what` is what messages call it.
pub(crate) fn check_as(
    what: &'static str,
    root: &Node,
    shape: &Shape,
    allowed: &Allowed,
    report: &mut Report,
) {
    let mut checker = Checker {
        report,
        what,
        path: Vec::new(),
    };
    checker.value(root, shape, allowed);
}

struct Checker<'r, 'n> {
    report: &'r mut Report,
    /// The whole, as messages name it.
    what: &'static str,
    /// Keys and indices down to the value that is looked at.
    path: Vec<Step<'n>>,
}

#[derive(Clone, Copy)]
enum Step<'n> {
    Key(&'n str),
    Index(usize),
}

impl<'n> Checker<'_, 'n> {
    /// The value that is looked at, as messages name it.
    fn owner(&self) -> String {
        if self.path.is_empty() {
            return self.what.to_owned();
        }
        let mut path = String::new();
        for step in &self.path {
            if path.len() > MAX_OWNER {
                path.push('…');
                break;
            }
            match step {
                Step::Key(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&short(name));
                }
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        format!("`{path}`")
    }

    fn below(&mut self, step: Step<'n>, node: &'n Node, shape: &Shape, allowed: &Allowed) {
        self.path.push(step);
        self.value(node, shape, allowed);
        self.path.pop();
    }

    fn value(&mut self, node: &'n Node, shape: &Shape, allowed: &Allowed) {
        if let Value::Scalar(scalar) = &node.value
            && !matches!(shape, Shape::Condition)
            && scalar.text.contains("${{")
        {
            self.template(node.span, &scalar.text, shape, allowed);
            return;
        }
        match (shape, &node.value) {
            (Shape::OneOf(shapes), _) => match shapes.iter().find(|shape| takes(shape, node)) {
                Some(shape) => self.value(node, shape, allowed),
                None => self.wrong(node, shape),
            },
            (Shape::Any, Value::List(items)) => self.items(items, &Shape::Any, allowed),
            (Shape::Any, Value::Map(map)) => self.entries(map, &Shape::Any, allowed),
            (Shape::Any, Value::Scalar(_)) => self.odd_number(node),
            (Shape::List(inner), Value::List(items)) => self.items(items, inner, allowed),
            (Shape::Map(inner), Value::Map(map)) => self.entries(map, inner, allowed),
            (Shape::Section(section), Value::Map(map)) => {
                self.section(node.span, map, section, allowed);
            }
            (Shape::Open(section, inner), Value::Map(map)) => {
                self.open(map, section, inner, allowed);
            }
            (Shape::Variants(sections), Value::Map(map)) => {
                self.variants(node.span, map, sections, allowed);
            }
            (Shape::Condition, Value::Scalar(scalar)) => {
                self.condition(node.span, &scalar.text, allowed);
            }
            (Shape::Word(words), Value::Scalar(scalar)) => {
                if !words.contains(&&*scalar.text) {
                    self.wrong_word(node, &scalar.text, words);
                }
            }
            (Shape::Text | Shape::NonEmpty | Shape::Scalar, Value::Scalar(_))
                if takes(shape, node) =>
            {
                self.odd_number(node);
            }
            _ if takes(shape, node) => {}
            _ => self.wrong(node, shape),
        }
    }

    fn items(&mut self, items: &'n [Node], shape: &Shape, allowed: &Allowed) {
        for (index, item) in items.iter().enumerate() {
            self.below(Step::Index(index), item, shape, allowed);
        }
    }

    fn entries(&mut self, map: &'n Map, shape: &Shape, allowed: &Allowed) {
        self.names(map);
        for (name, entry) in &map.entries {
            self.below(Step::Key(name), &entry.value, shape, allowed);
        }
    }

    /// What holds for the keys of every mapping.
    fn names(&mut self, map: &'n Map) {
        let mut seen: HashSet<String> = HashSet::new();
        for (name, entry) in &map.entries {
            if name.contains("${{") {
                let message = format!("{}: a key may not be an expression", self.owner());
                self.report
                    .error("workflow/expression-place", entry.key, message);
            } else if name.is_empty() {
                let message = format!("{} has an empty key", self.owner());
                self.report.error("workflow/value", entry.key, message);
            }
            if !seen.insert(name.to_lowercase()) {
                let message = format!(
                    "{} has `{name}` twice, in capital and in small letters",
                    self.owner()
                );
                self.report
                    .error("workflow/duplicate-key", entry.key, message);
            }
        }
    }

    fn section(&mut self, span: Span, map: &'n Map, section: &Section, allowed: &Allowed) {
        self.names(map);
        for (name, entry) in &map.entries {
            match section.find(name) {
                Some(key) => self.keyed(name, entry.key, &entry.value, key, allowed),
                None => {
                    let known = section.keys.iter().map(|key| key.name);
                    self.unknown(name, entry.key, known);
                }
            }
        }
        self.required(span, map, section);
    }

    fn open(&mut self, map: &'n Map, section: &Section, inner: &Shape, allowed: &Allowed) {
        self.names(map);
        for (name, entry) in &map.entries {
            match section.find(name) {
                Some(key) => self.keyed(name, entry.key, &entry.value, key, allowed),
                None => self.below(Step::Key(name), &entry.value, inner, allowed),
            }
        }
    }

    /// Each key rules out the kinds that do not have it, as GitHub reads it.
    fn variants(&mut self, span: Span, map: &'n Map, sections: &[&Section], allowed: &Allowed) {
        self.names(map);
        let mut left: Vec<&Section> = sections.to_vec();
        let mut misplaced = Vec::new();
        for (name, entry) in &map.entries {
            let having: Vec<&Section> = left
                .iter()
                .copied()
                .filter(|section| section.find(name).is_some())
                .collect();
            if !having.is_empty() {
                left = having;
            } else if sections.iter().any(|section| section.find(name).is_some()) {
                misplaced.push((name, entry.key));
            } else {
                let known = sections.iter().flat_map(|section| section.keys);
                self.unknown(name, entry.key, known.map(|key| key.name));
            }
        }
        let complete = left.iter().copied().find(|section| {
            let mut required = section.keys.iter().filter(|key| key.required);
            required.all(|key| map.get(key.name).is_some())
        });
        let chosen = complete.unwrap_or(left[0]);
        for (name, key) in misplaced {
            let marks: Vec<String> = required(chosen).map(|name| format!("`{name}`")).collect();
            let message = format!(
                "{}: `{name}` does not go with {}",
                self.owner(),
                marks.join(" and ")
            );
            self.report.error("workflow/conflict", key, message);
        }
        if complete.is_none() && left.len() > 1 {
            let marks: Vec<String> = left
                .iter()
                .flat_map(|section| required(section))
                .map(|name| format!("`{name}`"))
                .collect();
            let message = format!("{} lacks one of {}", self.owner(), marks.join(", "));
            self.report.error("workflow/missing-key", span, message);
        } else {
            self.required(span, map, chosen);
        }
        for (name, entry) in &map.entries {
            if let Some(key) = chosen.find(name) {
                self.keyed(name, entry.key, &entry.value, key, allowed);
            }
        }
    }

    fn required(&mut self, span: Span, map: &Map, section: &Section) {
        for name in required(section) {
            if map.get(name).is_none() {
                let message = format!("{} lacks `{name}`", self.owner());
                self.report.error("workflow/missing-key", span, message);
            }
        }
    }

    fn keyed(&mut self, name: &'n str, at: Span, node: &'n Node, key: &Key, around: &Allowed) {
        match key.support {
            Support::Honoured | Support::Partly(_) | Support::Quiet(_) => {}
            Support::Ignored(why) => {
                let message = format!("{}: `{name}` has no effect: {why}", self.owner());
                self.report.warn("workflow/ignored", at, message);
            }
            Support::Refused { why, hint } => {
                let message = format!("{}: `{name}` is not supported: {why}", self.owner());
                self.report
                    .error("workflow/unsupported", at, message)
                    .hint(hint);
            }
        }
        let allowed = key.allowed.unwrap_or(around);
        self.below(Step::Key(name), node, &key.shape, allowed);
    }

    fn unknown(&mut self, name: &str, at: Span, known: impl Iterator<Item = &'static str>) {
        if name.is_empty() || name.contains("${{") {
            return;
        }
        let message = format!("{} has unknown key `{name}`", self.owner());
        let near = self.report.nearest(Severity::Error, name, known);
        let error = self.report.error("workflow/unknown-key", at, message);
        if let Some(near) = near {
            error.hint(format!("did you mean `{near}`?"));
        }
    }

    /// Says that the value is not what it must be.
    fn wrong(&mut self, node: &Node, shape: &Shape) {
        let found = match &node.value {
            Value::Scalar(scalar) if scalar.text.is_empty() => "empty".to_owned(),
            Value::Scalar(scalar) => format!("`{}`", short(&scalar.text)),
            _ => node.kind().to_owned(),
        };
        let message = format!("{} must be {}, not {found}", self.owner(), expected(shape));
        let quoted = matches!(&node.value, Value::Scalar(scalar) if scalar.quoted);
        let error = self.report.error("workflow/type", node.span, message);
        if quoted && matches!(shape, Shape::Boolean | Shape::Number) {
            error.hint("leave the quotes out");
        }
    }

    fn wrong_word(&mut self, node: &Node, text: &str, words: &'static [&'static str]) {
        let message = format!("{} has the unknown value `{}`", self.owner(), short(text));
        let near = self
            .report
            .nearest(Severity::Error, text, words.iter().copied());
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", words.join(", ")),
        };
        self.report
            .error("workflow/value", node.span, message)
            .hint(hint);
    }

    /// Numbers that become another text than what is written, as versions do.
    fn odd_number(&mut self, node: &Node) {
        let Value::Scalar(scalar) = &node.value else {
            return;
        };
        if !matches!(kind(scalar), Core::Number(_)) || !scalar.text.contains('.') {
            return;
        }
        let text = as_text(scalar);
        if text != scalar.text {
            let written = short(&scalar.text);
            let message = format!("{}: `{written}` is the number {text}", self.owner());
            self.report
                .warn("workflow/number", node.span, message)
                .hint(format!("write '{written}' where text is meant"));
        }
    }

    /// A text with expressions in it.
    fn template(&mut self, span: Span, text: &'n str, shape: &Shape, allowed: &Allowed) {
        if allowed.contexts.is_empty() {
            let message = format!("{} may have no expression", self.owner());
            self.report
                .error("workflow/expression-place", span, message);
            return;
        }
        let pieces = pieces(text);
        let alone = match pieces.as_slice() {
            [Piece::Text(blank), rest @ ..] if blank.trim().is_empty() => rest.len() == 1,
            [_, Piece::Text(blank)] => blank.trim().is_empty(),
            all => all.len() == 1,
        };
        if !alone && !takes_text(shape) {
            let message = format!(
                "{} must be {} or one expression, not text around one",
                self.owner(),
                expected(shape)
            );
            self.report.error("workflow/type", span, message);
            return;
        }
        self.pieces(span, text, &pieces, allowed);
    }

    fn condition(&mut self, span: Span, text: &'n str, allowed: &Allowed) {
        if !text.contains("${{") {
            if !text.trim().is_empty() {
                let whole = [Piece::Expression(text, 0)];
                self.pieces(span, text, &whole, allowed);
            }
            return;
        }
        let pieces = pieces(text);
        let texts = pieces.iter().filter(|piece| match piece {
            Piece::Text(text) => !text.trim().is_empty(),
            Piece::Expression(..) | Piece::Unclosed(_) => false,
        });
        if texts.count() > 0 {
            let message = format!(
                "{} is always true: it is text, which is not empty",
                self.owner()
            );
            self.report
                .warn("workflow/condition", span, message)
                .hint("put all of it into one `${{ }}`, or leave `${{ }}` out");
        }
        self.pieces(span, text, &pieces, allowed);
    }

    fn pieces(&mut self, span: Span, text: &str, pieces: &[Piece<'_>], allowed: &Allowed) {
        // What is found, with the bytes it is about.
        let mut found: Vec<(usize, usize, &'static str, String, String)> = Vec::new();
        for piece in pieces {
            match *piece {
                Piece::Text(_) => {}
                Piece::Unclosed(at) => {
                    let message = "the expression has no end: `}}` is missing".to_owned();
                    found.push((at, at + 3, "workflow/expression", message, String::new()));
                }
                Piece::Expression(inner, offset) => {
                    for mut finding in judge(inner, allowed) {
                        finding.0 += offset;
                        finding.1 += offset;
                        found.push(finding);
                    }
                }
            }
        }
        if found.is_empty() {
            return;
        }
        found.sort_by_key(|finding| finding.0);
        let owner = self.owner();
        let places: Vec<Span> = {
            let mut follow = Follow::new(&self.report.sources, span, text);
            let mut last = 0;
            found
                .iter()
                .map(|(from, to, ..)| {
                    let from = (*from).max(last);
                    last = (*to).max(from);
                    follow.span(from, last)
                })
                .collect()
        };
        for ((_, _, code, message, hint), at) in found.into_iter().zip(places) {
            let error = self.report.error(code, at, format!("{owner}: {message}"));
            if !hint.is_empty() {
                error.hint(hint);
            }
        }
    }
}

/// What is wrong with one expression: from byte, to byte, code, message, hint.
fn judge(text: &str, allowed: &Allowed) -> Vec<(usize, usize, &'static str, String, String)> {
    let uses = match expression::parse(text) {
        Ok(uses) => uses,
        Err(wrong) => {
            // Something that is written, also where the parser stopped at the end.
            let blank = text[..wrong.at.min(text.len())].trim_end().len();
            let at = if text[wrong.at.min(text.len())..].trim().is_empty() {
                text[..blank]
                    .char_indices()
                    .next_back()
                    .map_or(0, |(at, _)| at)
            } else {
                wrong.at
            };
            let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
            return vec![(at, end, "workflow/expression", wrong.message, String::new())];
        }
    };
    let mut found = Vec::new();
    for used in &uses.contexts {
        let context = used.context.as_str();
        if allowed.contexts.contains(&context) {
            continue;
        }
        let (message, hint) = if CONTEXTS.contains(&context) {
            let there = allowed.contexts.join(", ");
            (
                format!("context `{context}` is not available here"),
                format!("there are {there}"),
            )
        } else {
            let near = suggest::nearest(context, CONTEXTS.iter().copied());
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let quotes = || "texts are written in single quotes".to_owned();
            (
                format!("there is no context `{}`", short(context)),
                hint.unwrap_or_else(quotes),
            )
        };
        let end = used.at + context.len();
        found.push((used.at, end, "workflow/context", message, hint));
    }
    for used in &uses.functions {
        let name = used.function;
        let special = allowed.functions.iter().find(|(known, _)| *known == name);
        let message = match special {
            Some((_, most)) if used.arguments > *most => {
                format!("`{name}` takes at most {most} arguments here")
            }
            None if !FUNCTIONS.contains(&name) => format!("`{name}()` is not available here"),
            _ => continue,
        };
        let end = used.at + name.len();
        found.push((used.at, end, "workflow/function", message, String::new()));
    }
    found
}

fn required(section: &Section) -> impl Iterator<Item = &'static str> {
    let keys = section.keys.iter().filter(|key| key.required);
    keys.map(|key| key.name)
}

/// Whether a value is of the kind a shape wants; what is inside is another question.
fn takes(shape: &Shape, node: &Node) -> bool {
    let scalar = match &node.value {
        Value::Scalar(scalar) => Some(scalar),
        _ => None,
    };
    match shape {
        Shape::Any => true,
        Shape::Null => node.is_null(),
        Shape::Text | Shape::Scalar | Shape::Condition => node.is_null() || scalar.is_some(),
        Shape::NonEmpty => scalar.is_some_and(|scalar| !scalar.text.is_empty()),
        Shape::Boolean => scalar.is_some_and(|s| matches!(kind(s), Core::Boolean(_))),
        Shape::Number => scalar.is_some_and(|s| matches!(kind(s), Core::Number(_))),
        Shape::Word(_) => scalar.is_some(),
        Shape::List(_) => node.as_list().is_some(),
        Shape::Map(_) | Shape::Open(..) | Shape::Section(_) | Shape::Variants(_) => {
            node.as_map().is_some()
        }
        Shape::OneOf(shapes) => shapes.iter().any(|shape| takes(shape, node)),
    }
}

/// Whether text around an expression may stand there.
fn takes_text(shape: &Shape) -> bool {
    match shape {
        Shape::Any | Shape::Text | Shape::NonEmpty | Shape::Scalar | Shape::Condition => true,
        Shape::OneOf(shapes) => shapes.iter().any(takes_text),
        Shape::Null
        | Shape::Boolean
        | Shape::Number
        | Shape::Word(_)
        | Shape::List(_)
        | Shape::Map(_)
        | Shape::Open(..)
        | Shape::Section(_)
        | Shape::Variants(_) => false,
    }
}

/// A shape in words.
fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Any => "anything".to_owned(),
        Shape::Null => "empty".to_owned(),
        Shape::Text | Shape::Scalar => "a single value".to_owned(),
        Shape::NonEmpty => "a text".to_owned(),
        Shape::Condition => "a condition".to_owned(),
        Shape::Boolean => "`true` or `false`".to_owned(),
        Shape::Number => "a number".to_owned(),
        Shape::Word(words) if words.len() > 4 => "one of its words".to_owned(),
        Shape::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(" or ")
        }
        Shape::List(_) => "a list".to_owned(),
        Shape::Map(_) | Shape::Open(..) | Shape::Section(_) | Shape::Variants(_) => {
            "a mapping".to_owned()
        }
        Shape::OneOf(shapes) => {
            let words: Vec<String> = shapes.iter().map(expected).collect();
            words.join(" or ")
        }
    }
}
