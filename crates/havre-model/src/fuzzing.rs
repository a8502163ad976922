//! Ways in for the fuzz targets (`fuzz/`), which look at one stage at a time.

use std::collections::BTreeMap;
use std::path::Path;

use crate::dotenv::{self, Around, Format};
use crate::interpolate::{self, Seen, Unset, Variables};
use crate::report::Report;
use crate::yaml;

/// A file with `text`, and a report that knows it.
fn source(text: &str) -> (crate::source::SourceId, Report) {
    let mut report = crate::yaml::report("/p".into());
    let source = report.add_source(Path::new("/p/file"), text.to_owned());
    (source, report)
}

/// Reads, interpolates and throws away.
pub fn yaml(text: &str) {
    let (source, mut report) = source(text);
    let documents = yaml::parse(source, &mut report);
    assert!(documents.is_some() || report.has_errors(), "fails silently");
    for mut document in documents.unwrap_or_default() {
        assert!(yaml::same(&document, &document), "differs from itself");
        let variables = Variables::default();
        interpolate::interpolate(&mut document, &variables, Unset::Error, &mut report);
    }
    report.finish();
}

/// Expands `text`, and `text` escaped.
pub fn interpolation(text: &str) {
    let lookup = |name: &str| match name.len() {
        1 => None,
        2 => Some(String::new()),
        _ => Some(name.to_owned()),
    };
    let expand = |text: &str| {
        let mut seen = Seen::default();
        (interpolate::expand(text, &lookup, &mut seen), seen)
    };
    let (expanded, _) = expand(text);
    assert!(text.contains('$') || expanded.as_deref() == Ok(text));
    let (escaped, seen) = expand(&text.replace('$', "$$"));
    assert_eq!(escaped.as_deref(), Ok(text));
    assert!(seen.lone.is_none() && seen.unset.is_empty(), "{seen:?}");
}

/// Reads `text` as an env file.
pub fn dotenv(text: &str) {
    for format in [Format::Compose, Format::Raw] {
        let (source, mut report) = source(text);
        let around = Around {
            outer: &|_| None,
            earlier: &BTreeMap::new(),
        };
        dotenv::parse(source, format, &around, &mut report);
        report.finish();
    }
}
