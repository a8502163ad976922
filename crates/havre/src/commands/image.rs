//! `havre image`.

use havre_api::{
    Empty, ImageImport, ImageImportRequest, ImagePrune, ImagePruneRequest, ImageRemove,
    ImageRemoveOutcome, ImageRemoveRequest, ImageSummary, Images, Timestamp,
};

use super::Context;
use crate::cli::ImageCommand;
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
            let (client, _) = connect::running(&context.root).await?;
            let images = client.call::<Images>(&Empty {}).await?;
            if json.json {
                ui.json(&images)?;
            } else {
                ui.data(&render(&images, ui.out, Timestamp::now()))?;
            }
        }
        ImageCommand::Import { path, tag, json } => {
            let path = std::fs::canonicalize(&path).map_err(|error| {
                let message = format!("cannot find {}", path.display());
                Failure::new(Exit::NotFound, message).caused_by(&error)
            })?;
            let client = connect::started(&context.root, ui).await?;
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
        ImageCommand::Rm { images, json } => {
            let (client, _) = connect::running(&context.root).await?;
            let outcome = client
                .call::<ImageRemove>(&ImageRemoveRequest { images })
                .await?;
            return removed(ui, json.json, outcome);
        }
        ImageCommand::Prune { all, json } => {
            let (client, _) = connect::running(&context.root).await?;
            let outcome = client
                .call::<ImagePrune>(&ImagePruneRequest { all })
                .await?;
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
