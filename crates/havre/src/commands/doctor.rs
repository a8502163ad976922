//! `havre doctor`: whether this machine has what Havre needs, and traps in a project.

use std::path::Path;

use havre_model::{Diagnostic, Severity, codes, rules};
use serde::Serialize;

use super::findings::{self, Checked};
use super::secret;
use crate::cli::DoctorArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::human;
use crate::paint::Paint;
use crate::table::{padded, printable};
use crate::target::load_here;

/// Places of secrets that are named.
const MAX_PLACES: usize = 10;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    /// What needs it.
    area: &'static str,
    /// What it is.
    name: String,
    /// Whether it is there.
    ok: bool,
    /// What was found.
    detail: String,
    /// What to do when it is not there.
    hint: String,
}

pub async fn run(context: &Context, args: &DoctorArgs) -> Outcome {
    if let Some(rule) = &args.explain {
        if args.load.is_given() {
            return Err(Failure::new(
                Exit::Usage,
                "--explain is about a rule, not about a project",
            ));
        }
        return explain(context, rule);
    }
    if args.load.is_given() {
        let options = args.load.options()?;
        let advised = load_here(context, options, havre_model::advise).await;
        let strict = args.load.strict;
        let in_clear = secrets_in_clear(args.load.path());
        let found = match advised {
            Ok(loaded) => Ok(loaded.warnings.into_iter().chain(in_clear).collect()),
            Err(mut failure) => {
                failure.warnings.extend(in_clear);
                Err(failure)
            }
        };
        let checked = Checked::Project(args.load.path());
        return findings::print(context, checked, found, strict, args.form);
    }
    if args.form.sarif {
        return Err(
            Failure::new(Exit::Usage, "only findings in a project come as SARIF")
                .hint("name the project's folder: havre doctor . --sarif"),
        );
    }
    let why = "it looks at this machine's kernel and programs";
    context.only_here("`havre doctor` of a machine", why)?;
    let args = args.form.json;
    let checks = checks();
    if args.json {
        context.ui.json(&checks)?;
    } else {
        context.ui.data(&render(&checks, context.ui.out))?;
    }
    let missing = checks.iter().filter(|check| !check.ok).count();
    match missing {
        0 => Ok(Exit::Ok),
        // With --json the document above is the answer, and there is room for only one.
        _ if args.json => Ok(Exit::Failed),
        _ => {
            let things = human::count(missing as u64, "thing");
            Err(Failure::new(
                Exit::Failed,
                format!("this machine lacks {things} Havre needs"),
            ))
        }
    }
}

/// Secrets in the project's files, as one finding: no line of theirs is shown.
fn secrets_in_clear(folder: &Path) -> Option<Diagnostic> {
    // A folder that cannot be read is told by who reads the project.
    let scanned = secret::scan_folder(folder).ok()?;
    let places = scanned.findings.iter();
    let mut places: Vec<String> = places
        .map(|one| format!("{}:{}", printable(&one.file), one.line))
        .collect();
    let count = places.len() as u64;
    if places.len() > MAX_PLACES {
        places.truncate(MAX_PLACES);
        places.push("…".to_owned());
    }
    let unread = human::count(scanned.unread, "place");
    let found = human::count(count, "secret");
    let places = places.join(", ");
    let (severity, message) = match (count, scanned.unread) {
        (0, 0) => return None,
        (0, _) => (
            Severity::Note,
            format!("no secret in clear, but {unread} could not be looked at"),
        ),
        (_, 0) => (Severity::Warning, format!("{found} in clear: {places}")),
        (_, _) => (
            Severity::Warning,
            format!("{found} in clear: {places}; {unread} could not be looked at"),
        ),
    };
    Some(Diagnostic {
        severity,
        code: "secrets/in-clear",
        message,
        location: None,
        hint: Some(format!(
            "`havre secret scan {}` says what each is, and the command that moves it into the store",
            printable(folder.display().to_string())
        )),
    })
}

fn explain(context: &Context, id: &str) -> Outcome {
    let of_workflows = || havre_workflow::codes::meaning(id);
    if let Some(meaning) = codes::meaning(id).or_else(of_workflows) {
        let command = findings::command_of(id);
        let id = context.ui.out.bold(id);
        context
            .ui
            .data(&format!("{id}\n\n{meaning}. `{command}` shows the line.\n"))?;
        return Ok(Exit::Ok);
    }
    let Some(rule) = rules::rule(id) else {
        let known: Vec<&str> = rules::RULES.iter().map(|rule| rule.id).collect();
        return Err(Failure::new(Exit::Usage, format!("there is no rule {id}"))
            .hint(format!("there are {}", known.join(", "))));
    };
    let text = format!(
        "{}: {} ({})\n\n{}\n\nWhat to do: {}.\nTo silence it: `x-havre-ignore: [{id}]` in the service or at the \
         top of the file.\n",
        context.ui.out.bold(id),
        rule.title,
        rule.severity,
        rule.why,
        rule.fix
    );
    context.ui.data(&text)?;
    Ok(Exit::Ok)
}

fn checks() -> Vec<Check> {
    let containers = havre_engine::probe().into_iter().map(|found| Check {
        area: "containers",
        name: found.name.to_owned(),
        ok: found.ok,
        detail: found.detail,
        hint: found.hint.to_owned(),
    });
    let network = havre_net::probe().into_iter().map(|found| Check {
        area: "network",
        name: found.name.to_owned(),
        ok: found.ok,
        detail: found.detail,
        hint: found.hint.to_owned(),
    });
    containers.chain(network).collect()
}

fn render(checks: &[Check], paint: Paint) -> String {
    let widest = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    let mut area = "";
    for check in checks {
        if check.area != area {
            area = check.area;
            text.push_str(&format!("{}\n", paint.bold(area)));
        }
        let mark = if check.ok {
            paint.good("✓")
        } else {
            paint.error("✗")
        };
        let name = padded(&check.name, widest);
        let line = format!("  {mark} {name}   {}", printable(&check.detail));
        text.push_str(&format!("{}\n", line.trim_end()));
        if !check.ok {
            text.push_str(&format!("      {} {}\n", paint.hint("hint:"), check.hint));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_do_nothing_to_a_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("a\x1b[2Jb.env");
        std::fs::write(name, "API_TOKEN=k3Jx8QwErTyUi\n").unwrap();
        let found = secrets_in_clear(folder.path()).unwrap();
        assert_eq!(found.message, "1 secret in clear: ab.env:1");
        assert_eq!(found.severity, Severity::Warning);
        // Longer than is looked at.
        let dump = std::fs::File::create(folder.path().join("dump.sql")).unwrap();
        std::io::Write::write_all(&mut &dump, &vec![b'x'; 9 << 20]).unwrap();
        let found = secrets_in_clear(folder.path()).unwrap();
        assert_eq!(
            found.message,
            "1 secret in clear: ab.env:1; 1 place could not be looked at"
        );
    }

    #[test]
    fn what_is_missing_comes_with_what_to_do() {
        let check = |area, name: &str, ok| Check {
            area,
            name: name.into(),
            ok,
            detail: "6.1".into(),
            hint: "update it".into(),
        };
        let checks = [
            check("containers", "kernel", false),
            check("containers", "overlay file system", true),
            check("network", "veth", true),
        ];
        insta::assert_snapshot!(render(&checks, Paint::plain()), @r"
        containers
          ✗ kernel                6.1
              hint: update it
          ✓ overlay file system   6.1
        network
          ✓ veth                  6.1
        ");
    }
}
