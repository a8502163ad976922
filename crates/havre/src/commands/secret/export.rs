//! `havre secret export --sops`.

use std::fs::File;
use std::io::{self, Read as _};

use havre_api::{SecretGet, SecretGetRequest, SecretList, SecretListQuery, Timestamp};
use havre_secrets::age::{self, Recipient};
use havre_sops::{Entropy, Format, Sealed};
use zeroize::Zeroizing;

use crate::cli::secret::{ExportArgs, ExportFormat};
use crate::connect;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;

pub async fn run(context: &Context, args: ExportArgs) -> Outcome {
    let environment = args.project.one_environment()?;
    let recipients: Vec<Recipient> = args
        .age
        .iter()
        .map(|text| recipient(text))
        .collect::<Result<_, _>>()?;
    let (client, _) = connect::running(context).await?;
    let query = SecretListQuery {
        environment: environment.clone(),
    };
    let mut listed = client.call::<SecretList>(&query).await?;
    if environment.is_none() {
        // Of all environments are listed; those of one are got by its name, and two may have one of a name.
        listed.retain(|secret| secret.environment.is_none());
    }
    let mut values = Vec::new();
    let mut binary = Vec::new();
    for secret in listed {
        let request = SecretGetRequest {
            environment: environment.clone(),
            name: secret.name.clone(),
            version: None,
            reason: args.reason.clone(),
        };
        let got = client.call::<SecretGet>(&request).await?;
        match std::str::from_utf8(got.value.bytes()) {
            Ok(text) => values.push((secret.name, Zeroizing::new(text.to_owned()))),
            Err(_) => binary.push(secret.name),
        }
    }
    if !binary.is_empty() {
        let message = format!(
            "these are no text, and files of sops hold text: {}",
            binary.join(", ")
        );
        return Err(Failure::new(Exit::Failed, message).hint(
            "take each by `havre secret get NAME > FILE`, and encrypt that with `sops` or `age`",
        ));
    }
    let pairs: Vec<(&str, &str)> = values
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let format = match args.format {
        ExportFormat::Yaml => Format::Yaml,
        ExportFormat::Json => Format::Json,
        ExportFormat::Dotenv => Format::Dotenv,
    };
    let now = format!("{:.0}", Timestamp::now());
    let wrap = |key: &[u8]| wrapped(&recipients, key);
    let text = havre_sops::encrypt(&pairs, format, &now, &mut Kernel, wrap)
        .map_err(|error| Failure::new(Exit::Failed, "cannot write the file").caused_by(&error))?;
    context.ui.data(&text)?;
    Ok(Exit::Ok)
}

fn recipient(text: &str) -> Result<Recipient, Failure> {
    text.parse().map_err(|error: age::KeyTextError| {
        Failure::new(Exit::Usage, "--age takes a recipient").caused_by(&error)
    })
}

fn wrapped(recipients: &[Recipient], key: &[u8]) -> io::Result<Vec<Sealed>> {
    let each = recipients.iter().map(|recipient| {
        Ok(Sealed {
            recipient: recipient.to_string(),
            file: age::encrypt(recipient, key).map_err(io::Error::other)?,
        })
    });
    each.collect()
}

/// Random bytes of the kernel's.
struct Kernel;

impl Entropy for Kernel {
    type Error = io::Error;

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        File::open("/dev/urandom")?.read_exact(bytes)
    }
}
