//! Values of a tree that was checked: what is not of the right kind was reported, and is left out.

use havre_expressions::{Piece, pieces};
use havre_yaml::tree::core::Core;
use havre_yaml::{Diagnostic, Follow, Map, Node, Report, Span, Value};
use indexmap::IndexMap;

use crate::expression;
use crate::model::{Condition, Data, Dynamic, Expression, Pair, Pairs, Part, Spanned, Template};
use crate::text::{as_text, kind};

/// Functions that ask how the steps or jobs before ended.
const STATUS: [&str; 4] = ["success", "failure", "always", "cancelled"];

/// Makes values of nodes.
pub(crate) struct Reader<'r> {
    pub report: &'r mut Report,
}

impl Reader<'_> {
    pub fn error(&mut self, code: &'static str, at: Span, message: String) -> &mut Diagnostic {
        self.report.error(code, at, message)
    }

    pub fn warn(&mut self, code: &'static str, at: Span, message: String) -> &mut Diagnostic {
        self.report.warn(code, at, message)
    }

    /// A text without expressions.
    pub fn text(&self, node: &Node) -> Option<Spanned<String>> {
        let value = match &node.value {
            Value::Scalar(scalar) => as_text(scalar).into_owned(),
            Value::Null => String::new(),
            Value::List(_) | Value::Map(_) => return None,
        };
        Some(Spanned {
            value,
            span: node.span,
        })
    }

    /// One text or a list of them.
    pub fn texts(&self, node: &Node) -> Vec<Spanned<String>> {
        match &node.value {
            Value::List(items) => items.iter().filter_map(|item| self.text(item)).collect(),
            _ => self.text(node).into_iter().collect(),
        }
    }

    pub fn template(&self, node: &Node) -> Option<Template> {
        let text = self.text(node)?.value;
        let pieces = pieces(&text);
        Some(self.parts(node.span, &text, &pieces))
    }

    pub fn templates(&self, node: &Node) -> Vec<Template> {
        let items = node.as_list().unwrap_or_default();
        items
            .iter()
            .filter_map(|item| self.template(item))
            .collect()
    }

    fn parts(&self, span: Span, text: &str, pieces: &[Piece<'_>]) -> Template {
        let mut follow = Follow::new(&self.report.sources, span, text);
        let parts = pieces.iter().filter_map(|piece| match *piece {
            Piece::Text(text) => Some(Part::Text(text.to_owned())),
            Piece::Unclosed(_) => None,
            Piece::Expression(inner, from) => {
                let trimmed = inner.trim_start();
                let start = from + inner.len() - trimmed.len();
                let trimmed = trimmed.trim_end();
                Some(Part::Expression(Expression {
                    text: trimmed.to_owned(),
                    span: follow.span(start, start + trimmed.len()),
                    uses: expression::parse(trimmed).unwrap_or_default(),
                }))
            }
        });
        Template {
            parts: parts.collect(),
            span,
        }
    }

    pub fn condition(&self, node: &Node) -> Option<Condition> {
        let text = self.text(node)?.value;
        let whole = [Piece::Expression(&text, 0)];
        let template = if text.contains("${{") {
            self.parts(node.span, &text, &pieces(&text))
        } else if text.trim().is_empty() {
            return None;
        } else {
            self.parts(node.span, &text, &whole)
        };
        let asks_status = template.expressions().any(|expression| {
            let mut functions = expression.uses.functions.iter();
            functions.any(|used| STATUS.contains(&used.function))
        });
        Some(Condition {
            template,
            asks_status,
        })
    }

    /// What `read` makes of the node, unless it is an expression.
    pub fn dynamic<T>(
        &mut self,
        node: &Node,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<Dynamic<T>> {
        if node.text().is_some_and(|text| text.contains("${{")) {
            let parts = self.template(node)?.parts;
            let mut expressions = parts.into_iter().filter_map(|part| match part {
                Part::Expression(expression) => Some(expression),
                Part::Text(_) => None,
            });
            return expressions.next().map(Dynamic::Expression);
        }
        let value = read(self, node)?;
        Some(Dynamic::Fixed(Spanned {
            value,
            span: node.span,
        }))
    }

    pub fn boolean(&mut self, node: &Node) -> Option<Dynamic<bool>> {
        self.dynamic(node, |_, node| match core(node) {
            Core::Boolean(value) => Some(value),
            _ => None,
        })
    }

    pub fn number(&mut self, node: &Node) -> Option<Dynamic<f64>> {
        self.dynamic(node, |_, node| match core(node) {
            Core::Number(value) => Some(value),
            _ => None,
        })
    }

    /// A truth value where no expression may stand.
    pub fn truth(&self, node: Option<&Node>) -> bool {
        node.is_some_and(|node| core(node) == Core::Boolean(true))
    }

    pub fn pairs(&mut self, node: &Node) -> Option<Pairs> {
        self.dynamic(node, |reader, node| {
            let entries = node.as_map()?.entries.iter().filter_map(|(name, entry)| {
                let pair = Pair {
                    key: entry.key,
                    value: reader.template(&entry.value)?,
                };
                Some((name.clone(), pair))
            });
            Some(entries.collect())
        })
    }

    pub fn data(&self, node: &Node) -> Spanned<Data> {
        let value = match &node.value {
            Value::Null => Data::Null,
            Value::Scalar(scalar) => match kind(scalar) {
                Core::Null => Data::Null,
                Core::Boolean(value) => Data::Boolean(value),
                Core::Number(value) => Data::Number(value),
                Core::Text => {
                    let pieces = pieces(&scalar.text);
                    Data::Text(self.parts(node.span, &scalar.text, &pieces))
                }
            },
            Value::List(items) => Data::List(items.iter().map(|item| self.data(item)).collect()),
            Value::Map(map) => Data::Map(self.data_map(map)),
        };
        Spanned {
            value,
            span: node.span,
        }
    }

    pub fn data_map(&self, map: &Map) -> IndexMap<String, Spanned<Data>> {
        let entries = map.entries.iter();
        entries
            .map(|(name, entry)| (name.clone(), self.data(&entry.value)))
            .collect()
    }
}

/// What a node is, if it is a single value.
pub(crate) fn core(node: &Node) -> Core {
    match &node.value {
        Value::Scalar(scalar) => kind(scalar),
        Value::Null => Core::Null,
        Value::List(_) | Value::Map(_) => Core::Text,
    }
}
