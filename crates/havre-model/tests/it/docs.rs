//! Pages that are written from the tables that the code goes by: `docs/compose.md`,
//! `docs/doctor.md`, `docs/havre.schema.json`, `docs/machine.schema.json`. `HAVRE_BLESS=1` writes them anew.

use std::fs;
use std::path::Path;

use havre_model::keys::{self, Section, Support};
use havre_model::{codes, rules, schema};

const HEAD: &str = "\
# Compose files

What Havre does with every key of the compose specification. This page is written from the table by
which files are read (`crates/havre-model/src/keys.rs`); a test keeps the two alike.

- **honoured**: as the specification says.
- **in part** or **otherwise**: the column at the right says how; other values are refused where they
  stand.
- **silent**: accepted without a word, because nothing depends on it here.
- **ignored**: accepted with a warning; `havre check --strict` makes it an error.
- **refused**: an error with file, line and column, the reason and what to do instead.

A key that is not here is refused, with the name that was probably meant. `x-…` keys are passed over.
`havre check` tells everything that is wrong with a project at once; `havre config --source` shows the
project as one file and where each value comes from.
";

const DOCTOR: &str = "\
# What `havre doctor` looks for

`havre doctor PATH` reads a project as `havre check` does and then looks for what is legal and hurts
later. This page is written from the table of its rules (`crates/havre-model/src/rules.rs`); a test keeps
the two alike.

- **error**: it goes wrong, or a release does damage. The command ends with 3.
- **warning**: it will probably hurt. `--strict` makes it an error.
- **note**: good to know, and right for some. It stays a note.

`x-havre-ignore: [RULE, …]` in a service, or at the top of the compose file for all of them, silences
rules. `havre doctor --explain RULE` shows what is written here. `--json` prints the findings for programs,
`--sarif` for services that review code (SARIF 2.1.0; addresses start from the folder where the command
runs). Where the files do not tell, for example what an image from a registry contains, rules are silent.
Dockerfiles are looked at too: a finding may stand there.
";

#[test]
fn the_page_about_compose_files_is_current() {
    check("compose.md", &page());
}

#[test]
fn the_page_about_doctor_is_current() {
    let mut page = DOCTOR.to_owned();
    for rule in rules::RULES {
        let (id, title, severity) = (rule.id, rule.title, rule.severity);
        let (why, fix) = (rule.why, rule.fix);
        page.push_str(&format!(
            "\n## `{id}`\n\n**{title}** ({severity})\n\n{why}\n\nWhat to do: {fix}.\n"
        ));
    }
    page.push_str(
        "\n## What `havre check` says\n\nThese come from reading the files, in `check`, `doctor`, `plan` and \
         `up` alike.\n\n| code | |\n|---|---|\n",
    );
    for (code, meaning) in codes::CODES {
        page.push_str(&format!("| `{code}` | {meaning} |\n"));
    }
    check("doctor.md", &page);
}

#[test]
fn the_schemas_are_current() {
    for (name, document) in [
        ("havre.schema.json", schema::document()),
        ("machine.schema.json", schema::machine::document()),
    ] {
        let text = serde_json::to_string_pretty(&document).unwrap();
        check(name, &format!("{text}\n"));
    }
}

/// `docs/NAME` is what it should be.
fn check(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os("HAVRE_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/{name} is not what the table says; HAVRE_BLESS=1 writes it anew"
    );
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for section in keys::SECTIONS {
        table(&mut page, section);
    }
    page
}

fn table(page: &mut String, section: &Section) {
    let title = match section.path {
        "" => "The file itself".to_owned(),
        path => format!("`{path}`"),
    };
    page.push_str(&format!("\n## {title}\n\n| key | | |\n|---|---|---|\n"));
    for key in section.keys {
        let (word, text) = match key.support {
            Support::Honoured => ("honoured", String::new()),
            Support::Partly(how) => ("in part, or otherwise", how.to_owned()),
            Support::Quiet(why) => ("silent", why.to_owned()),
            Support::Ignored(why) => ("ignored", why.to_owned()),
            Support::Refused { why, hint } => ("refused", format!("{why}; {hint}")),
        };
        let text = text.replace('|', "\\|");
        page.push_str(&format!("| `{}` | {word} | {text} |\n", key.name));
    }
}
