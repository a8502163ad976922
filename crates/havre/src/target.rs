//! Which project and environment a command is about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use havre_api::{Client, Empty, EnvironmentId, Networks};
use havre_app::Root;
use havre_model::{EnvironmentName, LoadFailure, LoadOptions, Loaded, Project, ProjectName};

use crate::commands::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::human;
use crate::ui::Ui;

/// The environment where none is named.
const DEFAULT_ENVIRONMENT: &str = "production";

/// The warning about a network that is none of the project's.
const EXTERNAL_NETWORK: &str = "compose/external-network";

/// Folders in which an administrator puts further authorities for the machine to trust.
const LOCAL_AUTHORITIES: [&str; 2] = [
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust/source/anchors",
];

/// Which files make the project, and for which environment.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// A compose file; may be repeated, later ones override
    #[arg(short, long = "file", value_name = "FILE", help_heading = "Project")]
    pub files: Vec<PathBuf>,
    /// A file of variables for the compose file instead of .env; may be repeated
    #[arg(long = "env-file", value_name = "FILE", help_heading = "Project")]
    pub env_files: Vec<PathBuf>,
    /// Enable services of this profile; may be repeated
    #[arg(long = "profile", value_name = "NAME", help_heading = "Project")]
    pub profiles: Vec<String>,
    /// Name of the project instead of the one in the files
    #[arg(short, long, value_name = "NAME", help_heading = "Project")]
    pub project: Option<String>,
    /// The environment [default: production]
    #[arg(
        short,
        long,
        env = "HAVRE_ENVIRONMENT",
        hide_env_values = true,
        value_name = "NAME",
        help_heading = "Project"
    )]
    pub environment: Option<String>,
    /// Take warnings for errors
    #[arg(long, help_heading = "Project")]
    pub strict: bool,
}

/// Which environment, found by the project in the current folder or named.
#[derive(Args, Clone, Debug, Default)]
pub struct TargetArgs {
    /// Name of the project instead of the one in this folder
    #[arg(short, long, value_name = "NAME", help_heading = "Project")]
    pub project: Option<String>,
    /// The environment [default: production]
    #[arg(
        short,
        long,
        env = "HAVRE_ENVIRONMENT",
        hide_env_values = true,
        value_name = "NAME",
        help_heading = "Project"
    )]
    pub environment: Option<String>,
    /// Folder of the project instead of the current one
    #[arg(
        short = 'C',
        long,
        value_name = "DIR",
        conflicts_with = "project",
        help_heading = "Project"
    )]
    pub directory: Option<PathBuf>,
}

impl FileArgs {
    /// Reads the project in `path` that is about to run; its warnings are shown.
    pub async fn load(&self, context: &Context, path: &Path) -> Result<Project, Failure> {
        let options = LoadOptions {
            to_run: true,
            ..self.options(path)?
        };
        let loaded = load_here(&context.root, options, havre_model::load).await;
        self.accept(loaded, context.ui)
    }

    /// What was read, unless there are errors, or warnings that count as such.
    pub fn accept(&self, loaded: Result<Loaded, LoadFailure>, ui: Ui) -> Result<Project, Failure> {
        match loaded {
            Ok(loaded) if self.strict && !loaded.warnings.is_empty() => {
                let count = human::count(loaded.warnings.len() as u64, "warning");
                let message = format!("the project has {count}, and --strict allows none");
                let mut found = Failure::new(Exit::Project, message);
                found.findings = loaded.warnings.iter().map(ToString::to_string).collect();
                Err(found)
            }
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    ui.say(&warning.to_string());
                }
                Ok(loaded.project)
            }
            Err(failure) => Err(project_failure(&failure)),
        }
    }

    /// What to load.
    pub fn options(&self, path: &Path) -> Result<LoadOptions, Failure> {
        Ok(LoadOptions {
            directory: path.to_owned(),
            files: absolute(&self.files)?,
            project_name: self.project.clone(),
            environment: environment_name(self.environment.as_deref())?,
            env_files: absolute(&self.env_files)?,
            profiles: self.profiles.clone(),
            variables: variables(),
            host_ca_detected: host_has_local_authorities(),
            to_run: false,
            shared_networks: None,
        })
    }
}

/// Loads a project with what the daemon knows of the machine's networks: only where the files name some
/// that are not theirs, and a daemon runs.
pub async fn load_here(
    root: &Root,
    options: LoadOptions,
    load: fn(&LoadOptions) -> Result<Loaded, LoadFailure>,
) -> Result<Loaded, LoadFailure> {
    let loaded = load(&options);
    let warnings = match &loaded {
        Ok(loaded) => &loaded.warnings,
        Err(failure) => &failure.warnings,
    };
    if warnings
        .iter()
        .all(|warning| warning.code != EXTERNAL_NETWORK)
    {
        return loaded;
    }
    let client = Client::new(root.api_socket());
    match client.call::<Networks>(&Empty {}).await {
        Ok(networks) => load(&LoadOptions {
            shared_networks: Some(networks.into_iter().map(|network| network.name).collect()),
            ..options
        }),
        // The warning says that nobody knows.
        Err(_) => loaded,
    }
}

impl TargetArgs {
    /// The one environment meant.
    pub fn environment(&self) -> Result<EnvironmentId, Failure> {
        let environment = environment_name(self.environment.as_deref())?;
        let environment = environment.unwrap_or_else(|| EnvironmentName::new(DEFAULT_ENVIRONMENT));
        if let Some(name) = &self.project {
            return Ok(EnvironmentId {
                project: project_name(name)?,
                environment,
            });
        }
        let (project, environment) = havre_model::identify(&self.options(Some(environment)))
            .map_err(|failure| {
                project_failure(&failure)
                    .hint("run it in the project's folder, or name the project with -p")
            })?;
        Ok(EnvironmentId {
            project,
            environment,
        })
    }

    /// The environments meant by a command that shows all where none is named: those of the
    /// project in this folder, if there is one.
    pub fn filter(&self) -> Result<(Option<ProjectName>, Option<EnvironmentName>), Failure> {
        let environment = environment_name(self.environment.as_deref())?;
        if let Some(name) = &self.project {
            return Ok((Some(project_name(name)?), environment));
        }
        match havre_model::identify(&self.options(environment.clone())) {
            Ok((project, _)) => Ok((Some(project), environment)),
            Err(failure) if self.directory.is_none() && has_no_project(&failure) => {
                Ok((None, environment))
            }
            Err(failure) => {
                Err(project_failure(&failure)
                    .hint("name the project with -p to do without its files"))
            }
        }
    }

    fn options(&self, environment: Option<EnvironmentName>) -> LoadOptions {
        LoadOptions {
            directory: self.directory.clone().unwrap_or_else(|| PathBuf::from(".")),
            environment,
            variables: variables(),
            ..LoadOptions::default()
        }
    }
}

/// A replica's id as it is called inside its environment: without the environment's name.
pub fn short_replica<'r>(id: &'r str, environment: &EnvironmentId) -> &'r str {
    id.strip_prefix(&replica_prefix(environment)).unwrap_or(id)
}

/// A replica's id, given in full or as it is called inside its environment.
pub fn full_replica(id: &str, environment: &EnvironmentId) -> String {
    let prefix = replica_prefix(environment);
    if id.starts_with(&prefix) {
        id.to_owned()
    } else {
        format!("{prefix}{id}")
    }
}

fn replica_prefix(environment: &EnvironmentId) -> String {
    format!("{}.{}.", environment.project, environment.environment)
}

fn has_no_project(failure: &LoadFailure) -> bool {
    failure
        .errors
        .iter()
        .all(|error| error.code == "compose/no-file")
}

fn project_failure(failure: &LoadFailure) -> Failure {
    let count = failure.errors.len();
    let errors = human::count(count as u64, "error");
    let mut found = Failure::new(Exit::Project, format!("the project has {errors}"));
    found.findings = failure.errors.iter().map(ToString::to_string).collect();
    found
}

/// Relative to where the user is, not to the project's folder.
fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|error| {
            let message = format!("cannot find {}", path.display());
            Failure::new(Exit::Usage, message).caused_by(&error)
        })
    };
    paths.iter().map(absolute).collect()
}

/// The caller's variables; those that are not text cannot be meant.
fn variables() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Whether somebody made this machine trust an authority of their own, as a proxy that reads TLS
/// needs: builds then have to trust it too. Havre's own does not count.
fn host_has_local_authorities() -> bool {
    let is_foreign = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        (name.ends_with(".crt") || name.ends_with(".pem")) && !name.starts_with("havre")
    };
    LOCAL_AUTHORITIES
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .any(|entries| entries.flatten().any(is_foreign))
}

fn environment_name(name: Option<&str>) -> Result<Option<EnvironmentName>, Failure> {
    let Some(name) = name else { return Ok(None) };
    if !plain(name) {
        let failure = Failure::new(
            Exit::Usage,
            format!("{name:?} is not a name for an environment"),
        );
        return Err(match name.contains('=') {
            true => failure.hint("-e names the environment; a variable is set by --env"),
            false => failure,
        });
    }
    Ok(Some(EnvironmentName::new(name)))
}

fn project_name(name: &str) -> Result<ProjectName, Failure> {
    if !plain(name) {
        return Err(
            Failure::new(Exit::Usage, format!("{name:?} is not a name for a project"))
                .hint("-p names the project; its folder is given by -C"),
        );
    }
    Ok(ProjectName::new(name))
}

/// Catches slips; the daemon checks names in earnest.
fn plain(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    !name.is_empty() && name.chars().all(sound)
}
