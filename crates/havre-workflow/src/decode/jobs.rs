//! `jobs`: what runs, in which order, and where.

use std::collections::HashSet;

use havre_yaml::{Map, Node, Severity, Span, Value};
use indexmap::IndexMap;

use super::formats;
use super::shared::{cache_mode, concurrency, permissions, run_defaults};
use super::steps::steps;
use super::values::Reader;
use crate::limits::Limits;
use crate::model::{
    Call, Combination, Container, Credentials, Dynamic, EnvironmentUse, GivenSecrets, Job, Matrix,
    RunsOn, Spanned, StepsJob, Strategy, Work,
};
use crate::text::short;

/// Beginnings of GitHub's labels for other systems.
const FOREIGN_LABELS: [&str; 2] = ["windows-", "macos-"];
/// Sockets by which a container engine is ruled.
const ENGINE_SOCKETS: [&str; 3] = ["docker.sock", "podman.sock", "containerd.sock"];

pub(super) fn jobs(node: &Node, limits: &Limits, reader: &mut Reader<'_>) -> IndexMap<String, Job> {
    let mut found = IndexMap::new();
    let Some(map) = node.as_map() else {
        return found;
    };
    if map.entries.is_empty() {
        let message = "the workflow has no job".to_owned();
        reader.error("workflow/missing-key", node.span, message);
    }
    if map.entries.len() > limits.jobs {
        let message = format!("the workflow has more than {} jobs", limits.jobs);
        reader.error("workflow/too-many-jobs", node.span, message);
        return found;
    }
    for (name, entry) in &map.entries {
        if !formats::is_id(name) && !name.is_empty() && !name.contains("${{") {
            let message = format!("`{}` is no id of a job", short(name));
            reader.error("workflow/id", entry.key, message).hint(
                "ids are letters, digits, `_` and `-`, less than 100; they begin with a letter or `_`",
            );
        }
        if let Some(map) = entry.value.as_map() {
            let id = Spanned {
                value: name.clone(),
                span: entry.key,
            };
            let job = job(id, entry.value.span, map, limits, reader);
            found.insert(name.clone(), job);
        }
    }
    needs(&found, map, reader);
    found
}

fn job(
    id: Spanned<String>,
    span: Span,
    map: &Map,
    limits: &Limits,
    reader: &mut Reader<'_>,
) -> Job {
    let strategy = map.get("strategy");
    let work = match map.get("uses") {
        Some(uses) if map.get("runs-on").is_none() => Work::Call(Box::new(call(uses, map, reader))),
        _ => Work::Steps(Box::new(steps_job(span, map, reader))),
    };
    Job {
        id,
        name: map.get("name").and_then(|node| reader.template(node)),
        needs: map
            .get("needs")
            .map(|node| reader.texts(node))
            .unwrap_or_default(),
        condition: map.get("if").and_then(|node| reader.condition(node)),
        permissions: map
            .get("permissions")
            .and_then(|node| permissions(node, reader)),
        concurrency: map
            .get("concurrency")
            .and_then(|node| concurrency(node, reader)),
        strategy: strategy.and_then(|node| {
            reader.dynamic(node, |reader, node| {
                Some(self::strategy(node.as_map()?, limits, reader))
            })
        }),
        cache_mode: map.get("cache-mode").and_then(cache_mode),
        work,
    }
}

fn steps_job(span: Span, map: &Map, reader: &mut Reader<'_>) -> StepsJob {
    let found = map
        .get("steps")
        .map(|node| steps(node, reader))
        .unwrap_or_default();
    if map.get("steps").is_none() && map.get("runs-on").is_some() {
        let message = "the job has no `steps` and does nothing".to_owned();
        reader.warn("workflow/ignored", span, message);
    }
    let defaults = map.get("defaults").and_then(Node::as_map);
    StepsJob {
        runs_on: runs_on(map.get("runs-on"), reader),
        environment: map
            .get("environment")
            .and_then(|node| environment(node, reader)),
        outputs: map.get("outputs").and_then(|node| reader.pairs(node)),
        env: map.get("env").and_then(|node| reader.pairs(node)),
        defaults: defaults
            .map(|map| run_defaults(map, reader))
            .unwrap_or_default(),
        timeout: map
            .get("timeout-minutes")
            .and_then(|node| reader.number(node)),
        continue_on_error: map
            .get("continue-on-error")
            .and_then(|node| reader.boolean(node)),
        container: map
            .get("container")
            .and_then(|node| reader.dynamic(node, container)),
        services: map
            .get("services")
            .and_then(|node| reader.dynamic(node, services)),
        steps: found,
    }
}

fn runs_on(node: Option<&Node>, reader: &mut Reader<'_>) -> RunsOn {
    let Some(node) = node else {
        return RunsOn::Labels(Vec::new());
    };
    let labels = match &node.value {
        Value::Map(map) => match map.get("labels") {
            Some(labels) => labels,
            None => return RunsOn::Labels(Vec::new()),
        },
        Value::Scalar(_) | Value::List(_) | Value::Null => node,
    };
    let templates = match labels.as_list() {
        Some(_) => reader.templates(labels),
        None => reader.template(labels).into_iter().collect(),
    };
    if let ([template], None) = (templates.as_slice(), labels.as_list())
        && let [crate::model::Part::Expression(expression)] = template.parts.as_slice()
    {
        return RunsOn::Expression(expression.clone());
    }
    for label in &templates {
        let name = label.fixed().unwrap_or_default().to_ascii_lowercase();
        if FOREIGN_LABELS.iter().any(|begin| name.starts_with(begin)) {
            let message = format!("label `{name}` is no Linux: such a job does not start here");
            reader.warn("workflow/foreign", label.span, message);
        }
    }
    RunsOn::Labels(templates)
}

fn environment(node: &Node, reader: &mut Reader<'_>) -> Option<EnvironmentUse> {
    let Some(map) = node.as_map() else {
        let name = reader.template(node)?;
        return Some(EnvironmentUse {
            name,
            url: None,
            deployment: None,
        });
    };
    Some(EnvironmentUse {
        name: reader.template(map.get("name")?)?,
        url: map.get("url").and_then(|node| reader.template(node)),
        deployment: map.get("deployment").and_then(|node| reader.boolean(node)),
    })
}

fn services(reader: &mut Reader<'_>, node: &Node) -> Option<IndexMap<String, Dynamic<Container>>> {
    let mut found = IndexMap::new();
    for (name, entry) in &node.as_map()?.entries {
        if let Some(service) = reader.dynamic(&entry.value, container) {
            found.insert(name.clone(), service);
        }
    }
    Some(found)
}

fn container(reader: &mut Reader<'_>, node: &Node) -> Option<Container> {
    let empty = Map::default();
    let map = node.as_map().unwrap_or(&empty);
    let image = match node.as_map() {
        Some(map) => match map.get("image") {
            Some(image) => reader.template(image)?,
            None => {
                let message = "the container lacks `image`".to_owned();
                reader.error("workflow/missing-key", node.span, message);
                return None;
            }
        },
        None => reader.template(node)?,
    };
    let list = |key: &str| {
        map.get(key)
            .map(|node| reader.templates(node))
            .unwrap_or_default()
    };
    let (ports, volumes) = (list("ports"), list("volumes"));
    for volume in &volumes {
        judge_volume(volume.fixed().unwrap_or_default(), volume.span, reader);
    }
    let credentials = map.get("credentials").and_then(Node::as_map);
    Some(Container {
        image,
        options: map.get("options").and_then(|node| reader.template(node)),
        env: map.get("env").and_then(|node| reader.pairs(node)),
        ports,
        volumes,
        credentials: credentials.map(|map| Credentials {
            username: map.get("username").and_then(|node| reader.template(node)),
            password: map.get("password").and_then(|node| reader.template(node)),
        }),
        entrypoint: map.get("entrypoint").and_then(|node| reader.template(node)),
        command: map.get("command").and_then(|node| reader.template(node)),
    })
}

fn judge_volume(text: &str, at: Span, reader: &mut Reader<'_>) {
    let Some((from, _)) = text.split_once(':') else {
        return;
    };
    if ENGINE_SOCKETS.iter().any(|socket| from.ends_with(socket)) {
        let message = "a container engine's socket is given to no job".to_owned();
        reader
            .error("workflow/unsupported", at, message)
            .hint("`docker/build-push-action` builds and pushes images without it");
    } else if from.starts_with('/') {
        let message = format!(
            "`{}` of the machine is not given to jobs: the container gets an empty folder",
            short(from)
        );
        reader.warn("workflow/ignored", at, message);
    }
}

fn strategy(map: &Map, limits: &Limits, reader: &mut Reader<'_>) -> Strategy {
    let matrix = map
        .get("matrix")
        .and_then(|node| reader.dynamic(node, |reader, node| Some(matrix(node, limits, reader))));
    Strategy {
        fail_fast: map.get("fail-fast").and_then(|node| reader.boolean(node)),
        max_parallel: map.get("max-parallel").and_then(|node| reader.number(node)),
        matrix,
    }
}

fn matrix(node: &Node, limits: &Limits, reader: &mut Reader<'_>) -> Matrix {
    let mut vectors = IndexMap::new();
    let empty = Map::default();
    let map = node.as_map().unwrap_or(&empty);
    let mut product: usize = 1;
    for (name, entry) in &map.entries {
        if matches!(name.as_str(), "include" | "exclude") {
            continue;
        }
        let vector = reader.dynamic(&entry.value, |reader, node| {
            let items = node.as_list()?.iter();
            Some(items.map(|item| reader.data(item)).collect::<Vec<_>>())
        });
        let Some(vector) = vector else { continue };
        if let Some(values) = vector.fixed() {
            if values.is_empty() {
                let message = format!("`{name}` of the matrix has no values");
                reader.error("workflow/matrix", entry.value.span, message);
            }
            product = product.saturating_mul(values.len());
        }
        vectors.insert(name.clone(), vector);
    }
    if product > limits.jobs {
        let message = format!(
            "the matrix makes {product} jobs; {} are allowed",
            limits.jobs
        );
        reader.error("workflow/too-many-jobs", node.span, message);
    }
    let include = map
        .get("include")
        .and_then(|node| combinations(node, reader));
    let exclude = map
        .get("exclude")
        .and_then(|node| combinations(node, reader));
    for (name, at) in unknown_names(exclude.as_ref(), &vectors) {
        let message = format!("`exclude` names `{name}`, which the matrix does not have");
        let known = vectors.keys().map(String::as_str);
        let near = reader.report.nearest(Severity::Warning, &name, known);
        let near = near.map(str::to_owned);
        let warning = reader.warn("workflow/matrix", at, message);
        if let Some(near) = near {
            warning.hint(format!("did you mean `{near}`?"));
        }
    }
    Matrix {
        vectors,
        include,
        exclude,
    }
}

fn combinations(node: &Node, reader: &mut Reader<'_>) -> Option<Dynamic<Vec<Combination>>> {
    reader.dynamic(node, |reader, node| {
        let items = node.as_list()?.iter();
        let found = items.filter_map(|item| {
            reader.dynamic(item, |reader, node| Some(reader.data_map(node.as_map()?)))
        });
        Some(found.collect())
    })
}

/// Names in combinations that are no vectors, and where they stand.
fn unknown_names<V>(
    combinations: Option<&Dynamic<Vec<Combination>>>,
    vectors: &IndexMap<String, V>,
) -> Vec<(String, Span)> {
    let all = combinations.and_then(Dynamic::fixed).into_iter().flatten();
    let fixed = all.filter_map(Dynamic::fixed);
    let known: HashSet<String> = vectors
        .keys()
        .map(|name| name.to_ascii_lowercase())
        .collect();
    fixed
        .flatten()
        .filter(|(name, _)| !known.contains(&name.to_ascii_lowercase()))
        .map(|(name, value)| (name.clone(), value.span))
        .collect()
}

fn call(uses: &Node, map: &Map, reader: &mut Reader<'_>) -> Call {
    let text = uses.text().unwrap_or_default();
    let value = formats::workflow(text).unwrap_or_else(|hint| {
        if !text.is_empty() && !text.contains("${{") {
            let message = format!("`uses` names no workflow: `{}`", short(text));
            reader.error("workflow/uses", uses.span, message).hint(hint);
        }
        crate::model::CalledWorkflow::Local(String::new())
    });
    let secrets = match map.get("secrets") {
        None => GivenSecrets::None,
        Some(node) if node.text() == Some("inherit") => GivenSecrets::Inherit,
        Some(node) => {
            let named = reader.dynamic(node, |reader, node| Some(reader.data_map(node.as_map()?)));
            named.map_or(GivenSecrets::None, GivenSecrets::Named)
        }
    };
    Call {
        uses: Spanned {
            value,
            span: uses.span,
        },
        with: map.get("with").and_then(|node| {
            reader.dynamic(node, |reader, node| Some(reader.data_map(node.as_map()?)))
        }),
        secrets,
    }
}

/// Every job that is needed is there, and none waits for itself.
fn needs(jobs: &IndexMap<String, Job>, written: &Map, reader: &mut Reader<'_>) {
    for job in jobs.values() {
        for need in &job.needs {
            let name = &need.value;
            if written.get(name).is_some() || name.is_empty() || name.contains("${{") {
                continue;
            }
            let message = format!(
                "job `{}` needs `{}`, which is no job",
                job.id.value,
                short(name)
            );
            let known = jobs.keys().map(String::as_str);
            let near = reader.report.nearest(Severity::Error, name, known);
            let error = reader.error("workflow/needs", need.span, message);
            if let Some(near) = near {
                error.hint(format!("did you mean `{near}`?"));
            }
        }
    }
    if let Some(circle) = circle(jobs) {
        let names: Vec<&str> = circle.iter().map(|job| job.id.value.as_str()).collect();
        let first = circle.iter().min_by_key(|job| job.id.span.start.line);
        if let Some(first) = first {
            let message = format!("jobs wait for each other: {}", short(&names.join(" → ")));
            reader.error("workflow/cycle", first.id.span, message);
        }
    }
}

/// Jobs each of which needs the next, and the last the first.
fn circle(jobs: &IndexMap<String, Job>) -> Option<Vec<&Job>> {
    // What is left when jobs whose needs are all gone are taken away, again and again.
    let mut waiting: IndexMap<&str, usize> = IndexMap::new();
    let mut dependents: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for (id, job) in jobs {
        let mut needs: Vec<&str> = job.needs.iter().map(|need| need.value.as_str()).collect();
        needs.sort_unstable();
        needs.dedup();
        needs.retain(|need| jobs.contains_key(*need));
        waiting.insert(id, needs.len());
        for need in needs {
            dependents.entry(need).or_default().push(id);
        }
    }
    let mut free: Vec<&str> = Vec::new();
    free.extend(
        waiting
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(id, _)| *id),
    );
    while let Some(id) = free.pop() {
        for dependent in dependents.get(id).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    free.push(dependent);
                }
            }
        }
    }
    // From one that is left, a need that is left as well is followed until one comes again.
    let left = |id: &str| waiting.get(id).is_some_and(|count| *count > 0);
    let mut at = jobs.values().find(|job| left(&job.id.value))?;
    let mut way: Vec<&Job> = Vec::new();
    loop {
        if let Some(first) = way.iter().position(|job| job.id.value == at.id.value) {
            return Some(way.split_off(first));
        }
        way.push(at);
        let next = at.needs.iter().find(|need| left(&need.value))?;
        at = jobs.get(&next.value)?;
    }
}
