//! Compose files → one tree: read, interpolated, made canonical, extended, included and merged.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::canonical::{self, Base};
use crate::dotenv::{self, Around, Format};
use crate::files::Files;
use crate::interpolate::{self, Unset, Variables};
use crate::keys;
use crate::merge;
use crate::read::{Field, Fields};
use crate::report::Report;
use crate::source::Span;
use crate::suggest;
use crate::yaml::{self, Map, Node, Value};

/// Longest chain of `extends`, and deepest `include`.
const MAX_CHAIN: usize = 32;
/// Most files that one project may include.
const MAX_INCLUDED: usize = 256;
/// Most values that `extends` may copy; a small file must not become a large tree.
const MAX_COPIED: usize = 100_000;

/// Reads and merges the files of one project.
pub(crate) struct ModelReader<'a> {
    pub files: &'a mut Files,
    pub report: &'a mut Report,
    pub unset: Unset,
    pub home: Option<PathBuf>,
    included: usize,
    copied: usize,
    /// Services of files that were read only to be extended.
    libraries: HashMap<PathBuf, Rc<Map>>,
}

/// A file and a service in it.
type Step = (PathBuf, String);
/// The service being resolved and those that led to it.
type Chain = Vec<Step>;

/// A service whose `extends` are resolved.
struct Resolved {
    service: Map,
    /// Services laid under it.
    depth: usize,
}

/// Where the services of one document, and of those merged before it, are found.
struct Scope<'s> {
    path: &'s Path,
    services: Rc<Map>,
    earlier: Option<&'s Map>,
    variables: &'s Variables,
    /// Services that others extend; `None`: the error is recorded.
    done: HashMap<Step, Option<Rc<Resolved>>>,
}

impl<'a> ModelReader<'a> {
    pub fn new(
        files: &'a mut Files,
        report: &'a mut Report,
        unset: Unset,
        home: Option<PathBuf>,
    ) -> Self {
        Self {
            files,
            report,
            unset,
            home,
            included: 0,
            copied: 0,
            libraries: HashMap::new(),
        }
    }

    /// The merged tree of `paths`, each laid on those before it.
    pub fn model(
        &mut self,
        paths: &[(PathBuf, Option<Span>)],
        directory: &Path,
        variables: &Variables,
    ) -> Option<Node> {
        self.nested_model(paths, directory, variables, &mut Vec::new())
    }

    fn nested_model(
        &mut self,
        paths: &[(PathBuf, Option<Span>)],
        directory: &Path,
        variables: &Variables,
        stack: &mut Vec<PathBuf>,
    ) -> Option<Node> {
        let mut merged: Option<Node> = None;
        let mut complete = true;
        for (path, asked) in paths {
            let Some(documents) = self.documents(path, *asked, directory, variables) else {
                complete = false;
                continue;
            };
            for document in documents {
                let span = document.span;
                let Value::Map(mut top) = document.value else {
                    continue;
                };
                let base = merged.as_ref().and_then(Node::as_map);
                let services = base
                    .and_then(|map| map.get("services"))
                    .and_then(Node::as_map);
                self.extend_services(&mut top, path, services, variables);
                self.include(&mut top, directory, variables, stack);
                let known = merged.get_or_insert_with(|| Node::map(span, Map::default()));
                if let Some(known) = known.as_map_mut() {
                    merge::merge_models(known, top);
                }
            }
        }
        if let Some(model) = merged.as_mut().and_then(Node::as_map_mut) {
            name_contexts(model, directory);
        }
        if complete { merged } else { None }
    }

    /// The documents of one file, ready to be merged.
    fn documents(
        &mut self,
        path: &Path,
        asked: Option<Span>,
        directory: &Path,
        variables: &Variables,
    ) -> Option<Vec<Node>> {
        let source = self.files.read(path, "compose file", asked, self.report)?;
        let mut documents = yaml::parse(source, self.report)?;
        documents.retain(|document| !document.is_null());
        if documents.is_empty() {
            let shown = self.report.shown(path);
            let message = format!("{shown} is empty");
            self.report
                .error("compose/no-services", asked, message)
                .hint("list the services under `services:`");
            return None;
        }
        let base = Base {
            directory: directory.to_owned(),
            home: self.home.clone(),
        };
        for document in &mut documents {
            if document.as_map().is_none() {
                let message = format!("a compose file is a mapping, not {}", document.kind());
                self.report
                    .error("compose/type", document.span, message)
                    .hint("start with `services:`");
                return None;
            }
            interpolate::interpolate(document, variables, self.unset, self.report);
            canonical::canonicalise(document, &base, self.report);
        }
        Some(documents)
    }

    fn extend_services(
        &mut self,
        top: &mut Map,
        path: &Path,
        earlier: Option<&Map>,
        variables: &Variables,
    ) {
        let Some(services) = top.get_mut("services").and_then(Node::as_map_mut) else {
            return;
        };
        // An empty `extends` says nothing; what stays of it is taken for one that failed.
        for entry in services.entries.values_mut() {
            if let Some(service) = entry.value.as_map_mut()
                && service.get("extends").is_some_and(Node::is_null)
            {
                service.remove("extends");
            }
        }
        let extending: Vec<String> = services
            .entries
            .iter()
            .filter(|(_, entry)| {
                let service = entry.value.as_map();
                service.is_some_and(|service| service.get("extends").is_some())
            })
            .map(|(name, _)| name.clone())
            .collect();
        if extending.is_empty() {
            return;
        }
        let mut scope = Scope {
            path,
            services: Rc::new(services.clone()),
            earlier,
            variables,
            done: HashMap::new(),
        };
        for name in extending {
            let mut chain = vec![(path.to_owned(), name.clone())];
            let Some(node) = scope.services.get(&name).cloned() else {
                continue;
            };
            let resolved = self.resolve(&node, &mut scope, &mut chain);
            // Where it failed `extends` stays, for the decoder to expect less.
            if let (Some(resolved), Some(entry)) = (resolved, services.get_mut(&name)) {
                entry.value = Value::Map(resolved.service);
            }
        }
    }

    /// One service with everything it extends laid under it; `None` after an error.
    fn resolve(
        &mut self,
        node: &Node,
        scope: &mut Scope<'_>,
        chain: &mut Chain,
    ) -> Option<Resolved> {
        let mut own = node.as_map()?.clone();
        let Some(extends) = own.remove("extends").filter(|extends| !extends.is_null()) else {
            return Some(Resolved {
                service: own,
                depth: 0,
            });
        };
        let owner = format!("service `{}`", chain.last().map_or("", |(_, name)| name));
        let field = Field {
            owner: &owner,
            key: "extends",
            node: &extends,
        };
        let fields = field.fields(&keys::EXTENDS, self.report)?;
        let Some(target) = fields.get("service") else {
            let message = format!("{owner}: `extends` does not name a service");
            self.report
                .error("compose/missing-key", extends.span, message);
            return None;
        };
        let name = target.string(self.report)?;
        let (path, place) = match fields.get("file") {
            Some(file) => (PathBuf::from(file.string(self.report)?), file.span()),
            None => (chain.last()?.0.clone(), target.span()),
        };
        let step = (path, name);
        if let Some(from) = chain.iter().position(|known| *known == step) {
            self.report_cycle(&chain[from..], &step, from, target.span());
            return None;
        }
        if !scope.done.contains_key(&step) {
            let base = if chain.len() > MAX_CHAIN {
                None
            } else {
                let node = self.find_base(&step, place, target.span(), &owner, scope)?;
                chain.push(step.clone());
                let base = self.resolve(&node, scope, chain);
                chain.pop();
                // What failed has said why, once.
                Some(base.map(Rc::new))
            };
            if let Some(base) = base {
                scope.done.insert(step.clone(), base);
            }
        }
        let base = match scope.done.get(&step) {
            Some(base) => Rc::clone(base.as_ref()?),
            None => return self.too_deep(&owner, target.span()),
        };
        if base.depth >= MAX_CHAIN {
            return self.too_deep(&owner, target.span());
        }
        self.copied += yaml::count(&base.service);
        if self.copied > MAX_COPIED {
            let message = format!("`extends` copies more than {MAX_COPIED} values");
            self.report
                .error("compose/too-large", target.span(), message);
            return None;
        }
        let mut service = base.service.clone();
        merge::merge_service(&mut service, own);
        Some(Resolved {
            service,
            depth: base.depth + 1,
        })
    }

    fn too_deep(&mut self, owner: &str, place: Span) -> Option<Resolved> {
        let message = format!("{owner}: more than {MAX_CHAIN} services extend one another");
        self.report.error("compose/too-deep", place, message);
        None
    }

    /// Every service of a cycle meets it; the one with the first name speaks.
    fn report_cycle(&mut self, cycle: &[Step], step: &Step, from: usize, place: Span) {
        if from > 0 || cycle.iter().any(|other| other < step) {
            return;
        }
        let names: Vec<_> = cycle.iter().map(|(_, name)| name.as_str()).collect();
        let first = &step.1;
        let message = format!(
            "service `{first}` extends itself: {} → {first}",
            names.join(" → ")
        );
        self.report.error("compose/cycle", place, message);
    }

    fn find_base(
        &mut self,
        (path, name): &Step,
        file_place: Span,
        place: Span,
        owner: &str,
        scope: &Scope<'_>,
    ) -> Option<Node> {
        let services = if path == scope.path {
            if let Some(node) = scope.services.get(name) {
                return Some(node.clone());
            }
            if let Some(node) = scope.earlier.and_then(|services| services.get(name)) {
                return Some(node.clone());
            }
            Rc::clone(&scope.services)
        } else {
            self.library(path, file_place, scope.variables)?
        };
        if let Some(node) = services.get(name) {
            return Some(node.clone());
        }
        let shown = self.report.shown(path);
        let message = format!("{owner} extends `{name}`, which {shown} does not define");
        let near = suggest::nearest(name, services.entries.keys().map(String::as_str));
        let error = self.report.error("compose/undefined", place, message);
        if let Some(near) = near {
            error.hint(format!("did you mean `{near}`?"));
        }
        None
    }

    fn library(&mut self, path: &Path, place: Span, variables: &Variables) -> Option<Rc<Map>> {
        if let Some(services) = self.libraries.get(path) {
            return Some(Rc::clone(services));
        }
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let documents = self.documents(path, Some(place), &directory, variables)?;
        let mut services = Map::default();
        for document in documents {
            let Value::Map(mut top) = document.value else {
                continue;
            };
            if let Some(Node {
                value: Value::Map(map),
                ..
            }) = top.remove("services")
            {
                services.entries.extend(map.entries);
            }
        }
        let services = Rc::new(services);
        self.libraries.insert(path.to_owned(), Rc::clone(&services));
        Some(services)
    }

    /// Takes `include` out of a document and puts what it names in.
    fn include(
        &mut self,
        top: &mut Map,
        directory: &Path,
        variables: &Variables,
        stack: &mut Vec<PathBuf>,
    ) {
        let Some(node) = top.remove("include") else {
            return;
        };
        if node.is_null() {
            return;
        }
        let field = Field {
            owner: "the compose file",
            key: "include",
            node: &node,
        };
        for item in field.items(self.report) {
            if let Some(model) = self.included_model(item, directory, variables, stack) {
                self.import(top, model, item.span());
            }
        }
    }

    fn included_model(
        &mut self,
        item: Field<'_>,
        directory: &Path,
        variables: &Variables,
        stack: &mut Vec<PathBuf>,
    ) -> Option<Node> {
        let base = Base {
            directory: directory.to_owned(),
            home: self.home.clone(),
        };
        let mut long = item.node.clone();
        if let Some(text) = item.node.text() {
            let mut map = Map::default();
            map.insert("path", item.span(), Node::scalar(item.span(), text));
            long.value = Value::Map(map);
        }
        let fields = Fields::open("`include`", &long, &keys::INCLUDE, self.report)?;
        let Some(paths) = fields.get("path") else {
            let message = "`include` does not name a file";
            self.report
                .error("compose/missing-key", fields.span, message);
            return None;
        };
        let mut files = Vec::new();
        for path in paths.one_or_many(self.report) {
            let text = path.string(self.report)?;
            files.push((base.resolve(&text), Some(path.span())));
        }
        let first = files.first()?.0.clone();
        if stack.contains(&first) || stack.len() >= MAX_CHAIN {
            let message = format!("{} includes itself", self.report.shown(&first));
            self.report.error("compose/cycle", item.span(), message);
            return None;
        }
        self.included += files.len();
        if self.included > MAX_INCLUDED {
            let message = format!("more than {MAX_INCLUDED} files are included");
            self.report.error("compose/too-large", item.span(), message);
            return None;
        }
        let own = match fields.string("project_directory", self.report) {
            Some(own) => base.resolve(&own),
            None => first.parent().unwrap_or(directory).to_owned(),
        };
        let variables = self.included_variables(&fields, &base, &own, variables)?;
        stack.push(first);
        let model = self.nested_model(&files, &own, &variables, stack);
        stack.pop();
        model
    }

    /// The includer's variables win over those of the included project's own files.
    fn included_variables(
        &mut self,
        fields: &Fields<'_>,
        base: &Base,
        directory: &Path,
        outer: &Variables,
    ) -> Option<Variables> {
        let mut files = Vec::new();
        match fields.get("env_file") {
            Some(field) => {
                for item in field.one_or_many(self.report) {
                    let path = base.resolve(&item.string(self.report)?);
                    files.push((path, Some(item.span())));
                }
            }
            None => {
                let default = directory.join(".env");
                if default.is_file() {
                    files.push((default, None));
                }
            }
        }
        let mut values = BTreeMap::new();
        for (path, asked) in files {
            let source = self.files.read(&path, "env file", asked, self.report)?;
            let around = Around {
                outer: &|name| outer.get(name).map(str::to_owned),
                earlier: &values,
            };
            let more = dotenv::parse(source, Format::Compose, &around, self.report);
            values.extend(more);
        }
        values.extend(outer.files.clone());
        Some(Variables {
            process: outer.process.clone(),
            files: values,
        })
    }

    /// Adds the sections of an included model; what both define must be the same.
    fn import(&mut self, top: &mut Map, model: Node, asked: Span) {
        let Value::Map(model) = model.value else {
            return;
        };
        for (section, entry) in model.entries {
            if matches!(section.as_str(), "name" | "version") || section.starts_with("x-") {
                continue;
            }
            if top.get(&section).is_none_or(Node::is_null) {
                top.entries.insert(section, entry);
                continue;
            }
            let (Some(known), Value::Map(more)) = (
                top.get_mut(&section).and_then(Node::as_map_mut),
                entry.value.value,
            ) else {
                continue;
            };
            for (name, entry) in more.entries {
                match known.get(&name) {
                    None => {
                        known.entries.insert(name, entry);
                    }
                    Some(own) if yaml::same(own, &entry.value) => {}
                    Some(_) => {
                        let kind = section.trim_end_matches('s');
                        let message = format!(
                            "{kind} `{name}` is defined here and differently in an included file"
                        );
                        let place = known.key_span(&name).unwrap_or(asked);
                        self.report
                            .error("compose/conflict", place, message)
                            .hint("rename one of them, or change it in a further file with -f");
                    }
                }
            }
        }
    }
}

/// A build that names no context has the folder of its own model, which is another one for an
/// included model. Only when all files are merged is it known that none of them names one.
fn name_contexts(model: &mut Map, directory: &Path) {
    let services = model.get_mut("services").and_then(Node::as_map_mut);
    for service in services
        .into_iter()
        .flat_map(|map| map.entries.values_mut())
    {
        let Some(node) = service
            .value
            .as_map_mut()
            .and_then(|map| map.get_mut("build"))
        else {
            continue;
        };
        let span = node.span;
        if let Some(build) = node.as_map_mut()
            && build.get("context").is_none()
        {
            let folder = directory.to_string_lossy();
            build.insert("context", span, Node::scalar(span, folder));
        }
    }
}
