//! `havre secret import`: `.env` files and files of SOPS.

use std::path::Path;

use havre_api::{SecretBytes, SecretOrigin, SecretSet, SecretSetRequest};
use havre_secrets::age;
use havre_sops::{Format, SopsError};
use zeroize::Zeroizing;

use crate::cli::secret::ImportArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::{connect, human, secret_input};

/// Where SOPS itself looks for identities of age.
const KEY: &str = "SOPS_AGE_KEY";
const KEY_FILE: &str = "SOPS_AGE_KEY_FILE";
const DEFAULT_KEYS: &str = "sops/age/keys.txt";

/// A name and its value.
type Value = (String, Zeroizing<String>);

pub async fn run(context: &Context, args: ImportArgs) -> Outcome {
    let ui = context.ui;
    let environment = args.project.one_environment()?;
    let found = read(&args)?;
    if found.is_empty() {
        ui.say("there is nothing in it to import");
        return Ok(Exit::Ok);
    }
    if args.dry_run {
        let names: String = found.iter().map(|(name, _)| format!("{name}\n")).collect();
        ui.data(&names)?;
        return Ok(Exit::Ok);
    }
    let client = connect::started(context).await?;
    let (mut set, mut unchanged) = (0, 0);
    for (name, value) in found {
        let request = SecretSetRequest {
            environment: environment.clone(),
            name,
            value: SecretBytes::new(value.as_bytes().to_vec()),
            origin: SecretOrigin::Imported,
        };
        let done = client.call::<SecretSet>(&request).await.map_err(|error| {
            let so_far = human::count(set + unchanged, "secret");
            let mut failure = Failure::from(error);
            failure.message = format!("`{}`: {}", request.name, failure.message);
            failure.hint(format!(
                "{so_far} before it were imported: run it again once this is mended, which changes nothing of those"
            ))
        })?;
        for warning in &done.warnings {
            ui.warn(&format!("`{}`: {warning}", request.name), None);
        }
        match done.unchanged {
            true => unchanged += 1,
            false => set += 1,
        }
    }
    let mut told = format!("{} imported", human::count(set, "secret"));
    if unchanged > 0 {
        told.push_str(&format!(", {unchanged} had that value already"));
    }
    ui.say(&told);
    ui.say(&format!(
        "once services have them by `secrets:`, remove {} and what else holds the values (`havre secret scan` finds what \
         looks like a secret, not any value of the store)",
        args.file.display()
    ));
    Ok(Exit::Ok)
}

fn read(args: &ImportArgs) -> Result<Vec<Value>, Failure> {
    let file = &args.file;
    let shown = file.display();
    let bytes = secret_input::file(file)?;
    let text = std::str::from_utf8(bytes.bytes())
        .map_err(|_| Failure::new(Exit::Project, format!("{shown} is no UTF-8")))?;
    let format = format(file).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{shown} is of no known form"))
            .hint("files end in .env, .yaml, .yml or .json; a single value: havre secret set NAME --from-file FILE")
    })?;
    let is_sops = havre_sops::is_encrypted(text, format).map_err(|error| {
        Failure::new(Exit::Project, format!("cannot read {shown}")).caused_by(&error)
    })?;
    let values = match (is_sops, format) {
        (true, _) => decrypted(args, text, format)?,
        (false, Format::Dotenv) => env(text, file)?,
        (false, Format::Yaml | Format::Json) => {
            let message = format!("{shown} was not encrypted by sops");
            return Err(
                Failure::new(Exit::Project, message).hint("only .env files are imported in clear")
            );
        }
    };
    let named = values.into_iter().map(|(name, value)| match &args.prefix {
        Some(prefix) => (format!("{prefix}{name}"), value),
        None => (name, value),
    });
    // An empty value is none: the service would get nothing, and nobody would see why.
    Ok(named.filter(|(_, value)| !value.is_empty()).collect())
}

/// `.env`, `.env.production`, `production.env`, or by its end.
fn format(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    match name.starts_with(".env") {
        true => Some(Format::Dotenv),
        false => Format::of_name(&name),
    }
}

fn env(text: &str, file: &Path) -> Result<Vec<Value>, Failure> {
    let values = havre_model::env_values(text).map_err(|error| {
        Failure::new(Exit::Project, format!("cannot read {}", file.display()))
            .caused_by(&error)
            .hint("a value with a dollar sign in it stands in single quotes")
    })?;
    let values = values.into_iter();
    Ok(values
        .map(|(name, value)| (name, Zeroizing::new(value)))
        .collect())
}

fn decrypted(args: &ImportArgs, text: &str, format: Format) -> Result<Vec<Value>, Failure> {
    let identities = identities(args.identity.as_deref())?;
    let unwrap = |file: &[u8]| {
        let mut opened = identities
            .iter()
            .map(|identity| age::decrypt(identity, file));
        opened.find_map(Result::ok)
    };
    let opened = havre_sops::decrypt(text, format, unwrap).map_err(|error| {
        let failure = Failure::new(
            Exit::Project,
            format!("cannot decrypt {}", args.file.display()),
        )
        .caused_by(&error);
        match error {
            SopsError::NoKey => failure.hint(format!(
                "pass an identity of age by --identity FILE, {KEY_FILE} or {KEY}; {} tried",
                human::count(identities.len() as u64, "identity")
                    .replace("identitys", "identities")
            )),
            SopsError::NotForAge { .. } | SopsError::KeyGroups => failure
                .hint("add an age recipient with `sops rotate --add-age age1…`, then import it"),
            _ => failure,
        }
    })?;
    let items = opened.items.into_iter().filter(|item| item.was_encrypted);
    let named = items.map(|item| (item.path.join("/"), item.value));
    if format != Format::Dotenv {
        return Ok(named.collect());
    }
    // Quotes are taken off, as where the file is used in clear; a single line at a time, so that none can spoil another.
    named
        .map(|(name, value)| {
            let is_quoted = value.len() >= 2
                && [b"\"", b"'"].iter().any(|quote| {
                    value.as_bytes().starts_with(*quote) && value.as_bytes().ends_with(*quote)
                });
            if !is_quoted {
                return Ok((name, value));
            }
            let line = Zeroizing::new(format!("A={}", *value));
            let mut values = env(&line, &args.file)?;
            let value = values.pop().map(|(_, value)| value).unwrap_or_default();
            Ok((name, value))
        })
        .collect()
}

/// Those of the file that is given, or where SOPS itself would look.
fn identities(given: Option<&Path>) -> Result<Vec<age::Identity>, Failure> {
    if let Some(path) = given {
        return in_file(path);
    }
    if let Ok(text) = std::env::var(KEY) {
        return parsed(&Zeroizing::new(text), KEY);
    }
    if let Some(path) = std::env::var_os(KEY_FILE) {
        return in_file(Path::new(&path));
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").map(std::path::PathBuf::from);
    let home = || Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".config"));
    let path = config.or_else(home).map(|folder| folder.join(DEFAULT_KEYS));
    match path.filter(|path| path.exists()) {
        Some(path) => in_file(&path),
        None => Ok(Vec::new()),
    }
}

fn in_file(path: &Path) -> Result<Vec<age::Identity>, Failure> {
    let bytes = secret_input::file(path)?;
    let text = String::from_utf8_lossy(bytes.bytes()).into_owned();
    parsed(&Zeroizing::new(text), &path.display().to_string())
}

/// Each line but comments is an identity.
fn parsed(text: &str, of: &str) -> Result<Vec<age::Identity>, Failure> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identities = lines.map(|line| {
        line.parse().map_err(|error: age::KeyTextError| {
            Failure::new(Exit::Usage, format!("cannot read the identities of {of}"))
                .caused_by(&error)
        })
    });
    identities.collect()
}
