//! `havre secret rotate`: the steps of a rotation, and the script between them.
//!
//! ```text
//! begin ─► SCRIPT add ─► SCRIPT verify ─► switch ─► retiring ─► SCRIPT retire ─► done
//! ```
//! The machine keeps how far it is; each step may be taken twice. The script runs here, with the rights of
//! who calls it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use havre_api::{
    Client, ClientError, EnvironmentId, ErrorCode, SecretBytes, SecretList, SecretListQuery,
    SecretOrigin, SecretRotate, SecretRotateRequest, SecretRotated, SecretRotation,
    SecretRotationStep, SecretStep, SecretStepRequest, SecretSwitch, SecretSwitchOutcome,
    Timestamp,
};
use rustix::fs::{MemfdFlags, Mode, SealFlags};

use super::whose;
use crate::cli::secret::RotateArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::ui::Ui;
use crate::{connect, human, progress, secret_input};

/// For a script: whose the secret is. The second one means the same to `havre`.
const PROJECT: &str = "HAVRE_PROJECT";
const ENVIRONMENT: &str = "HAVRE_ENVIRONMENT";

/// Of which secret.
struct Of<'a> {
    client: &'a Client,
    ui: Ui,
    environment: Option<EnvironmentId>,
    name: String,
}

pub async fn run(context: &Context, args: RotateArgs) -> Outcome {
    let ui = context.ui;
    let environment = args.project.one_environment()?;
    // Before anything is begun.
    let base = context.root.base();
    let script = args.with.as_deref();
    let script = script.map(|path| Script::new(path, base)).transpose()?;
    let client = connect::started(context).await?;
    let of = Of {
        client: &client,
        ui,
        environment,
        name: args.name.clone(),
    };
    let reason = args.reason.clone().unwrap_or_else(|| match &script {
        Some(script) => format!("to rotate it with {}", script.path.display()),
        None => String::new(),
    });
    let rotation = match args.abort {
        true => of.abort(script.as_ref(), reason).await?,
        false => {
            let begun = of.begin(&args, script.is_some(), reason).await?;
            of.carry_on(begun, script.as_ref()).await?
        }
    };
    if args.json.json {
        ui.json(&rotation)?;
    }
    Ok(Exit::Ok)
}

/// How far a rotation is, for a person.
pub fn sentence(name: &str, rotation: &SecretRotation, now: Timestamp) -> String {
    let next = match rotation.step {
        SecretRotationStep::Staged | SecretRotationStep::Switched => {
            "`havre secret rotate` goes on with it, with --abort back"
        }
        SecretRotationStep::Retiring => "`havre secret rotate` goes on with it",
        SecretRotationStep::Aborting => "`havre secret rotate --abort` goes on with it",
        SecretRotationStep::Done | SecretRotationStep::Aborted => "it is over",
    };
    format!(
        "`{name}` is being rotated from version {} to {}, begun by {} {} ago, {}: {next}",
        rotation.from,
        rotation.to,
        rotation.begun_by,
        human::age(rotation.begun_at.age_at(now)),
        rotation.step.word(),
    )
}

impl Of<'_> {
    /// Begins with the value that is given, or goes on with the one that is staged; where there is neither, a
    /// value is asked for.
    async fn begin(
        &self,
        args: &RotateArgs,
        values: bool,
        reason: String,
    ) -> Result<SecretRotated, Failure> {
        let given = secret_input::given(&args.value)?;
        let is_given = given.is_some();
        let mut request = self.request(values, reason);
        if let Some((value, origin)) = given {
            (request.value, request.origin) = (Some(value), origin);
        }
        let begun = match self.client.call::<SecretRotate>(&request).await {
            Err(ClientError::Refused(error)) if error.code == ErrorCode::Conflict && !is_given => {
                // No rotation is under way to go on with.
                let question = format!("new value of {}: ", self.name);
                request.value = Some(secret_input::asked(&question)?);
                self.client.call::<SecretRotate>(&request).await?
            }
            begun => begun?,
        };
        for warning in &begun.warnings {
            self.ui.warn(warning, None);
        }
        let now = Timestamp::now();
        if begun.resumed {
            self.ui.say(&sentence(&self.name, &begun.rotation, now));
            if is_given {
                let message =
                    "the value that was staged then is used, not the one that is given now";
                self.ui.warn(message, None);
            }
        } else {
            let (from, to) = (begun.rotation.from, begun.rotation.to);
            let whose = whose(self.environment.as_ref());
            self.ui.say(&format!(
                "`{}` {whose}: version {to} is to take the place of version {from}",
                self.name
            ));
        }
        Ok(begun)
    }

    async fn carry_on(
        &self,
        begun: SecretRotated,
        script: Option<&Script>,
    ) -> Result<SecretRotation, Failure> {
        let mut rotation = begun.rotation;
        if rotation.step == SecretRotationStep::Aborting {
            let message = format!(
                "`{}` is on its way back to version {}",
                self.name, rotation.from
            );
            return Err(Failure::new(Exit::Busy, message)
                .hint("`havre secret rotate --abort` goes on with it"));
        }
        if rotation.scripted && script.is_none() {
            let message = format!("the rotation of `{}` was begun with a script", self.name);
            return Err(Failure::new(Exit::Usage, message).hint(
                "without it the new value may not be valid: go on with the same --with, or --abort",
            ));
        }
        let files = script
            .map(|_| Files::new(begun.old.as_ref(), begun.new.as_ref()))
            .transpose()?;
        let script = script.zip(files.as_ref());
        if matches!(
            rotation.step,
            SecretRotationStep::Staged | SecretRotationStep::Switched
        ) {
            let switched = match self.put_into_use(&rotation, script).await {
                Ok(switched) => switched,
                Err(failure) => {
                    if let Some((script, _)) = script {
                        self.take_back(&rotation, script, begun.new.as_ref(), begun.old.as_ref())
                            .await;
                    }
                    return Err(failure);
                }
            };
            self.tell(&switched, rotation.to);
            rotation = self.step(&rotation, SecretRotationStep::Retiring).await?;
        }
        self.script(script, "retire")?;
        rotation = self.step(&rotation, SecretRotationStep::Done).await?;
        let (from, to) = (rotation.from, rotation.to);
        self.ui.say(&format!(
            "`{}`: version {to} is in use, version {from} is retired",
            self.name
        ));
        Ok(rotation)
    }

    async fn put_into_use(
        &self,
        rotation: &SecretRotation,
        script: Option<(&Script, &Files)>,
    ) -> Result<SecretSwitchOutcome, Failure> {
        if rotation.step == SecretRotationStep::Staged {
            for step in ["add", "verify"] {
                self.script(script, step)?;
            }
        }
        self.switch(rotation, SecretRotationStep::Switched).await
    }

    /// After a failure: makes the new value invalid if somebody gave it up meanwhile, who did not know that the
    /// script would make it valid after that. What cannot be done of it is said beside the failure.
    async fn take_back(
        &self,
        rotation: &SecretRotation,
        script: &Script,
        new: Option<&SecretBytes>,
        old: Option<&SecretBytes>,
    ) {
        let taken_back = match self.was_given_up(rotation).await {
            Ok(false) => return,
            Ok(true) => {
                Files::new(new, old).and_then(|files| self.script(Some((script, &files)), "retire"))
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = taken_back {
            let message = format!(
                "version {} may have been given up and be valid all the same: {}",
                rotation.to, failure.message
            );
            self.ui.warn(&message, None);
        }
    }

    /// Whether somebody has gone back, or is about to, while we went on.
    async fn was_given_up(&self, rotation: &SecretRotation) -> Result<bool, Failure> {
        let query = SecretListQuery {
            environment: self.environment.clone(),
        };
        let mut listed = self.client.call::<SecretList>(&query).await?.into_iter();
        let ours = listed.find(|one| one.name == self.name && one.environment == self.environment);
        Ok(ours.is_some_and(|ours| {
            let goes_on = ours.rotation.is_some_and(|now| {
                now.to == rotation.to && now.step != SecretRotationStep::Aborting
            });
            !goes_on
                && ours
                    .current
                    .is_some_and(|current| current.version != rotation.to)
        }))
    }

    async fn abort(
        &self,
        script: Option<&Script>,
        reason: String,
    ) -> Result<SecretRotation, Failure> {
        let request = self.request(script.is_some(), reason);
        let begun = self.client.call::<SecretRotate>(&request).await?;
        let mut rotation = begun.rotation;
        if rotation.step == SecretRotationStep::Retiring {
            let message = format!(
                "version {} of `{}` may work no more: there is no way back",
                rotation.from, self.name
            );
            return Err(
                Failure::new(Exit::Busy, message).hint("`havre secret rotate` goes on to the end")
            );
        }
        let switched = self.switch(&rotation, SecretRotationStep::Aborting).await?;
        self.tell(&switched, rotation.from);
        match script {
            // What is old and new has changed places.
            Some(script) => {
                let files = Files::new(begun.new.as_ref(), begun.old.as_ref())?;
                self.script(Some((script, &files)), "retire")?;
            }
            None if rotation.scripted => self.ui.warn(
                &format!(
                    "version {} may work still: the script was not run",
                    rotation.to
                ),
                None,
            ),
            None => {}
        }
        rotation = self.step(&rotation, SecretRotationStep::Aborted).await?;
        let (from, to) = (rotation.from, rotation.to);
        self.ui.say(&format!(
            "`{}`: version {from} is in use, version {to} is out of use",
            self.name
        ));
        Ok(rotation)
    }

    fn request(&self, values: bool, reason: String) -> SecretRotateRequest {
        SecretRotateRequest {
            environment: self.environment.clone(),
            name: self.name.clone(),
            value: None,
            origin: SecretOrigin::Set,
            values,
            reason,
        }
    }

    fn to(&self, rotation: &SecretRotation, step: SecretRotationStep) -> SecretStepRequest {
        SecretStepRequest {
            environment: self.environment.clone(),
            name: self.name.clone(),
            version: rotation.to,
            step,
        }
    }

    async fn switch(
        &self,
        rotation: &SecretRotation,
        step: SecretRotationStep,
    ) -> Result<SecretSwitchOutcome, Failure> {
        let request = self.to(rotation, step);
        let environment = self.environment.as_ref();
        progress::follow_all::<SecretSwitch>(self.client, self.ui, environment, &request).await
    }

    async fn step(
        &self,
        rotation: &SecretRotation,
        step: SecretRotationStep,
    ) -> Result<SecretRotation, Failure> {
        let request = self.to(rotation, step);
        Ok(self.client.call::<SecretStep>(&request).await?)
    }

    fn tell(&self, switched: &SecretSwitchOutcome, version: u32) {
        for (environment, release) in &switched.environments {
            self.ui.say(&format!(
                "{environment}: release {release} has version {version}"
            ));
        }
    }

    fn script(&self, script: Option<(&Script, &Files)>, step: &str) -> Result<(), Failure> {
        let Some((script, files)) = script else {
            return Ok(());
        };
        self.ui.say(&format!("{} {step}", script.path.display()));
        script.run(step, &self.name, self.environment.as_ref(), files)
    }
}

/// What makes values valid and invalid.
struct Script {
    path: PathBuf,
    /// For commands of ours in it.
    root: Option<PathBuf>,
}

impl Script {
    fn new(path: &Path, root: Option<&Path>) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::new(Exit::Usage, format!("cannot run {}", path.display())).caused_by(&error)
        };
        let path = std::fs::canonicalize(path).map_err(failed)?;
        let about = std::fs::metadata(&path).map_err(failed)?;
        if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
            let message = format!("{} is no program", path.display());
            return Err(
                Failure::new(Exit::Usage, message).hint(format!("chmod +x {}", path.display()))
            );
        }
        Ok(Self {
            path,
            root: root.map(Path::to_owned),
        })
    }

    fn run(
        &self,
        step: &str,
        name: &str,
        environment: Option<&EnvironmentId>,
        files: &Files,
    ) -> Result<(), Failure> {
        let failed = |why: String| {
            let message = format!("`{} {step}` failed: {why}", self.path.display());
            Failure::new(Exit::Failed, message)
                .hint("the same command goes on from here; with --abort it goes back, until a value is retired")
        };
        // Standard output is for data of ours.
        let talk = io::stderr();
        let talk =
            rustix::io::fcntl_dupfd_cloexec(&talk, 0).map_err(|error| failed(error.to_string()))?;
        // As commands of ours in it read them.
        let scope = environment.map(|id| {
            let project = (PROJECT, id.project.to_string());
            [project, (ENVIRONMENT, id.environment.to_string())]
        });
        let root = self.root.iter().map(|root| ("HAVRE_ROOT", root));
        let status = Command::new(&self.path)
            .arg(step)
            .envs(root)
            .env("HAVRE_SECRET", name)
            .env_remove(PROJECT)
            .env_remove(ENVIRONMENT)
            .envs(scope.into_iter().flatten())
            .env("HAVRE_OLD_FILE", files.old.path())
            .env("HAVRE_NEW_FILE", files.new.path())
            .stdout(Stdio::from(talk))
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(status.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// Both values, for a script.
struct Files {
    old: Memory,
    new: Memory,
}

impl Files {
    fn new(old: Option<&SecretBytes>, new: Option<&SecretBytes>) -> Result<Self, Failure> {
        let file = |value: Option<&SecretBytes>| {
            let value = value.ok_or_else(|| {
                Failure::new(Exit::Failed, "the daemon tells no value for the script")
            })?;
            Memory::new(value.bytes()).map_err(|error| {
                Failure::new(Exit::Failed, "cannot keep a value for the script").caused_by(&error)
            })
        };
        Ok(Self {
            old: file(old)?,
            new: file(new)?,
        })
    }
}

/// A file in memory that is gone with this process, and that nobody else's processes can open.
struct Memory(File);

impl Memory {
    fn new(bytes: &[u8]) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create(c"havre-secret", flags)?);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o400))?;
        file.write_all(bytes)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(Self(file))
    }

    /// By way of this process: what the script starts in turn opens it too, and inherits nothing.
    fn path(&self) -> PathBuf {
        let (process, number) = (std::process::id(), self.0.as_raw_fd());
        PathBuf::from(format!("/proc/{process}/fd/{number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> (tempfile::TempDir, Script) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rotate");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let script = Script::new(&path, None).unwrap();
        (folder, script)
    }

    #[test]
    fn a_script_finds_both_values_in_files_and_nowhere_else() {
        let text = "cd \"$(dirname \"$0\")\"\n\
                    printf '%s %s %s ' \"$1\" \"$HAVRE_SECRET\" \"${HAVRE_ENVIRONMENT-none}\" > told\n\
                    sh -c 'cat \"$HAVRE_OLD_FILE\" \"$HAVRE_NEW_FILE\"' >> told\n\
                    tr '\\0' '\\n' < /proc/$$/environ > environ\n\
                    ls -lL \"$HAVRE_NEW_FILE\" | cut -c1-10 > mode";
        let (folder, script) = script(text);
        let value = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        let files = Files::new(Some(&value("first-value")), Some(&value("second-value"))).unwrap();
        script.run("add", "db/password", None, &files).unwrap();
        let told = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(told("told"), "add db/password none first-valuesecond-value");
        assert!(!told("environ").contains("-value"));
        assert_eq!(told("mode").trim(), "-r--------");
    }

    #[test]
    fn a_script_that_fails_or_cannot_be_run_says_so() {
        let (folder, script) = script("exit 3");
        let value = SecretBytes::new(vec![1]);
        let files = Files::new(Some(&value), Some(&value)).unwrap();
        let failure = script.run("verify", "x", None, &files).unwrap_err();
        assert!(
            failure.message.contains("verify` failed: exit status: 3"),
            "{failure:?}"
        );
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert!(Script::new(&plain, None).is_err());
        assert!(Script::new(&folder.path().join("none"), None).is_err());
    }
}
