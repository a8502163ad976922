//! From options to a [`Project`]: finds the files and takes them through every stage.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::canonical::clean;
use crate::capabilities::{self, Capabilities, Written};
use crate::config::{self, Config, ConfigView};
use crate::decode::{self, Decoded, Surroundings};
use crate::diagnostic::Diagnostic;
use crate::dotenv::{self, Around, Format};
use crate::files::Files;
use crate::hosts::Hosts;
use crate::interpolate::{self, Seen, Unset, Variables};
use crate::model::ModelReader;
use crate::project::{EnvironmentGates, EnvironmentName, Project, ProjectName, Tls};
use crate::report::Report;
use crate::rules;
use crate::settings::{self, HostCa, PRODUCTION, Settings};
use crate::source::Span;
use crate::validate;
use crate::yaml::{self, Node};

/// Names that docker compose looks for, in its order.
const COMPOSE_FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];
/// Laid on top where one is found.
const OVERRIDE_FILES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The project's folder, or one compose file in it.
    pub directory: PathBuf,
    /// Compose files (`-f`), each laid on those before it; relative ones start from `directory`.
    /// Empty: those that havre.yaml or COMPOSE_FILE names, else what docker compose would find.
    pub files: Vec<PathBuf>,
    /// The project's name (`-p`).
    pub project_name: Option<String>,
    /// `None`: production.
    pub environment: Option<EnvironmentName>,
    /// Files with variables (`--env-file`) in place of `.env`; relative ones start from
    /// `directory`.
    pub env_files: Vec<PathBuf>,
    /// Profiles to enable beside those of COMPOSE_PROFILES; `*` enables all.
    pub profiles: Vec<String>,
    /// The caller's process environment.
    pub variables: BTreeMap<String, String>,
    /// What `build: {host_ca: auto}` of havre.yaml comes to on this machine.
    pub host_ca_detected: bool,
    /// The project is about to run on this machine: a file that is mounted must be there. Elsewhere
    /// its lack is a warning, as whoever deploys may bring it.
    pub to_run: bool,
    /// Networks of this machine that environments share; `None`: nobody told.
    pub shared_networks: Option<BTreeSet<String>>,
    /// What the environment's target can do; by default this machine.
    pub target: Capabilities,
}

/// A project that can be run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// What has no effect or is risky; [`advise`] adds notes.
    pub warnings: Vec<Diagnostic>,
}

/// Why a project cannot be run: everything that is wrong, not only the first.
#[derive(Clone, Debug)]
pub struct LoadFailure {
    /// At least one.
    pub errors: Vec<Diagnostic>,
    /// What else was noticed.
    pub warnings: Vec<Diagnostic>,
}

impl LoadFailure {
    pub(crate) fn new(mut errors: Vec<Diagnostic>, warnings: Vec<Diagnostic>) -> Self {
        if errors.is_empty() {
            // Every stage that gives up says why; this is the net under that rule.
            let mut report = crate::yaml::report(PathBuf::new());
            report.error("compose/failed", None, "the project cannot be loaded");
            errors = report.finish().0;
        }
        Self { errors, warnings }
    }
}

impl std::error::Error for LoadFailure {}

impl fmt::Display for LoadFailure {
    /// Every error as a compiler would print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

/// What a text of havre.yaml says has to hold before anything comes into environments: of each, in their order.
pub fn gates_of(text: &str) -> Result<Vec<EnvironmentGates>, LoadFailure> {
    let mut report = crate::yaml::report(PathBuf::new());
    let production = EnvironmentName::new(PRODUCTION);
    let settings = settings::of_text(text, &production, &mut report);
    let failed = report.has_errors();
    let (errors, warnings) = report.finish();
    match settings {
        Some(settings) if !failed => Ok(settings.gates),
        _ => Err(LoadFailure::new(errors, warnings)),
    }
}

/// Whether some environment answers at a name of `localhost`, by a text of havre.yaml, or without one. One with
/// mistakes is taken for it.
pub fn is_of_localhost(text: Option<&str>) -> bool {
    let Some(text) = text else { return true };
    let read = |environment: &EnvironmentName| {
        let mut report = crate::yaml::report(PathBuf::new());
        settings::of_text(text, environment, &mut report)
    };
    let production = EnvironmentName::new(PRODUCTION);
    let Some(settings) = read(&production) else {
        return true;
    };
    let mut others = settings.gates.iter().map(|gates| read(&gates.name));
    settings.is_of_localhost()
        || others.any(|other| other.is_none_or(|settings| settings.is_of_localhost()))
}

/// Reads, merges and validates a project's files.
pub fn load(options: &LoadOptions) -> Result<Loaded, LoadFailure> {
    let mut report = crate::yaml::report(PathBuf::new());
    let project = Loader::new(options, &mut report).load();
    let failed = report.has_errors();
    let (errors, warnings) = report.finish();
    match project {
        Some(read) if !failed => Ok(Loaded {
            project: read.project,
            warnings,
        }),
        _ => Err(LoadFailure::new(errors, warnings)),
    }
}

/// As [`load`], with the project as one compose file.
pub fn config(options: &LoadOptions, view: ConfigView) -> Result<(Loaded, Config), LoadFailure> {
    let mut report = crate::yaml::report(PathBuf::new());
    let read = Loader::new(options, &mut report).load();
    let failed = report.has_errors();
    let shown = read.filter(|_| !failed).map(|read| {
        let config = config::config(&read.tree, &read.project, &report, view);
        (read.project, config)
    });
    let (errors, warnings) = report.finish();
    match shown {
        Some((project, config)) => Ok((Loaded { project, warnings }, config)),
        None => Err(LoadFailure::new(errors, warnings)),
    }
}

/// As [`load`], with the traps of [`crate::rules`] among the findings: also where nothing is wrong
/// but that a file or a variable beside the project's files is missing.
pub fn advise(options: &LoadOptions) -> Result<Loaded, LoadFailure> {
    let mut report = crate::yaml::report(PathBuf::new());
    let read = Loader::new(options, &mut report).load();
    if let Some(read) = &read
        && report.has_only_errors_of(rules::SURROUNDINGS)
    {
        rules::look(&read.project, &read.tree, &read.variables, &mut report);
    }
    let failed = report.has_errors();
    let (errors, warnings) = report.finish();
    match read {
        Some(read) if !failed => Ok(Loaded {
            project: read.project,
            warnings,
        }),
        _ => Err(LoadFailure::new(errors, warnings)),
    }
}

/// The names alone of a project and its environment: also where a variable is unset or the rest
/// of the files cannot be run, so that what runs already can be looked at and stopped.
pub fn identify(options: &LoadOptions) -> Result<(ProjectName, EnvironmentName), LoadFailure> {
    let mut report = crate::yaml::report(PathBuf::new());
    let found = Loader::new(options, &mut report).find();
    let (errors, warnings) = report.finish();
    match found {
        Some(found) => Ok((found.name, found.environment)),
        None => Err(LoadFailure::new(errors, warnings)),
    }
}

/// The folder, and the compose file when that is what was named.
fn project_folder(path: &Path) -> (PathBuf, Option<PathBuf>) {
    let absolute = std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| clean(&path));
    if absolute.is_dir() || !absolute.exists() && absolute.extension().is_none() {
        return (absolute, None);
    }
    let folder = absolute
        .parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_owned);
    (folder, Some(absolute))
}

/// What was read, though there may be errors.
struct Read {
    project: Project,
    /// What the project was decoded from.
    tree: Node,
    variables: Variables,
}

struct Loader<'o> {
    options: &'o LoadOptions,
    directory: PathBuf,
    single: Option<PathBuf>,
    report: &'o mut Report,
    files: Files,
}

/// What is known before the compose files are read in earnest.
struct Found {
    name: ProjectName,
    environment: EnvironmentName,
    settings: Settings,
    variables: Variables,
    paths: Vec<(PathBuf, Option<Span>)>,
    folder: PathBuf,
}

impl<'o> Loader<'o> {
    fn new(options: &'o LoadOptions, report: &'o mut Report) -> Self {
        let (directory, single) = project_folder(&options.directory);
        *report = crate::yaml::report(directory.clone());
        let files = Files::of(&directory);
        Self {
            options,
            directory,
            single,
            report,
            files,
        }
    }

    fn find(&mut self) -> Option<Found> {
        let environment = self.environment()?;
        let settings = settings::read(
            &self.directory,
            self.home(),
            &environment,
            &mut self.files,
            self.report,
        )?;
        let mut variables = self.early_variables()?;
        let paths = self.compose_files(&settings, &variables)?;
        let folder = paths
            .first()?
            .0
            .parent()
            .unwrap_or(&self.directory)
            .to_owned();
        self.read_env_files(&folder, &settings, &mut variables)?;
        let (name, name_place) = self.project_name(&paths, &folder, &settings, &variables)?;
        let name = checked_name(name, name_place, self.report)?;
        Some(Found {
            name,
            environment,
            settings,
            variables,
            paths,
            folder,
        })
    }

    fn home(&self) -> Option<PathBuf> {
        self.options.variables.get("HOME").map(PathBuf::from)
    }

    fn load(mut self) -> Option<Read> {
        let home = self.home();
        let Found {
            name,
            environment,
            settings,
            mut variables,
            paths,
            folder,
        } = self.find()?;
        variables
            .files
            .insert("COMPOSE_PROJECT_NAME".into(), name.as_str().to_owned());

        let unset = match environment.as_str() {
            PRODUCTION => Unset::Error,
            _ => Unset::Warning,
        };
        let mut tree = ModelReader::new(&mut self.files, self.report, unset, home)
            .model(&paths, &folder, &variables)?;
        crate::merge::settle(&mut tree);
        let profiles = self.profiles(&variables);
        let decoded = decode::decode(
            &tree,
            &mut Surroundings {
                variables: &variables,
                files: &mut self.files,
                report: self.report,
                profiles: &profiles,
                host_ca: match settings.host_ca {
                    Some(HostCa::Yes) => true,
                    Some(HostCa::No) => false,
                    Some(HostCa::Auto) | None => self.options.host_ca_detected,
                },
                to_run: self.options.to_run,
                directory: &folder,
                ground: decode::HostContext {
                    directory: &self.directory,
                    allowed: &settings.allowed(),
                    shared: &settings.shared(),
                    known: self.options.shared_networks.as_ref(),
                },
                secret_variables: &settings.secret_variables(),
                to_allow: Vec::new(),
            },
        )?;
        self.report.drop_about("compose/unset-variable", |name| {
            decoded.disabled.contains_key(name)
        });
        let project = self.assemble(name, environment, folder, decoded, &settings);
        let written = Written {
            compose: tree.as_map(),
            settings: settings.written.as_ref(),
        };
        capabilities::report(&self.options.target, &project, written, self.report);
        Some(Read {
            project,
            tree,
            variables,
        })
    }

    fn assemble(
        &mut self,
        name: ProjectName,
        environment: EnvironmentName,
        directory: PathBuf,
        decoded: Decoded,
        settings: &Settings,
    ) -> Project {
        let report = &mut *self.report;
        let Decoded {
            mut services,
            places,
            disabled,
            declared_networks,
            ..
        } = decoded;
        validate::settings_of_services(
            settings,
            &mut services,
            &disabled,
            &decoded.secrets,
            report,
        );
        validate::settings_of_networks(settings, &decoded.networks, &declared_networks, report);
        let mut hosts = Hosts::new(&name, &environment, settings);
        validate::cycles(&services, &places, report);
        validate::build_cycles(&services, &places, report);
        validate::joined_networks(&services, &places, report);
        validate::conditions(&services, &places, report);
        validate::image_names(&services, &places, report);
        validate::own_image_names(&name, &services, &places, report);
        validate::port_clashes(&services, &places, report);
        let routes = validate::routes(settings, &mut services, &mut hosts, &places, report);
        if services.is_empty() && !report.has_errors() {
            let mut profiles: Vec<_> = disabled.into_values().flatten().collect();
            profiles.sort();
            profiles.dedup();
            let error = report.error("compose/no-services", None, "no service is enabled");
            if !profiles.is_empty() {
                error.hint(format!("enable a profile: {}", profiles.join(", ")));
            }
        }
        let rollout = settings.rollout.clone().unwrap_or_default();
        let project = Project {
            name,
            environment,
            directory,
            sent: false,
            rollout: rollout.settle(&services),
            services,
            networks: decoded.networks,
            volumes: decoded.volumes,
            secrets: decoded.secrets,
            configs: decoded.configs,
            hosts: hosts.all(),
            tls: settings.tls.clone().unwrap_or(Tls::Auto),
            routes,
            gates: settings.gates.clone(),
        };
        validate::volume_names(&project, report);
        validate::numbers_of_hosts(&project, report);
        validate::forwarded_ports(&project, &hosts, &places, report);
        project
    }

    fn environment(&mut self) -> Option<EnvironmentName> {
        let Some(name) = &self.options.environment else {
            return Some(EnvironmentName::new(PRODUCTION));
        };
        if !settings::valid_environment(name.as_str()) {
            let message = format!("`{name}` is not a valid environment name");
            self.report
                .error("havre/environment", None, message)
                .hint("small letters, digits and `-`, at most 40");
            return None;
        }
        Some(name.clone())
    }

    /// The caller's variables, for finding the compose files.
    fn early_variables(&mut self) -> Option<Variables> {
        let process = self.options.variables.clone();
        let mut variables = Variables {
            process,
            files: BTreeMap::new(),
        };
        if self.options.env_files.is_empty() {
            let path = self.directory.join(".env");
            if path.is_file() {
                self.read_env_file(&path, None, &mut variables)?;
            }
        }
        for file in &self.options.env_files {
            let path = clean(&self.directory.join(file));
            self.read_env_file(&path, None, &mut variables)?;
        }
        Some(variables)
    }

    /// The other files with variables, now that the project's folder is known.
    fn read_env_files(
        &mut self,
        folder: &Path,
        settings: &Settings,
        variables: &mut Variables,
    ) -> Option<()> {
        let beside = folder.join(".env");
        if self.options.env_files.is_empty() && folder != self.directory && beside.is_file() {
            self.read_env_file(&beside, None, variables)?;
        }
        for (path, asked) in &settings.env_files {
            self.read_env_file(path, *asked, variables)?;
        }
        Some(())
    }

    fn read_env_file(
        &mut self,
        path: &Path,
        asked: Option<Span>,
        variables: &mut Variables,
    ) -> Option<()> {
        let source = self.files.read(path, "env file", asked, self.report)?;
        let around = Around {
            outer: &|name| variables.process.get(name).cloned(),
            earlier: &variables.files,
        };
        let values = dotenv::parse(source, Format::Compose, &around, self.report);
        variables.files.extend(values);
        Some(())
    }

    /// The nearest compose file in a folder that holds this one.
    fn compose_file_above(&self) -> Option<PathBuf> {
        self.directory.ancestors().skip(1).find_map(|folder| {
            let mut files = COMPOSE_FILES.iter().map(|name| folder.join(name));
            files.find(|file| file.is_file())
        })
    }

    fn compose_files(
        &mut self,
        settings: &Settings,
        variables: &Variables,
    ) -> Option<Vec<(PathBuf, Option<Span>)>> {
        if !self.options.files.is_empty() {
            let resolve = |file: &PathBuf| (clean(&self.directory.join(file)), None);
            return Some(self.options.files.iter().map(resolve).collect());
        }
        if let Some(file) = &self.single {
            return Some(vec![(file.clone(), None)]);
        }
        if let Some(files) = &settings.compose {
            return if files.is_empty() {
                None
            } else {
                Some(files.clone())
            };
        }
        if let Some(list) = variables
            .get("COMPOSE_FILE")
            .filter(|list| !list.is_empty())
        {
            let separator = variables
                .get("COMPOSE_PATH_SEPARATOR")
                .filter(|s| !s.is_empty());
            let files = list
                .split(separator.unwrap_or(":"))
                .filter(|file| !file.is_empty());
            let resolve = |file: &str| (clean(&self.directory.join(file)), None);
            return Some(files.map(resolve).collect());
        }
        let find = |names: &[&str]| -> Vec<PathBuf> {
            names
                .iter()
                .map(|name| self.directory.join(name))
                .filter(|p| p.is_file())
                .collect()
        };
        let found = find(&COMPOSE_FILES);
        let Some(first) = found.first() else {
            let shown = self.directory.display();
            let (message, hint) = match (self.directory.is_dir(), self.compose_file_above()) {
                (false, _) => (
                    format!("there is no folder {shown}"),
                    "name the folder of the compose file; single files go with -f".to_owned(),
                ),
                (true, Some(file)) => (
                    format!("{shown} has no compose file"),
                    format!(
                        "there is {} above it: go to its folder, or name that",
                        file.display()
                    ),
                ),
                (true, None) => (
                    format!("{shown} has no compose file"),
                    format!("it would be named {}", COMPOSE_FILES.join(", ")),
                ),
            };
            self.report
                .error("compose/no-file", None, message)
                .hint(hint);
            return None;
        };
        if found.len() > 1 {
            let shown = self.report.shown(first);
            let message = format!("there are several compose files; {shown} is used");
            self.report.warn("compose/several-files", None, message);
        }
        let mut files = vec![(first.clone(), None)];
        files.extend(
            find(&OVERRIDE_FILES)
                .into_iter()
                .next()
                .map(|path| (path, None)),
        );
        Some(files)
    }

    /// The given name, else COMPOSE_PROJECT_NAME, havre.yaml's, the compose files', the folder's.
    fn project_name(
        &mut self,
        paths: &[(PathBuf, Option<Span>)],
        folder: &Path,
        settings: &Settings,
        variables: &Variables,
    ) -> Option<(String, Option<Span>)> {
        if let Some(name) = &self.options.project_name {
            return Some((name.clone(), None));
        }
        if let Some(name) = variables
            .get("COMPOSE_PROJECT_NAME")
            .filter(|name| !name.is_empty())
        {
            return Some((name.to_owned(), None));
        }
        if let Some((name, place)) = &settings.name {
            return Some((name.clone(), Some(*place)));
        }
        let mut found = None;
        for (path, asked) in paths {
            let source = self.files.read(path, "compose file", *asked, self.report)?;
            if !may_have_name(self.report.sources.text(source)) {
                continue;
            }
            let mark = self.report.mark();
            // Parsed again, and heard, when the model is read.
            let documents = yaml::parse(source, self.report);
            self.report.retain_since(mark, |_| false);
            for document in documents.unwrap_or_default() {
                if let Some(node) = document.as_map().and_then(|top| top.get("name"))
                    && let Some(name) = top_level_name(node, variables)
                {
                    found = Some((name, Some(node.span)));
                }
            }
        }
        let name = found.or_else(|| Some((normalised(folder.file_name()?.to_str()?), None)));
        match name {
            Some((name, place)) if !name.is_empty() => Some((name, place)),
            _ => {
                let shown = folder.display();
                let message = format!("no project name can be made from {shown}");
                self.report
                    .error("compose/name", None, message)
                    .hint("give one with -p, or `name:` in the compose file or havre.yaml");
                None
            }
        }
    }

    fn profiles(&self, variables: &Variables) -> BTreeSet<String> {
        let named = variables.get("COMPOSE_PROFILES").unwrap_or_default();
        let named = named
            .split(',')
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .map(str::to_owned);
        named.chain(self.options.profiles.iter().cloned()).collect()
    }
}

/// Spares most files a second parse: a top-level key stands at the start of a line, or in braces.
fn may_have_name(text: &str) -> bool {
    text.trim_start().starts_with('{')
        || text
            .lines()
            .any(|line| line.trim_start_matches(['"', '\'']).starts_with("name"))
}

/// What is wrong with it is reported when the whole file is interpolated.
fn top_level_name(node: &Node, variables: &Variables) -> Option<String> {
    let lookup = |name: &str| variables.get(name).map(str::to_owned);
    let name = interpolate::expand(node.text()?, &lookup, &mut Seen::default());
    name.ok().filter(|name| !name.is_empty())
}

/// A folder's name as docker compose makes a project's name of it.
fn normalised(folder: &str) -> String {
    let lower = folder.to_lowercase();
    let plain: String = lower
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        .collect();
    plain.trim_start_matches(['_', '-']).to_owned()
}

fn checked_name(name: String, place: Option<Span>, report: &mut Report) -> Option<ProjectName> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    let valid = name.len() <= 63
        && name.bytes().all(plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !valid {
        let message = format!("`{name}` is not a valid project name");
        report
            .error("compose/name", place, message)
            .hint("small letters, digits, `-` and `_`, at most 63, the first a letter or digit");
        return None;
    }
    Some(ProjectName::new(name))
}
