//! `havre secret seal`.

use havre_api::{
    MachineQuery, MachineSlot, Seal, SealAdd, SealAddRequest, SealOutcome, SealRekey, SealRemove,
    SealRemoveRequest, SealReport, SealUnlock, SealUnlockRequest, Timestamp,
};

use crate::cli::secret::{MachineWith, SealCommand, SlotCommand};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::ui::Ui;
use crate::{connect, human, secret_input};

pub(super) async fn run(context: &Context, command: SealCommand) -> Outcome {
    let ui = context.ui;
    let (client, _) = connect::running(context).await?;
    match command {
        SealCommand::Status(json) => {
            let report = client.call::<Seal>(&MachineQuery {}).await?;
            if json.json {
                ui.json(&report)?;
            } else {
                ui.data(&status(&report, ui.out, Timestamp::now()))?;
            }
        }
        SealCommand::AddSlot(slot) => {
            let request = added(slot)?;
            let done = client.call::<SealAdd>(&request).await?;
            told(ui, &done, "is added");
        }
        SealCommand::RemoveSlot { slot } => {
            let done = client
                .call::<SealRemove>(&SealRemoveRequest { slot })
                .await?;
            told(ui, &done, "is removed");
        }
        SealCommand::Rekey => {
            let done = client.call::<SealRekey>(&MachineQuery {}).await?;
            ui.say("the root key and the keys of all secrets are new ones");
            told(ui, &done, "");
        }
        SealCommand::Unlock { stdin } => {
            let secret = match stdin {
                true => secret_input::standard_text()?,
                false => secret_input::hidden("passphrase or age identity: ")?,
            };
            let done = client
                .call::<SealUnlock>(&SealUnlockRequest { secret })
                .await?;
            told(ui, &done, "opens the secrets");
        }
    }
    Ok(Exit::Ok)
}

fn added(slot: SlotCommand) -> Result<SealAddRequest, Failure> {
    Ok(match slot {
        SlotCommand::Passphrase { stdin: true } => {
            let passphrase = secret_input::standard_text()?;
            SealAddRequest::Passphrase {
                again: passphrase.clone(),
                passphrase,
            }
        }
        SlotCommand::Passphrase { stdin: false } => SealAddRequest::Passphrase {
            passphrase: secret_input::hidden("new passphrase: ")?,
            again: secret_input::hidden("once more, to open the new slot: ")?,
        },
        SlotCommand::Age { recipient } => SealAddRequest::Age { recipient },
        SlotCommand::Machine { with } => SealAddRequest::Machine {
            with: match with {
                MachineWith::File => MachineSlot::File,
                MachineWith::Host => MachineSlot::Host,
                MachineWith::Tpm => MachineSlot::Tpm,
            },
        },
    })
}

fn told(ui: Ui, done: &SealOutcome, what: &str) {
    if let Some(slot) = done.slot {
        ui.say(&format!("slot {slot} {what}"));
    }
    for warning in &done.warnings {
        ui.warn(warning, None);
    }
}

fn status(report: &SealReport, paint: Paint, now: Timestamp) -> String {
    let mut text = match &report.locked {
        None => "secrets are open\n".to_owned(),
        Some(why) => format!(
            "secrets are locked: {why}\n  what runs goes on; what needs a secret is refused until `havre \
             secret seal unlock`\n"
        ),
    };
    let mut table = Table::new(["SLOT", "KIND", "MADE", "SEEN TO OPEN", "WHAT"]);
    for slot in &report.slots {
        table.row([
            slot.number.to_string(),
            slot.kind.clone(),
            human::age(slot.created.age_at(now)),
            match slot.opened {
                Some(opened) => human::age(opened.age_at(now)),
                None => "never".to_owned(),
            },
            slot.about.clone(),
        ]);
    }
    text.push_str(&table.render(paint, ""));
    for finding in &report.findings {
        text.push_str(&format!("! {finding}\n"));
    }
    text
}
