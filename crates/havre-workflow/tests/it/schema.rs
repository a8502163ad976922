//! The table of keys against the schema that GitHub publishes, where it is at hand, and the page that
//! is written from the table: `docs/workflows.md`. `HAVRE_BLESS=1` writes it anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use havre_workflow::codes;
use havre_workflow::schema::{self, Allowed, FUNCTIONS, Key, NOTHING, Section, Shape, Support};
use serde_json::Value;

use crate::given::folder;

/// Where the table differs from the schema, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("cache-mode", "newer than the schema"),
    ("jobs.*.cache-mode", "newer than the schema"),
    (
        "jobs.*.steps.parallel",
        "of the steps inside, the schema allows more than GitHub runs",
    ),
    (
        "on.workflow_dispatch.inputs",
        "empty is right as well, as a given case says",
    ),
    (
        "on.schedule",
        "as a word, it lacks its times, which is told so",
    ),
    (
        "jobs.*.container.image",
        "an expression that is empty switches the container off",
    ),
];

#[test]
fn the_table_says_what_the_schema_says() {
    let Some(folder) = folder() else {
        return;
    };
    let text = fs::read_to_string(folder.join("workflow-v1.0.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut compare = Compare {
        definitions: &document["definitions"],
        faults: BTreeSet::new(),
        met: 0,
    };
    let root = Shape::Section(&schema::ROOT);
    compare.definition("workflow-root-strict", &root, &NOTHING, Vec::new(), "");
    assert!(compare.met > 250, "only {} keys were met", compare.met);
    let faults: Vec<String> = compare.faults.into_iter().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

struct Compare<'s> {
    definitions: &'s Value,
    faults: BTreeSet<String>,
    met: usize,
}

impl Compare<'_> {
    /// `allowed`: by the table; `context`: by the schema.
    fn definition(
        &mut self,
        name: &str,
        shape: &Shape,
        allowed: &Allowed,
        context: Vec<String>,
        path: &str,
    ) {
        let mut found = Found::default();
        self.collect(name, context, &mut found);
        let mut own = Own::default();
        own.collect(shape);
        if !found.leaves.is_empty() {
            let theirs: BTreeSet<String> = found.leaves.iter().flatten().cloned().collect();
            let ours = names(allowed);
            if theirs != ours && !listed(path) {
                let (theirs, ours) = (list(&theirs), list(&ours));
                self.fault(path, &format!("allows {ours} instead of {theirs}"));
            }
        }
        if !found.words.is_empty() && own.words != found.words {
            let (theirs, ours) = (list(&found.words), list(&own.words));
            self.fault(path, &format!("has the words {ours} instead of {theirs}"));
        }
        self.properties(&found, &own, allowed, path);
        for (kind, theirs, ours) in [
            ("list", &found.items, &own.items),
            ("mapping", &found.values, &own.values),
        ] {
            match (theirs, ours) {
                (Some((name, context)), Some(shape)) => {
                    let below = match kind {
                        "list" => path.to_owned(),
                        _ => join(path, "*"),
                    };
                    self.definition(name, shape, allowed, context.clone(), &below);
                }
                (None, None) => {}
                (Some(_), None) => self.fault(path, &format!("is no {kind}")),
                (None, Some(_)) => self.fault(path, &format!("is a {kind}")),
            }
        }
    }

    fn properties(&mut self, found: &Found, own: &Own, allowed: &Allowed, path: &str) {
        let theirs: BTreeSet<&str> = found.properties.iter().map(|p| p.name.as_str()).collect();
        let ours: BTreeSet<&str> = own.keys.iter().map(|key| key.name).collect();
        for name in theirs.symmetric_difference(&ours) {
            self.fault(&join(path, name), "is not in both");
        }
        for property in &found.properties {
            self.met += 1;
            let below = join(path, &property.name);
            if listed(&below) {
                continue;
            }
            // Where several kinds have a key, it is the same in each.
            for key in own.keys.iter().filter(|key| key.name == property.name) {
                let allowed = key.allowed.unwrap_or(allowed);
                let (name, context) = (&property.definition, property.context.clone());
                self.definition(name, &key.shape, allowed, context, &below);
            }
            let required = own.keys.iter().filter(|key| key.name == property.name);
            if !required
                .clone()
                .any(|key| key.required == property.required)
            {
                self.fault(&below, "is required in one of them only");
            }
        }
    }

    fn fault(&mut self, path: &str, what: &str) {
        if !listed(path) {
            self.faults.insert(format!("{path}: {what}"));
        }
    }

    fn collect(&self, name: &str, context: Vec<String>, found: &mut Found) {
        let builtin = matches!(
            name,
            "string" | "boolean" | "number" | "null" | "any" | "sequence" | "mapping"
        );
        let Some(definition) = self.definitions.get(name).filter(|_| !builtin) else {
            match name {
                "sequence" => found.items = Some(("any".to_owned(), context)),
                "null" => {}
                "any" | "mapping" => {}
                _ => found.leaves.push(context),
            }
            return;
        };
        let context = match definition["context"].as_array() {
            Some(items) => items
                .iter()
                .map(|item| item.as_str().unwrap().to_owned())
                .collect(),
            None => context,
        };
        for inner in definition["one-of"].as_array().into_iter().flatten() {
            self.collect(inner.as_str().unwrap(), context.clone(), found);
        }
        if let Some(words) = definition["allowed-values"].as_array() {
            found
                .words
                .extend(words.iter().map(|word| word.as_str().unwrap().to_owned()));
        }
        if let Some(text) = definition.get("string") {
            match text["constant"].as_str() {
                // A slip of the schema.
                Some(_) if name == "repository-dispatch-string" => {
                    found.words.insert("repository_dispatch".to_owned());
                }
                Some(word) => {
                    found.words.insert(word.to_owned());
                }
                None => found.leaves.push(context.clone()),
            }
        }
        if definition.get("boolean").is_some() || definition.get("number").is_some() {
            found.leaves.push(context.clone());
        }
        if let Some(item) = definition["sequence"]["item-type"].as_str() {
            found.items = Some((item.to_owned(), context.clone()));
        }
        let mapping = &definition["mapping"];
        if let Some(value) = mapping["loose-value-type"].as_str() {
            found.values = Some((value.to_owned(), context.clone()));
        }
        for (name, property) in mapping["properties"].as_object().into_iter().flatten() {
            let kind = property.as_str().or(property["type"].as_str()).unwrap();
            found.properties.push(Property {
                name: name.clone(),
                definition: kind.to_owned(),
                required: property["required"] == true,
                context: context.clone(),
            });
        }
    }
}

/// What the schema says of a value.
#[derive(Default)]
struct Found {
    /// Contexts of each single value that may hold an expression.
    leaves: Vec<Vec<String>>,
    words: BTreeSet<String>,
    items: Option<(String, Vec<String>)>,
    values: Option<(String, Vec<String>)>,
    properties: Vec<Property>,
}

struct Property {
    name: String,
    definition: String,
    required: bool,
    context: Vec<String>,
}

/// What the table says of a value.
#[derive(Default)]
struct Own {
    words: BTreeSet<String>,
    items: Option<&'static Shape>,
    values: Option<&'static Shape>,
    keys: Vec<&'static Key>,
}

impl Own {
    fn collect(&mut self, shape: &Shape) {
        match shape {
            Shape::Word(words) => self
                .words
                .extend(words.iter().map(|word| (*word).to_owned())),
            Shape::List(inner) => self.items = Some(inner),
            Shape::Map(inner) => self.values = Some(inner),
            Shape::Section(section) => self.keys.extend(section.keys),
            Shape::Variants(sections) => {
                self.keys
                    .extend(sections.iter().flat_map(|section| section.keys));
            }
            Shape::Open(section, inner) => {
                self.keys.extend(section.keys);
                self.values = Some(inner);
            }
            Shape::OneOf(shapes) => shapes.iter().for_each(|shape| self.collect(shape)),
            Shape::Any
            | Shape::Null
            | Shape::Text
            | Shape::NonEmpty
            | Shape::Condition
            | Shape::Scalar
            | Shape::Boolean
            | Shape::Number => {}
        }
    }
}

fn listed(path: &str) -> bool {
    DIFFERENCES.iter().any(|(known, _)| *known == path)
}

/// As the schema writes them.
fn names(allowed: &Allowed) -> BTreeSet<String> {
    let contexts = allowed.contexts.iter().map(|context| (*context).to_owned());
    let functions = allowed.functions.iter().map(|(name, most)| {
        let least = usize::from(*name == "hashFiles");
        match *most {
            usize::MAX => format!("{name}({least},MAX)"),
            most => format!("{name}({least},{most})"),
        }
    });
    contexts.chain(functions).collect()
}

fn list(items: &BTreeSet<String>) -> String {
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    format!("[{}]", items.join(" "))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

const HEAD: &str = "\
# Workflow files

What Havre does with every key of GitHub Actions' workflow files. This page is written from the table by
which files are read (`crates/havre-workflow/src/schema.rs`); a test keeps the two alike, and another
compares the table with the schema that GitHub publishes.

`havre ci check` and `havre ci explain` read these files without a daemon; how jobs run stands in [ci.md](ci.md).

- **honoured**: as GitHub documents it.
- **in part**: the column at the right says how; other values are refused or warned about where they stand.
- **silent**: accepted without a word, because nothing depends on it here.
- **ignored**: accepted with a warning; `havre ci check --strict` makes it an error.
- **refused**: an error with file, line and column, the reason and what to do instead.

A key that is not here is refused, with the name that was probably meant. `havre ci check` tells everything
that is wrong with the workflows of a project at once, and needs no daemon. Anchors and aliases are read,
`<<` is refused; a file may have 1 MiB and 50 levels. A key marked with * must be there.

The column *expressions* says which contexts `${{ }}` may use there; without any, there may be no
expression. The functions FUNCTIONS may be called in every expression.
";

#[test]
fn the_page_about_workflows_is_current() {
    let functions: Vec<String> = FUNCTIONS.iter().map(|name| format!("`{name}`")).collect();
    let mut page = HEAD.replace("FUNCTIONS", &functions.join(", "));
    for (section, around) in schema::sections() {
        table(&mut page, section, around);
    }
    page.push_str(
        "\n## What `havre ci check` says\n\n`yaml/…` codes are [those of compose files](doctor.md#what-havre-check-says).\n\n\
         | code | |\n|---|---|\n",
    );
    for (code, meaning) in codes::CODES {
        page.push_str(&format!("| `{code}` | {meaning} |\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/workflows.md");
    if std::env::var_os("HAVRE_BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/workflows.md is not what the table says; HAVRE_BLESS=1 writes it anew"
    );
}

fn table(page: &mut String, section: &Section, around: &Allowed) {
    let title = match section.path {
        "" => "The file itself".to_owned(),
        path => format!("`{path}`"),
    };
    page.push_str(&format!(
        "\n## {title}\n\n| key | | expressions | |\n|---|---|---|---|\n"
    ));
    for key in section.keys {
        let (word, text) = match key.support {
            Support::Honoured => ("honoured", String::new()),
            Support::Partly(how) => ("in part", how.to_owned()),
            Support::Quiet(why) => ("silent", why.to_owned()),
            Support::Ignored(why) => ("ignored", why.to_owned()),
            Support::Refused { why, hint } => ("refused", format!("{why}; {hint}")),
        };
        let mark = if key.required { "\\*" } else { "" };
        let allowed = key.allowed.unwrap_or(around);
        let functions = allowed
            .functions
            .iter()
            .map(|(name, _)| format!("{name}()"));
        let contexts = allowed.contexts.iter().map(|context| (*context).to_owned());
        let uses: Vec<String> = contexts.chain(functions).collect();
        page.push_str(&format!(
            "| `{}`{mark} | {word} | {} | {text} |\n",
            key.name,
            uses.join(" ")
        ));
    }
}

/// Each code that is used has a meaning, and each meaning a use.
#[test]
fn every_code_has_a_meaning() {
    let mut used = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("codes.rs") {
                let text = fs::read_to_string(path).unwrap();
                let words = text.split('"').filter(|word| word.starts_with("workflow/"));
                used.extend(words.map(str::to_owned));
            }
        }
    }
    let known: BTreeSet<String> = codes::CODES
        .iter()
        .map(|(code, _)| (*code).to_owned())
        .collect();
    assert_eq!(used, known);
    assert!(codes::CODES.is_sorted_by_key(|(code, _)| *code));
}
