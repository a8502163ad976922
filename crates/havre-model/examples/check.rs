//! Prints what a folder's compose files come to: `cargo run -p havre-model --example check -- PATH`.

use std::process::ExitCode;

use havre_model::{EnvironmentName, LoadOptions, load};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let options = LoadOptions {
        directory: arguments.next().unwrap_or_else(|| ".".to_owned()).into(),
        environment: arguments.next().map(EnvironmentName::new),
        variables: std::env::vars().collect(),
        ..LoadOptions::default()
    };
    match load(&options) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}\n");
            }
            match serde_json::to_string_pretty(&loaded.project) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("cannot print the project: {error}"),
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
