//! The daemon looks through an image that it has.

use havre_api::{ImageFinding, ImageScan, ImageScanRequest};
use havre_base::shell_word;

use super::{Finding, MAX_FINDINGS, Place, Scanned};
use crate::connect;
use crate::context::Context;
use crate::error::Failure;
use crate::table::printable;

pub async fn scan(context: &Context, image: &str) -> Result<Scanned, Failure> {
    let (client, _) = connect::running(context).await?;
    let request = ImageScanRequest {
        image: image.to_owned(),
    };
    context
        .ui
        .say(&format!("looking through {}", printable(image)));
    let outcome = client.call::<ImageScan>(&request).await?;
    let mut findings: Vec<Finding> = outcome.findings.into_iter().map(finding).collect();
    findings.truncate(MAX_FINDINGS);
    Ok(Scanned {
        place: Place::default(),
        findings,
        files: outcome.files,
        unread: outcome.unread + u64::from(outcome.is_cut),
        reasons: outcome.reasons.iter().map(printable).collect(),
    })
}

fn finding(found: ImageFinding) -> Finding {
    let fix = fix(&found);
    Finding {
        rule: found.rule.into(),
        what: found.what.into(),
        file: found.file,
        line: usize::try_from(found.line).unwrap_or(usize::MAX),
        column: usize::try_from(found.column).unwrap_or(usize::MAX),
        masked: found.masked,
        name: found.name,
        commit: None,
        layer: found.layer,
        step: found.step,
        fix,
    }
}

/// What keeps it out of the next image.
fn fix(found: &ImageFinding) -> String {
    let is_build = found.layer.is_some() || found.file == "history";
    match is_build {
        true => "build anew with `RUN --mount=type=secret`, or name the file in .dockerignore"
            .to_owned(),
        false => {
            let name = found.name.as_deref().unwrap_or(&found.rule);
            format!(
                "havre secret set {}",
                shell_word(&name.to_ascii_lowercase())
            )
        }
    }
}
