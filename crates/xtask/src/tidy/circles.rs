//! Circles of imports between the files of a crate: in one, no file can be read without the others.
//! There are none.

use std::collections::{BTreeMap, BTreeSet};

/// The files of a crate by module path (`a::b`), each with its text.
pub type Files = BTreeMap<String, String>;

/// Checks one crate.
pub fn check(name: &str, files: &Files, faults: &mut Vec<String>) {
    let graph: BTreeMap<&str, BTreeSet<&str>> = files
        .iter()
        .map(|(module, text)| (module.as_str(), imports(module, text, files)))
        .collect();
    let in_circles: BTreeSet<&str> = graph
        .keys()
        .filter(|module| reached(&graph, module).contains(*module))
        .copied()
        .collect();
    if !in_circles.is_empty() {
        let files: Vec<&str> = in_circles.into_iter().collect();
        faults.push(format!(
            "{name}: files that import each other in circles: {}",
            files.join(", ")
        ));
    }
}

/// All that a file imports, and what that imports, and so on.
fn reached<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = graph.get(from).into_iter().flatten().copied().collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(graph.get(module).into_iter().flatten());
        }
    }
    found
}

/// Files that a file names by `crate::` or `super::`, outside its tests and comments.
fn imports<'a>(module: &str, text: &str, files: &'a Files) -> BTreeSet<&'a str> {
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let code: String = product
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = BTreeSet::new();
    for (word, base) in [("crate::", ""), ("super::", parent)] {
        for (at, _) in code.match_indices(word) {
            // `super::super::` counts from where the last of them leads; `self::crate::` is none.
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c == ':' || c.is_alphanumeric() || c == '_') {
                continue;
            }
            let mut base = base;
            let mut rest = &code[at + word.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                base = base.rsplit_once("::").map_or("", |(above, _)| above);
                rest = further;
            }
            for path in paths(rest) {
                let whole = match base {
                    "" => path,
                    base => format!("{base}::{path}"),
                };
                let file = file_of(&whole, files).or_else(|| file_of(base, files));
                found.extend(file.filter(|file| *file != module));
            }
        }
    }
    found
}

/// The paths of one import: of `a::{b, c::d}` those of `a::b` and `a::c::d`.
fn paths(rest: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let stem: String = rest.chars().take_while(|c| is_part(*c)).collect();
    let Some(group) = rest[stem.len()..].strip_prefix('{') else {
        return vec![stem.trim_end_matches(':').to_owned()];
    };
    let group = group.split('}').next().unwrap_or_default();
    group
        .split(',')
        .map(|item| item.trim().chars().take_while(|c| is_part(*c)).collect())
        .filter(|item: &String| !item.is_empty())
        .map(|item| format!("{stem}{item}"))
        .collect()
}

/// The file that holds what a path names: that of the longest part of it that is a module.
fn file_of<'a>(path: &str, files: &'a Files) -> Option<&'a str> {
    let mut path = path;
    loop {
        if let Some((module, _)) = files.get_key_value(path) {
            return Some(module);
        }
        path = path.rsplit_once("::")?.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, files: &[(&str, &str)]) -> Vec<String> {
        let files = files
            .iter()
            .map(|(module, text)| ((*module).to_owned(), (*text).to_owned()))
            .collect();
        let mut faults = Vec::new();
        check(name, &files, &mut faults);
        faults
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        for (one, other) in [
            ("use crate::b::Thing;", "use super::a::Other;"),
            ("use crate::{c, b};", "fn f() { crate::a::f() }"),
            ("use crate::b::inner::{X, Y};", "use crate::c::Z;"),
        ] {
            let third = "use crate::a;";
            let found = faults(
                "x",
                &[("a", one), ("b", other), ("b::inner", ""), ("c", third)],
            );
            let expected = usize::from(one != "use crate::b::inner::{X, Y};");
            assert_eq!(found.len(), expected, "{one} {other}: {found:?}");
        }
        let deep = [
            ("a::b", "use super::super::c::X;"),
            ("a", ""),
            ("c", "use crate::a::b::Y;"),
        ];
        assert_eq!(faults("x", &deep).len(), 1);
    }

    #[test]
    fn one_way_comments_and_tests_are_no_circle() {
        let text = "// crate::a\n#[cfg(test)]\nmod tests { use crate::a::X; }";
        assert!(faults("x", &[("a", "use crate::b::X;"), ("b", text)]).is_empty());
    }
}
