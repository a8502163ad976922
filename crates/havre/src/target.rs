//! Which project and environment a command is about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use havre_api::{Empty, EnvironmentId, Networks, TargetCapabilities};
use havre_image::builder::has_local_authorities;
use havre_model::{EnvironmentName, LoadFailure, LoadOptions, Loaded, Project, ProjectName};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::human;
use crate::ui::Ui;

/// The environment where none is named.
const DEFAULT_ENVIRONMENT: &str = "production";

/// Names the environment where the command line does not.
const ENVIRONMENT_VARIABLE: &str = "HAVRE_ENVIRONMENT";

/// The warning about a network that is none of the project's.
const EXTERNAL_NETWORK: &str = "compose/external-network";

/// Which project, and which of its environments. Said before the command's name, as to docker compose, or
/// behind it; all commands about a project take the same.
#[derive(Args, Clone, Debug, Default)]
pub struct ProjectArgs {
    /// A compose file; may be repeated, later ones override
    #[arg(short, long = "file", value_name = "FILE", help_heading = "Project")]
    pub files: Vec<PathBuf>,
    /// A file of variables for the compose file instead of .env; may be repeated
    #[arg(long = "env-file", value_name = "FILE", help_heading = "Project")]
    pub env_files: Vec<PathBuf>,
    /// Folder of the project instead of the current one
    #[arg(
        short = 'C',
        long,
        alias = "project-directory",
        value_name = "DIR",
        help_heading = "Project"
    )]
    pub directory: Option<PathBuf>,
    /// Name of the project instead of the one in the files
    #[arg(
        short,
        long,
        alias = "project-name",
        value_name = "NAME",
        help_heading = "Project"
    )]
    pub project: Option<String>,
    /// The environment [env: HAVRE_ENVIRONMENT] [default: production]
    #[arg(short = 'E', long, value_name = "NAME", help_heading = "Project")]
    pub environment: Option<String>,
}

/// Whose: the machine's where no environment is named, and so of all environments that have no own.
#[derive(Args, Clone, Debug, Default)]
#[command(mut_arg("environment", |arg| arg.help(OF_ENVIRONMENT)))]
pub struct ScopeArgs {
    #[command(flatten)]
    project: ProjectArgs,
}

/// Of [`ScopeArgs`], which have no default.
const OF_ENVIRONMENT: &str = "Of this environment; without it, of the machine, for all environments that have no own \
     [env: HAVRE_ENVIRONMENT]";

/// What may stand before the command's name.
#[derive(Args, Clone, Debug, Default)]
pub struct LeadingArgs {
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    profiles: ProfileArgs,
}

/// `--profile`.
#[derive(Args, Clone, Debug, Default)]
pub struct ProfileArgs {
    /// Enable services of this profile; may be repeated
    #[arg(long = "profile", value_name = "NAME", help_heading = "Project")]
    profiles: Vec<String>,
}

/// A project whose folder may be named alone, as the command takes no other names.
#[derive(Args, Clone, Debug, Default)]
pub struct FolderArgs {
    /// Folder of the project instead of the current one
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    #[command(flatten)]
    pub project: ProjectArgs,
}

/// A project whose files are read to be run or looked through.
#[derive(Args, Clone, Debug, Default)]
pub struct LoadArgs {
    #[command(flatten)]
    pub folder: FolderArgs,
    #[command(flatten)]
    profiles: ProfileArgs,
    /// Take warnings for errors
    #[arg(long, help_heading = "Project")]
    pub strict: bool,
}

/// What a command was told of its project: where what stood before its name is added.
#[derive(Debug)]
pub struct Named<'a> {
    project: &'a mut ProjectArgs,
    path: Option<&'a mut Option<PathBuf>>,
    profiles: Option<&'a mut ProfileArgs>,
}

impl ProjectArgs {
    pub fn named(&mut self) -> Named<'_> {
        Named {
            project: self,
            path: None,
            profiles: None,
        }
    }
}

impl ScopeArgs {
    pub fn named(&mut self) -> Named<'_> {
        self.project.named()
    }

    /// The environment that is named; none: none is. A project alone is half a name.
    pub fn one_environment(&self) -> Result<Option<EnvironmentId>, Failure> {
        if self.project.environment_name()?.is_some() {
            return self.project.environment().map(Some);
        }
        match self.project.is_given() {
            true => Err(
                Failure::new(Exit::Usage, "which environment of the project?").hint(
                    "name it with -E; without a project it is the machine's, for all environments",
                ),
            ),
            false => Ok(None),
        }
    }
}

impl FolderArgs {
    pub fn named(&mut self) -> Named<'_> {
        Named {
            project: &mut self.project,
            path: Some(&mut self.path),
            profiles: None,
        }
    }
}

impl LoadArgs {
    pub fn named(&mut self) -> Named<'_> {
        Named {
            profiles: Some(&mut self.profiles),
            ..self.folder.named()
        }
    }
}

impl LeadingArgs {
    /// Adds what stood before a command's name to what stands behind it, which is the later word.
    pub fn add_to(self, named: Option<Named<'_>>) -> Result<(), Failure> {
        let Some(named) = named else {
            return match self.project.is_given() || !self.profiles.profiles.is_empty() {
                true => Err(Failure::new(Exit::Usage, "this command reads no project")
                    .hint("leave out what stands before the command's name")),
                false => Ok(()),
            };
        };
        let ProjectArgs {
            files,
            env_files,
            directory,
            project,
            environment,
        } = self.project;
        let later = named.project;
        later.files.splice(..0, files);
        later.env_files.splice(..0, env_files);
        later.directory = later.directory.take().or(directory);
        later.project = later.project.take().or(project);
        later.environment = later.environment.take().or(environment);
        if let Some(path) = named.path.and_then(Option::take)
            && let Some(directory) = later.directory.replace(path)
        {
            let message = format!("the folder is named twice: by -C {}", directory.display());
            return Err(Failure::new(Exit::Usage, message).hint("leave out -C or PATH"));
        }
        match named.profiles {
            Some(later) => {
                later.profiles.splice(..0, self.profiles.profiles);
                Ok(())
            }
            None if self.profiles.profiles.is_empty() => Ok(()),
            None => Err(
                Failure::new(Exit::Usage, "--profile has no meaning for this command")
                    .hint("it is about what `havre up` brought up; profiles are for `up` itself"),
            ),
        }
    }
}

impl LoadArgs {
    /// Of this project, with its usual services.
    pub fn of(project: ProjectArgs) -> Self {
        Self {
            folder: FolderArgs {
                path: None,
                project,
            },
            ..Self::default()
        }
    }

    /// Reads the project that is about to run; its warnings are shown.
    pub async fn load(&self, context: &Context) -> Result<Project, Failure> {
        let options = LoadOptions {
            to_run: context.is_here(),
            ..self.options()?
        };
        let loaded = load_here(context, options, havre_model::load).await;
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
    pub fn options(&self) -> Result<LoadOptions, Failure> {
        Ok(LoadOptions {
            profiles: self.profiles.profiles.clone(),
            host_ca_detected: has_local_authorities(),
            ..self.folder.project.options()?
        })
    }

    /// The project's folder.
    pub fn path(&self) -> &Path {
        self.folder.project.path()
    }

    /// Whether the command line names a project in any way.
    pub fn is_given(&self) -> bool {
        self.folder.project.is_given() || !self.profiles.profiles.is_empty() || self.strict
    }
}

/// Loads a project with what a running daemon knows: what environments run on and cannot do there, and,
/// where the files name networks that are not theirs, those of the machine.
pub async fn load_here(
    context: &Context,
    options: LoadOptions,
    load: fn(&LoadOptions) -> Result<Loaded, LoadFailure>,
) -> Result<Loaded, LoadFailure> {
    let client = context.client();
    let options = match context.is_here() {
        true => options,
        // What this machine has says nothing of the one that the project is for.
        false => LoadOptions {
            host_ca_detected: false,
            ..options
        },
    };
    let options = match client.call::<TargetCapabilities>(&Empty {}).await {
        Ok(target) => LoadOptions {
            target: target.capabilities,
            host_ca_detected: match context.is_here() {
                true => options.host_ca_detected,
                false => target.host_ca_detected,
            },
            ..options
        },
        // Nobody can tell without a daemon, and an older one has only this machine. A command that needs
        // the daemon says what is wrong with it, and the daemon refuses again.
        Err(_) => options,
    };
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
    match client.call::<Networks>(&Empty {}).await {
        Ok(networks) => load(&LoadOptions {
            shared_networks: Some(networks.into_iter().map(|network| network.name).collect()),
            ..options
        }),
        // The warning says that nobody knows.
        Err(_) => loaded,
    }
}

impl ProjectArgs {
    /// The one environment meant.
    pub fn environment(&self) -> Result<EnvironmentId, Failure> {
        if let Some(project) = self.name_alone()? {
            let environment = self.environment_name()?;
            return Ok(EnvironmentId {
                project,
                environment: environment
                    .unwrap_or_else(|| EnvironmentName::new(DEFAULT_ENVIRONMENT)),
            });
        }
        let (project, environment) =
            havre_model::identify(&self.options()?).map_err(|failure| {
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
        let environment = self.environment_name()?;
        if let Some(project) = self.name_alone()? {
            return Ok((Some(project), environment));
        }
        match havre_model::identify(&self.options()?) {
            Ok((project, _)) => Ok((Some(project), environment)),
            Err(failure) if !self.names_files() && has_no_project(&failure) => {
                Ok((None, environment))
            }
            Err(failure) => {
                Err(project_failure(&failure)
                    .hint("name the project with -p to do without its files"))
            }
        }
    }

    /// The project, where it is named and none of its files is: then none is needed.
    fn name_alone(&self) -> Result<Option<ProjectName>, Failure> {
        match &self.project {
            Some(name) if !self.names_files() => project_name(name).map(Some),
            _ => Ok(None),
        }
    }

    fn names_files(&self) -> bool {
        self.directory.is_some() || !self.files.is_empty() || !self.env_files.is_empty()
    }

    fn is_given(&self) -> bool {
        self.names_files() || self.project.is_some() || self.environment.is_some()
    }

    fn path(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new("."))
    }

    fn options(&self) -> Result<LoadOptions, Failure> {
        if let Some(name) = &self.project {
            project_name(name)?;
        }
        Ok(LoadOptions {
            directory: self.path().to_owned(),
            files: absolute(&self.files)?,
            project_name: self.project.clone(),
            environment: self.environment_name()?,
            env_files: absolute(&self.env_files)?,
            variables: variables(),
            ..LoadOptions::default()
        })
    }

    /// `None`: the default.
    fn environment_name(&self) -> Result<Option<EnvironmentName>, Failure> {
        let variable = std::env::var_os(ENVIRONMENT_VARIABLE)
            .filter(|value| !value.is_empty())
            .map(|value| value.to_string_lossy().into_owned());
        let Some(name) = self.environment.clone().or(variable) else {
            return Ok(None);
        };
        match plain(&name) {
            true => Ok(Some(EnvironmentName::new(name))),
            false => Err(Failure::new(
                Exit::Usage,
                format!("{name:?} is not a name for an environment"),
            )),
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
