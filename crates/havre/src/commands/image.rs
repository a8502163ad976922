//! `havre image`.

use havre_api::{
    ImageImport, ImageImportRequest, ImageProvenance, ImageProvenanceQuery, ImagePrune,
    ImagePruneRequest, ImageRemove, ImageRemoveOutcome, ImageRemoveRequest, ImageSummary, Images,
    MachineQuery, StoredItem, StoredKind, Timestamp,
};

use crate::cli::ImageCommand;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::ui::Ui;
use crate::{connect, human};

pub async fn run(context: &Context, command: ImageCommand) -> Outcome {
    let ui = context.ui;
    match command {
        ImageCommand::Ls(json) => {
            let (client, _) = connect::running(context).await?;
            let images = client.call::<Images>(&MachineQuery {}).await?;
            if json.json {
                ui.json(&images)?;
            } else {
                ui.data(&render(&images, ui.out, Timestamp::now()))?;
            }
        }
        ImageCommand::Import { path, tag, json } => {
            let why = "the daemon reads the archive from its own disk";
            context.only_here("`havre image import`", why)?;
            let path = std::fs::canonicalize(&path).map_err(|error| {
                let message = format!("cannot find {}", path.display());
                Failure::new(Exit::NotFound, message).caused_by(&error)
            })?;
            let client = connect::started(context).await?;
            let request = ImageImportRequest {
                path,
                reference: tag,
            };
            let outcome = client.call::<ImageImport>(&request).await?;
            for image in &outcome.images {
                let (digest, size) = (human::digest(&image.digest), human::size(image.size_bytes));
                let names = image.references.join(", ");
                ui.say(&format!("imported {names} ({digest}, {size})"));
            }
            if json.json {
                ui.json(&outcome)?;
            }
        }
        ImageCommand::Provenance { image } => {
            let (client, _) = connect::running(context).await?;
            let query = ImageProvenanceQuery { image };
            let statements = client.call::<ImageProvenance>(&query).await?;
            if statements.is_empty() {
                ui.say("nothing is said of it: a release that serves it is what says something");
            }
            for statement in &statements {
                ui.data(&format!("{statement}\n"))?;
            }
        }
        ImageCommand::Rm { images, json } => {
            let (client, _) = connect::running(context).await?;
            let outcome = client
                .call::<ImageRemove>(&ImageRemoveRequest { images })
                .await?;
            return removed(ui, json.json, outcome);
        }
        ImageCommand::Prune { all, dry_run, json } => {
            let (client, _) = connect::running(context).await?;
            let request = ImagePruneRequest { all, dry_run };
            let outcome = client.call::<ImagePrune>(&request).await?;
            if dry_run {
                return explained(ui, json.json, &outcome);
            }
            return removed(ui, json.json, outcome);
        }
    }
    Ok(Exit::Ok)
}

fn render(images: &[ImageSummary], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["NAME", "DIGEST", "SIZE", "AGE", "USED BY"]);
    for image in images {
        let age = image.created.map(|created| human::age(created.age_at(now)));
        let rest = [
            human::digest(&image.digest),
            human::size(image.size_bytes),
            age.unwrap_or_default(),
            image.used_by.join(", "),
        ];
        let row = |name: &str| std::iter::once(name.to_owned()).chain(rest.iter().cloned());
        if image.references.is_empty() {
            table.row(row(""));
        }
        for reference in &image.references {
            table.row(row(reference));
        }
    }
    table.render(paint, "")
}

/// All that is stored: what would go first, the larger before the smaller.
fn explained(ui: Ui, json: bool, outcome: &ImageRemoveOutcome) -> Outcome {
    if json {
        ui.json(outcome)?;
        return Ok(Exit::Ok);
    }
    let mut items: Vec<&StoredItem> = outcome.items.iter().collect();
    items.sort_by_key(|item| (!item.removed, std::cmp::Reverse(item.size_bytes)));
    let now = Timestamp::now();
    let mut table = Table::new(["", "KIND", "SIZE", "USED", "WHAT", "WHY"]);
    for item in &items {
        let used = item.used.map(|used| human::age(used.age_at(now)));
        table.row([
            if item.removed { "remove" } else { "keep" }.to_owned(),
            kind(item.kind).to_owned(),
            human::size(item.size_bytes),
            used.unwrap_or_default(),
            cut(&item.what),
            item.why.clone(),
        ]);
    }
    ui.data(&table.render(ui.out, ""))?;
    let going = items.iter().filter(|item| item.removed);
    let bytes = going.map(|item| item.size_bytes).sum();
    ui.say(&format!("would free about {}", human::size(bytes)));
    Ok(Exit::Ok)
}

fn kind(kind: StoredKind) -> &'static str {
    match kind {
        StoredKind::Image => "image",
        StoredKind::Step => "build step",
        StoredKind::CacheMount => "cache mount",
        StoredKind::Leftover => "leftover",
    }
}

/// What fits into a row.
fn cut(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn removed(ui: Ui, json: bool, outcome: ImageRemoveOutcome) -> Outcome {
    if json {
        ui.json(&outcome)?;
    } else {
        let names: String = outcome
            .removed
            .iter()
            .map(|name| format!("{name}\n"))
            .collect();
        ui.data(&names)?;
    }
    ui.say(&format!("freed {}", human::size(outcome.freed_bytes)));
    if outcome.errors.is_empty() {
        return Ok(Exit::Ok);
    }
    let mut failure = Failure::new(Exit::Failed, "not everything could be removed");
    failure.causes = outcome.errors;
    Err(failure)
}
