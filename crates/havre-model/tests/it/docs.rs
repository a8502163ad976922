//! `docs/compose.md` is written from the table that the reader goes by. `HAVRE_BLESS=1` writes it
//! anew.

use std::fs;
use std::path::Path;

use havre_model::keys::{self, Section, Support};

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

#[test]
fn the_page_about_compose_files_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compose.md");
    let page = page();
    if std::env::var_os("HAVRE_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/compose.md is not what the table says; HAVRE_BLESS=1 writes it anew"
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
