//! What the actions that come along are, as far as these tests need one: it says how it was called.

use std::process::ExitCode;

pub fn main(args: &[String]) -> ExitCode {
    println!("built-in {}", args.join(" "));
    let mut variables: Vec<(String, String)> = std::env::vars().collect();
    variables.sort();
    for (name, value) in variables {
        let shows = ["INPUT_", "STATE_", "HAVRE_"]
            .iter()
            .any(|start| name.starts_with(start));
        if shows || name == "GITHUB_ACTION_REPOSITORY" {
            println!("{name}={value}");
        }
    }
    let files = [
        ("GITHUB_STATE", "kept=1\n"),
        ("GITHUB_OUTPUT", "said=yes\n"),
    ];
    for (name, text) in files {
        let path = std::env::var(name).expect("there is a file");
        std::fs::write(path, text).expect("it can be written");
    }
    ExitCode::SUCCESS
}
