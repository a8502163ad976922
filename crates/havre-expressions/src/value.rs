//! Values of expressions, and what each is taken for where another kind is needed.

use std::borrow::Cow;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::{fold, number};

/// A value. A copy shares what it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing: also what is not there.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    String(Arc<str>),
    /// A list.
    Array(Arc<[Value]>),
    /// Names with values.
    Object(Arc<Object>),
}

/// Names with values, in the order in which they came. A name is found without regard to case.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// By the name in upper case.
    entries: IndexMap<Box<str>, (Arc<str>, Value)>,
}

impl Value {
    /// Whether it counts as true: all but null, false, 0, NaN and the empty text.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(bool) => *bool,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::String(text) => !text.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// As text: `Array` and `Object` for those; nothing for null.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Null => "".into(),
            Self::Bool(true) => "true".into(),
            Self::Bool(false) => "false".into(),
            Self::Number(number) => number::to_text(*number).into(),
            Self::String(text) => text.as_ref().into(),
            Self::Array(_) => "Array".into(),
            Self::Object(_) => "Object".into(),
        }
    }

    /// As a number: NaN where it is none.
    pub fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(bool) => f64::from(u8::from(*bool)),
            Self::Number(number) => *number,
            Self::String(text) => number::of_text(text),
            Self::Array(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// Whether it is neither a list nor an object.
    pub(crate) fn is_primitive(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }
}

impl Object {
    /// The value of a name, if it has that.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.get_folded(&fold::folded(name))
    }

    /// Gives a name a value; a name that was there keeps its place and its spelling.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        match self.entries.entry(fold::folded(&name).into()) {
            indexmap::map::Entry::Occupied(mut there) => there.get_mut().1 = value,
            indexmap::map::Entry::Vacant(place) => drop(place.insert((name, value))),
        }
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries
            .values()
            .map(|(name, value)| (name.as_ref(), value))
    }

    /// How many names it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// By a name that is folded already.
    pub(crate) fn get_folded(&self, name: &str) -> Option<&Value> {
        self.entries.get(name).map(|(_, value)| value)
    }
}

/// The same names, spelled alike, with the same values in the same order.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<N: Into<Arc<str>>, V: Into<Value>> FromIterator<(N, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        let mut object = Self::default();
        for (name, value) in entries {
            object.insert(name, value);
        }
        object
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::Array(items.into())
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(Arc::new(object))
    }
}
