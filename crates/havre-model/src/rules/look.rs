//! What rules look at, and how they tell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use super::dockerfile::{self, Recipe, Said};
use super::line::{self, Line};
use super::sources::Sources;
use super::{Rule, rule};
use crate::databases::FoundDatabases;
use crate::interpolate::Variables;
use crate::project::{Condition, FileSource, Mount, Project, Service, ServiceName, VolumeName};
use crate::report::Report;
use crate::source::{LineColumn, Span};
use crate::strategy::{Strategy, StrategyReason, strategy};
use crate::yaml::{Map, Node};

/// A service, and what is known of what it runs.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub name: &'a ServiceName,
    pub service: &'a Service,
    /// Of its Dockerfile.
    pub recipe: Option<Recipe>,
    /// What its image is built from; services of one folder share them.
    pub sources: Option<Rc<Sources>>,
    /// What it runs; empty: not known.
    pub line: Line,
    /// The Dockerfile says what it runs, not the compose file.
    pub line_of_image: Option<u32>,
    /// It runs once per release: others wait for its end.
    pub is_job: bool,
    /// How its replicas are replaced, and why.
    pub strategy: (Strategy, StrategyReason),
}

/// Every service of the project.
pub(super) fn subjects(project: &Project) -> Vec<Subject<'_>> {
    let services = project.services.iter();
    let mut read: BTreeMap<&Path, Rc<Sources>> = BTreeMap::new();
    services
        .map(|(name, service)| {
            let recipe = service.build.as_ref().and_then(dockerfile::read);
            let (line, line_of_image) = run(service, recipe.as_ref());
            let sources = service.build.as_ref().map(|build| {
                let context = build.context.as_path();
                let sources = || Rc::new(Sources::read(context));
                Rc::clone(read.entry(context).or_insert_with(sources))
            });
            let waits = |other: &Service| {
                let edge = other.depends_on.get(name);
                edge.is_some_and(|edge| edge.condition == Condition::ServiceCompletedSuccessfully)
            };
            Subject {
                name,
                service,
                recipe,
                sources,
                line,
                line_of_image,
                is_job: project.services.values().any(waits),
                strategy: strategy(
                    name,
                    service,
                    &project.routes,
                    project.services.values(),
                    &FoundDatabases::default(),
                ),
            }
        })
        .collect()
}

/// What a service runs, and the Dockerfile's line where that says it.
fn run(service: &Service, recipe: Option<&Recipe>) -> (Line, Option<u32>) {
    let written = |words: &Option<Vec<String>>| words.as_ref().map(|words| words.join(" "));
    let said = |said: Option<&Said>| said.map(|said| said.text.clone());
    let of_image = |pick: fn(&Recipe) -> Option<&Said>| recipe.and_then(pick);
    let image_entry = of_image(|recipe| recipe.entrypoint.as_ref());
    // An entrypoint of the service's own does without the image's CMD.
    let image_command = of_image(|recipe| recipe.command.as_ref())
        .filter(|_| service.entrypoint.is_none() && service.command.is_none());
    let entry = written(&service.entrypoint).or_else(|| said(image_entry));
    let command = written(&service.command).or_else(|| said(image_command));
    let text: Vec<String> = entry.into_iter().chain(command).collect();
    let own = service.entrypoint.is_some() || service.command.is_some();
    let line = image_command.or(image_entry).map(|said| said.line);
    (Line::new(&text.join(" ")), line.filter(|_| !own))
}

impl Subject<'_> {
    /// A variable of the service, or of its image.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let own = self.service.environment.get(name).map(String::as_str);
        let recipe = self.recipe.as_ref();
        own.or_else(|| Some(recipe?.environment.get(name)?.text.as_str()))
    }

    /// New replicas start beside the old ones.
    pub fn overlaps(&self) -> bool {
        self.strategy.0 == Strategy::StartFirst
    }

    /// Mounts that outlive a container: path inside, whether it is read-only, and what is there.
    pub fn kept(&self) -> impl Iterator<Item = (&str, bool, Kept<'_>)> {
        self.service.mounts.iter().filter_map(|mount| match mount {
            Mount::Volume {
                name,
                target,
                read_only,
                ..
            } => Some((target.as_str(), *read_only, Kept::Volume(name))),
            Mount::Bind {
                source,
                target,
                read_only,
                ..
            } => Some((target.as_str(), *read_only, Kept::Folder(source))),
            Mount::Anonymous { .. } | Mount::Tmpfs { .. } => None,
        })
    }
}

/// Where a mount's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept<'a> {
    Volume(&'a VolumeName),
    Folder(&'a Path),
}

/// What rules look at.
pub(super) struct Look<'a> {
    pub project: &'a Project,
    pub tree: &'a Node,
    pub variables: &'a Variables,
    pub subjects: &'a [Subject<'a>],
    pub report: &'a mut Report,
    /// Findings of rules that may be about every service.
    pub held: Vec<Held>,
}

/// A finding that waits until it is known whether every service has it.
pub(super) struct Held {
    rule: &'static Rule,
    service: ServiceName,
    place: Option<Span>,
    message: String,
}

impl<'a> Look<'a> {
    /// Reports a trap at `path` below the service, or as near as there is something.
    pub fn found(
        &mut self,
        id: &'static str,
        subject: &Subject<'_>,
        path: &[&str],
        message: String,
    ) {
        let place = self.place(subject.name, path);
        self.report_finding(id, subject, place, message, None);
    }

    /// As [`Self::found`], with what to do in this case.
    pub fn found_with(
        &mut self,
        id: &'static str,
        subject: &Subject<'_>,
        path: &[&str],
        message: String,
        fix: &str,
    ) {
        let place = self.place(subject.name, path);
        self.report_finding(id, subject, place, message, Some(fix));
    }

    /// Reports a trap in the command, wherever that is written.
    pub fn found_in_line(&mut self, id: &'static str, subject: &Subject<'_>, message: String) {
        match subject.line_of_image {
            Some(line) => self.found_in_dockerfile(id, subject, line, message),
            None => {
                let has = |key| {
                    let service = self.service(subject.name).and_then(Node::as_map);
                    service.is_some_and(|map| map.get(key).is_some())
                };
                let key = if has("command") {
                    "command"
                } else {
                    "entrypoint"
                };
                self.found(id, subject, &[key], message);
            }
        }
    }

    /// Reports a trap in a line of the service's Dockerfile.
    pub fn found_in_dockerfile(
        &mut self,
        id: &'static str,
        subject: &Subject<'_>,
        line: u32,
        message: String,
    ) {
        let file = subject.recipe.as_ref().and_then(|recipe| {
            let length = recipe.text.lines().nth(line.checked_sub(1)? as usize)?;
            Some((recipe.path.as_ref()?, &recipe.text, length.chars().count()))
        });
        let Some((path, text, length)) = file else {
            return self.found(id, subject, &["build", "dockerfile_inline"], message);
        };
        let source = self.report.add_source(path, text.clone());
        let at = |column| LineColumn { line, column };
        let place = Span {
            source,
            start: at(1),
            end: at(length as u32 + 1),
        };
        self.report_finding(id, subject, Some(place), message, None);
    }

    fn report_finding(
        &mut self,
        id: &'static str,
        subject: &Subject<'_>,
        place: Option<Span>,
        message: String,
        fix: Option<&str>,
    ) {
        let Some(rule) = rule(id) else { return };
        if self.is_ignored(id, subject.name) {
            return;
        }
        if rule.of_all.is_some() {
            self.held.push(Held {
                rule,
                service: subject.name.clone(),
                place,
                message,
            });
            return;
        }
        self.report
            .record(rule.severity, id, place, message)
            .hint(fix.unwrap_or(rule.fix));
    }

    /// Reports what was held: once, where it is true of every service of several.
    pub fn report_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        let services = self.tree.as_map().and_then(|top| top.key_span("services"));
        let mut told: Vec<&str> = Vec::new();
        for one in &held {
            let of_rule = held.iter().filter(|other| other.rule.id == one.rule.id);
            let with: BTreeSet<&ServiceName> = of_rule.map(|other| &other.service).collect();
            let all = with.len() > 1 && with.len() == self.subjects.len();
            let (place, message) = match one.rule.of_all {
                Some(_) if all && told.contains(&one.rule.id) => continue,
                Some(of_all) if all => (services, of_all),
                Some(_) | None => (one.place, one.message.as_str()),
            };
            told.push(one.rule.id);
            self.report
                .record(one.rule.severity, one.rule.id, place, message)
                .hint(one.rule.fix);
        }
    }

    pub fn service(&self, name: &ServiceName) -> Option<&'a Node> {
        self.tree
            .as_map()?
            .get("services")?
            .as_map()?
            .get(name.as_str())
    }

    /// Where the last key of `path` that is there stands.
    fn place(&self, name: &ServiceName, path: &[&str]) -> Option<Span> {
        let services = self.tree.as_map()?.get("services")?.as_map()?;
        let mut place = services.key_span(name.as_str());
        let mut node = services.get(name.as_str());
        for key in path {
            let Some(map) = node.and_then(Node::as_map) else {
                break;
            };
            if let Some(span) = map.key_span(key) {
                place = Some(span);
            }
            node = map.get(key);
        }
        place
    }

    /// Reports a trap in the mount at `target`.
    pub fn found_in_mount(
        &mut self,
        id: &'static str,
        subject: &Subject<'_>,
        target: &str,
        message: String,
    ) {
        let volumes = self
            .service(subject.name)
            .and_then(|service| service.as_map()?.get("volumes")?.as_list());
        let is_it = |item: &&Node| {
            let written = item.as_map().and_then(|map| map.get("target")?.text());
            written == Some(target)
        };
        let item = volumes.and_then(|items| items.iter().find(is_it));
        let place = item.map(|item| item.span);
        let place = place.or_else(|| self.place(subject.name, &["volumes"]));
        self.report_finding(id, subject, place, message, None);
    }

    /// `x-havre-ignore` of the service or of the file names the rule.
    fn is_ignored(&self, id: &str, name: &ServiceName) -> bool {
        let names = |map: Option<&Map>| {
            let list = map.and_then(|map| map.get("x-havre-ignore")?.as_list());
            list.is_some_and(|list| list.iter().any(|item| item.text() == Some(id)))
        };
        names(self.tree.as_map()) || names(self.service(name).and_then(Node::as_map))
    }

    /// The text of a file as the service sees it: mounted, granted or copied into the image.
    pub fn file(&self, subject: &Subject<'_>, path: &str) -> Option<String> {
        let service = subject.service;
        let mounted = service.mounts.iter().find_map(|mount| match mount {
            Mount::Bind { source, target, .. } => {
                let below = Path::new(path).strip_prefix(target).ok()?;
                Some(if below.as_os_str().is_empty() {
                    source.clone()
                } else {
                    source.join(below)
                })
            }
            Mount::Volume { .. } | Mount::Anonymous { .. } | Mount::Tmpfs { .. } => None,
        });
        if let Some(source) = mounted {
            return dockerfile::small_file(&source);
        }
        let granted = |all: &BTreeMap<String, FileSource>, grants: &[crate::project::FileGrant]| {
            let grant = grants.iter().find(|grant| grant.target == path)?;
            match all.get(&grant.source)? {
                FileSource::File { path } => dockerfile::small_file(path),
                FileSource::Sent { content, .. } => String::from_utf8(content.clone()).ok(),
                FileSource::Content { content } => Some(content.clone()),
                FileSource::Environment { value, .. } => Some(value.clone()),
                FileSource::Store { .. } => None,
            }
        };
        granted(&self.project.configs, &service.configs).or_else(|| {
            let local = subject.recipe.as_ref()?.file(path)?;
            dockerfile::small_file(&local)
        })
    }

    /// Scripts that are started first, where they can be read.
    pub fn scripts(&self, subject: &Subject<'_>) -> String {
        let mut text = String::new();
        for word in subject.line.words() {
            let name = line::program(word);
            let is_script = name.ends_with(".sh") || name.contains("entrypoint");
            if let Some(script) = is_script.then(|| self.file(subject, word)).flatten() {
                text.push_str(&script);
                text.push('\n');
            }
        }
        text
    }
}
