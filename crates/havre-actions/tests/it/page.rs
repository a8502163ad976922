//! The table of actions: that it is sound, and that `docs/actions.md` is what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use havre_actions::{ALL, BuiltIn, Finding, Handled, find};

use crate::job::Job;

crate::tests![
    inputs_are_unique_and_refusals_give_advice,
    actions_are_found_in_any_case,
    each_action_is_carried_out,
    defaults_of_expressions_are_no_warnings,
    an_input_is_judged_by_its_value,
    the_page_about_actions_is_current,
];

fn inputs_are_unique_and_refusals_give_advice() {
    let names: BTreeSet<&str> = ALL.iter().map(|action| action.name).collect();
    assert_eq!(names.len(), ALL.len());
    for action in ALL {
        assert_eq!(action.name, action.name.to_lowercase());
        let inputs: BTreeSet<String> = action
            .inputs
            .iter()
            .map(|input| input.name.to_lowercase())
            .collect();
        assert_eq!(inputs.len(), action.inputs.len(), "{}", action.name);
        let outputs: BTreeSet<&&str> = action.outputs.iter().collect();
        assert_eq!(outputs.len(), action.outputs.len(), "{}", action.name);
        for input in action.inputs {
            match input.handled {
                Handled::Yes => {}
                Handled::Ignored(why) | Handled::Refused(why) => {
                    let refused = matches!(input.handled, Handled::Refused(_));
                    assert!(
                        !(refused && input.has_expression()),
                        "{}: what comes cannot be told from the default",
                        input.name
                    );
                    assert!(
                        why.contains(' ') && !why.ends_with('.'),
                        "{}: {why}",
                        input.name
                    );
                    assert!(!input.required, "{}: {}", action.name, input.name);
                }
            }
        }
    }
}

fn actions_are_found_in_any_case() {
    let name = |owner, repository, path| find(owner, repository, path).map(|action| action.name);
    assert_eq!(name("Actions", "CheckOut", ""), Some("actions/checkout"));
    assert_eq!(
        name("actions", "cache", "restore"),
        Some("actions/cache/restore")
    );
    assert_eq!(
        name("actions", "cache", "/save/"),
        Some("actions/cache/save")
    );
    assert_eq!(name("actions", "cache", "other"), None);
    assert_eq!(name("acme", "checkout", ""), None);
}

fn each_action_is_carried_out() {
    let job = Job::new();
    for action in ALL.iter().filter(|action| action.refused.is_none()) {
        // Whatever becomes of it: it is not that there is none.
        let inputs: Vec<(&str, &str)> = action
            .inputs
            .iter()
            .filter(|input| input.required)
            .map(|input| (input.name, "x"))
            .collect();
        let done = job.main(action.name, &inputs);
        assert!(
            !done.log.contains("cannot be carried out by this version"),
            "{}: {}",
            action.name,
            done.log
        );
        let done = job.post(action.name, &inputs, &done);
        let expected = if action.post.is_some() { 0 } else { 2 };
        assert_eq!(done.code, Some(expected), "{}: {}", action.name, done.log);
    }
    assert_eq!(job.main("acme/other", &[]).code, Some(2));
}

fn defaults_of_expressions_are_no_warnings() {
    let job = Job::new();
    let done = job
        .main("docker/metadata-action", &[("github-token", "evaluated")])
        .well();
    assert!(!done.log.contains("github-token"), "{}", done.log);
}

fn an_input_is_judged_by_its_value() {
    let checkout = find("actions", "checkout", "").unwrap();
    assert_eq!(checkout.judge("LFS", "false"), None);
    assert_eq!(checkout.judge("lfs", ""), None);
    assert!(
        matches!(checkout.judge("lfs", "true"), Some(Finding::Refused(why)) if why.contains("git lfs pull"))
    );
    assert!(matches!(
        checkout.judge("ssh-user", "me"),
        Some(Finding::Ignored(_))
    ));
    assert_eq!(checkout.judge("ref", "main"), None);
    assert!(
        matches!(checkout.judge("reff", "main"), Some(Finding::Refused(why)) if why.contains("no input `reff`"))
    );
}

const HEAD: &str = "\
# Actions that Havre brings along

What Havre does with every input of the actions that it carries out itself. This page is written from the
table by which inputs are judged (`crates/havre-actions/src/table.rs`); a test keeps the two alike.

An action is found by its name, whatever its version: `actions/checkout@v2` and `@v7` are the same here.

- **honoured**: as its `action.yml` documents it.
- **ignored**: it has no effect; a value other than the default is a warning, which says why.
- **refused**: a value other than the default is an error before the job starts, which says what to do instead.

An input marked with * must be given. An input that is not here is refused.
";

fn the_page_about_actions_is_current() {
    let mut page = HEAD.to_owned();
    for action in ALL {
        section(&mut page, action);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/actions.md");
    if std::env::var_os("HAVRE_BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/actions.md is not what the table says; HAVRE_BLESS=1 writes it anew"
    );
}

fn section(page: &mut String, action: &BuiltIn) {
    page.push_str(&format!("\n## `{}`\n\n", action.name));
    let outputs: Vec<String> = action
        .outputs
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    if !outputs.is_empty() {
        page.push_str(&format!("Outputs: {}.\n", outputs.join(", ")));
    }
    if let Some(post) = action.post {
        page.push_str(&format!(
            "At the end of the job, if `{post}`: it cleans up, or saves.\n"
        ));
    }
    page.push_str("\n| input | default | | |\n|---|---|---|---|\n");
    for input in action.inputs {
        let default = input
            .default
            .map(|text| format!("`{}`", text.replace('|', "\\|")))
            .unwrap_or_default();
        let star = if input.required { "\\*" } else { "" };
        let (word, note) = match input.handled {
            Handled::Yes => ("honoured", ""),
            Handled::Ignored(why) => ("ignored", why),
            Handled::Refused(advice) => ("refused", advice),
        };
        page.push_str(&format!(
            "| `{}`{star} | {default} | {word} | {note} |\n",
            input.name
        ));
    }
}
