//! Secrets in a stored image: in its configuration, and in every file of every layer, also in those that a layer
//! above deletes.

use std::io::{self, Read};

use havre_api::{ApiError, ErrorCode, ImageFinding, ImageScanOutcome};
use havre_image::config::History;
use havre_image::{Entry, EntryKind, Image, Images, Limits};
use havre_scan::Found;
use tokio_util::sync::CancellationToken;

/// Larger texts are not looked at, which is told.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// As much of a file tells whether it is text.
const HEAD_BYTES: u64 = 8000;
/// What is told.
const MAX_FINDINGS: usize = 1000;
/// Reasons that are told.
const MAX_REASONS: usize = 20;
/// Folders of programs that others publish: their examples are full of addresses with passwords.
const PACKAGES: [&str; 3] = ["site-packages", "dist-packages", "node_modules"];
/// Of an instruction.
const MAX_STEP_BYTES: usize = 100;

/// Where something was found.
#[derive(Clone, Debug, Default)]
struct Place {
    layer: Option<u32>,
    step: Option<String>,
}

/// Looks through it. Blocks.
pub(crate) fn scan(
    images: &Images,
    image: &Image,
    cancel: &CancellationToken,
) -> Result<ImageScanOutcome, ApiError> {
    let mut outcome = ImageScanOutcome {
        digest: image.manifest_digest.to_string(),
        ..ImageScanOutcome::default()
    };
    for (part, form, text) in configuration(image) {
        add(
            &mut outcome,
            &Place::default(),
            part,
            havre_scan::scan(form, &text),
        );
    }
    let steps = steps(&image.config.history);
    for (number, layer) in (1..).zip(&image.layers) {
        let place = Place {
            layer: Some(number),
            step: steps.get(number as usize - 1).cloned().flatten(),
        };
        let seen = images.look_through(layer, Limits::default(), cancel, |entry, content| {
            look(&mut outcome, &place, entry, content)
        });
        if cancel.is_cancelled() {
            return Err(ApiError::new(ErrorCode::Cancelled, "cancelled".to_owned()));
        }
        if let Err(error) = seen {
            unread(
                &mut outcome,
                &format!("layer {number}"),
                &havre_base::one_line(&error),
            );
        }
    }
    Ok(outcome)
}

/// A file of a layer.
fn look(
    outcome: &mut ImageScanOutcome,
    place: &Place,
    entry: &Entry,
    content: &mut dyn Read,
) -> io::Result<()> {
    if entry.kind != EntryKind::File || entry.size == 0 {
        return Ok(());
    }
    let path = String::from_utf8_lossy(&entry.path);
    let path = path.trim_start_matches("./");
    if path.split('/').any(|part| PACKAGES.contains(&part)) {
        return Ok(());
    }
    outcome.files += 1;
    let mut bytes = Vec::new();
    content.take(HEAD_BYTES).read_to_end(&mut bytes)?;
    if havre_scan::is_binary(&bytes) {
        return Ok(());
    }
    if entry.size > MAX_FILE_BYTES {
        let most = MAX_FILE_BYTES >> 20;
        unread(outcome, path, &format!("it is larger than {most} MiB"));
        return Ok(());
    }
    content.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    add(outcome, place, path, havre_scan::scan(path, &text));
    Ok(())
}

/// Its parts: what they are called, the file by whose form they are read, and their text.
fn configuration(image: &Image) -> Vec<(&'static str, &'static str, String)> {
    let run = &image.config.run;
    let lines = |list: &[String]| {
        let each: Vec<String> = list.iter().map(|text| one_line(text)).collect();
        each.join("\n")
    };
    let labels: Vec<String> = run
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let commands: Vec<String> = [&run.entrypoint, &run.cmd]
        .into_iter()
        .flatten()
        .chain(run.healthcheck.iter().map(|check| &check.test))
        .map(|words| words.join(" "))
        .chain(run.on_build.iter().cloned())
        .collect();
    let history = &image.config.history;
    let history: Vec<String> = history
        .iter()
        .map(|step| step.created_by.clone().unwrap_or_default())
        .collect();
    vec![
        ("ENV", ".env", lines(&run.env)),
        ("LABEL", ".env", lines(&labels)),
        (
            "ENTRYPOINT, CMD, HEALTHCHECK, ONBUILD",
            "Dockerfile",
            lines(&commands),
        ),
        ("history", "Dockerfile", lines(&history)),
    ]
}

/// The instruction of each layer.
fn steps(history: &[History]) -> Vec<Option<String>> {
    let made = history.iter().filter(|step| !step.empty_layer);
    made.map(|step| {
        let text = one_line(step.created_by.as_deref()?);
        // One that tells a secret is not repeated.
        let tells = !havre_scan::scan("Dockerfile", &text).is_empty();
        (!tells).then(|| havre_base::clipped(&text, MAX_STEP_BYTES).to_owned())
    })
    .collect()
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn add(outcome: &mut ImageScanOutcome, place: &Place, file: &str, found: Vec<Found>) {
    for one in found {
        if outcome.findings.len() == MAX_FINDINGS {
            outcome.is_cut = true;
            return;
        }
        outcome.findings.push(ImageFinding {
            rule: one.rule.to_owned(),
            what: one.what.to_owned(),
            layer: place.layer,
            step: place.step.clone(),
            file: file.to_owned(),
            line: one.line as u64,
            column: one.column as u64,
            masked: one.masked,
            name: one.name,
        });
    }
}

fn unread(outcome: &mut ImageScanOutcome, what: &str, why: &str) {
    outcome.unread += 1;
    if outcome.reasons.len() < MAX_REASONS {
        outcome
            .reasons
            .push(format!("not looked at: {what}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, text: &[u8]) -> ImageScanOutcome {
        let mut outcome = ImageScanOutcome::default();
        let entry = Entry {
            size: text.len() as u64,
            ..Entry::new(path, EntryKind::File, 0o644)
        };
        let place = Place::default();
        look(&mut outcome, &place, &entry, &mut &text[..]).expect("readable");
        outcome
    }

    #[test]
    fn texts_are_looked_at_and_what_is_not_is_told() {
        let text = b"DB_PASSWORD=Kp93vNcX51rTz8wQb2mL\n";
        assert_eq!(seen("./srv/app.env", text).findings.len(), 1);
        let binary = [b"\0".as_slice(), text].concat();
        assert_eq!(seen("srv/app.env", &binary).findings.len(), 0);
        let foreign = seen("usr/lib/python3/dist-packages/x/test.env", text);
        assert_eq!((foreign.findings.len(), foreign.files), (0, 0));
        let large = vec![b'x'; MAX_FILE_BYTES as usize + 1];
        let large = seen("large.txt", &large);
        assert_eq!((large.unread, large.reasons.len()), (1, 1));
    }

    #[test]
    fn an_instruction_that_tells_a_secret_is_not_repeated() {
        let step = |text: &str| History {
            created_by: Some(text.to_owned()),
            ..History::default()
        };
        let empty = History {
            empty_layer: true,
            ..step("ENV a=b")
        };
        let telling = step("RUN DB_PASSWORD=Kp93vNcX51rTz8wQb2mL ./set-up");
        let told = steps(&[step("COPY a /"), empty, telling]);
        assert_eq!(told, [Some("COPY a /".to_owned()), None]);
    }

    #[test]
    fn a_list_that_is_cut_says_so() {
        let mut outcome = ImageScanOutcome::default();
        let found = havre_scan::scan(".env", "DB_PASSWORD=Kp93vNcX51rTz8wQb2mL");
        for _ in 0..=MAX_FINDINGS {
            add(&mut outcome, &Place::default(), "ENV", found.clone());
        }
        assert!(outcome.is_cut && outcome.findings.len() == MAX_FINDINGS);
    }
}
