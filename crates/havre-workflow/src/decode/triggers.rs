//! `on`: what starts the workflow.

use havre_yaml::{Map, Node, Span};
use indexmap::IndexMap;

use super::formats;
use super::values::Reader;
use crate::model::{
    CallInput, Data, DispatchInput, Filter, Filters, InputType, Interface, Pair, PullRequest,
    Schedule, Spanned, Triggers, WorkflowRun,
};

/// What a pull request of a pushed branch comes with.
const PULL_REQUEST_TYPES: [&str; 3] = ["opened", "synchronize", "reopened"];

pub(super) fn triggers(node: &Node, reader: &mut Reader<'_>) -> Triggers {
    let mut triggers = Triggers::default();
    let nothing = Map::default();
    match node.as_map() {
        Some(map) => {
            for (name, entry) in &map.entries {
                let config = entry.value.as_map().unwrap_or(&nothing);
                let event = Event {
                    name,
                    at: entry.key,
                    node: Some(&entry.value),
                    config,
                };
                take(&event, &mut triggers, reader);
            }
        }
        None => {
            for name in reader.texts(node) {
                let event = Event {
                    name: &name.value,
                    at: name.span,
                    node: None,
                    config: &nothing,
                };
                take(&event, &mut triggers, reader);
            }
        }
    }
    triggers
}

struct Event<'n> {
    name: &'n str,
    at: Span,
    /// `None`: it is a word, not a key.
    node: Option<&'n Node>,
    config: &'n Map,
}

fn take(event: &Event<'_>, triggers: &mut Triggers, reader: &mut Reader<'_>) {
    let config = event.config;
    match event.name {
        "push" => triggers.push = Some(filters(config, reader)),
        "pull_request" => triggers.pull_request = Some(pull_request(event, reader)),
        "workflow_dispatch" => triggers.workflow_dispatch = Some(dispatch(config, reader)),
        "schedule" => match event.node.map(Node::as_list) {
            Some(Some(items)) => {
                triggers.schedule = items
                    .iter()
                    .filter_map(|item| schedule(item, reader))
                    .collect();
            }
            None => {
                let message = "`schedule` needs times: a list of `cron: …`".to_owned();
                reader.error("workflow/missing-key", event.at, message);
            }
            Some(None) => {}
        },
        "workflow_call" => triggers.workflow_call = Some(interface(config, reader)),
        "repository_dispatch" => {
            let types = config.get("types").map(|node| reader.texts(node));
            triggers.repository_dispatch = Some(types.unwrap_or_default());
        }
        "workflow_run" => triggers.workflow_run = Some(workflow_run(event, reader)),
        name => {
            if event.node.is_none() {
                warn_foreign(event, reader);
            }
            triggers.foreign.push(Spanned {
                value: name.to_owned(),
                span: event.at,
            });
        }
    }
}

/// The table warns about keys; as a word, an event is told here.
fn warn_foreign(event: &Event<'_>, reader: &mut Reader<'_>) {
    let key = crate::schema::ON.find(event.name);
    if let Some(crate::schema::Support::Ignored(why)) = key.map(|key| key.support) {
        let message = format!("`on`: `{}` has no effect: {why}", event.name);
        reader.warn("workflow/ignored", event.at, message);
    }
}

fn filters(config: &Map, reader: &mut Reader<'_>) -> Filters {
    Filters {
        branches: filter(config, "branches", "branches-ignore", reader),
        tags: filter(config, "tags", "tags-ignore", reader),
        paths: filter(config, "paths", "paths-ignore", reader),
    }
}

fn filter(
    config: &Map,
    only: &'static str,
    except: &'static str,
    reader: &mut Reader<'_>,
) -> Option<Filter> {
    let named = config.get(only).map(|node| reader.texts(node));
    let ignored = config.get(except).map(|node| reader.texts(node));
    match (named, ignored) {
        (Some(_), Some(_)) => {
            let at = config.key_span(except)?;
            let message = format!("`{only}` and `{except}` exclude each other");
            reader
                .error("workflow/conflict", at, message)
                .hint(format!("write what is not meant as `!PATTERN` in `{only}`"));
            None
        }
        (Some(patterns), None) => {
            let positive = patterns
                .iter()
                .any(|pattern| !pattern.value.starts_with('!'));
            if let (false, Some(first)) = (positive, patterns.first()) {
                let message = format!("`{only}` matches nothing: all its patterns begin with `!`");
                reader
                    .error("workflow/filter", first.span, message)
                    .hint(format!("put `'**'` before them, or use `{except}`"));
            }
            Some(Filter::Only(patterns))
        }
        (None, Some(patterns)) => Some(Filter::Except(patterns)),
        (None, None) => None,
    }
}

fn pull_request(event: &Event<'_>, reader: &mut Reader<'_>) -> PullRequest {
    let types = event.config.get("types").map(|node| reader.texts(node));
    let types = types.unwrap_or_default();
    let here = |name: &Spanned<String>| PULL_REQUEST_TYPES.contains(&name.value.as_str());
    if let (Some(first), false) = (types.first(), types.iter().any(here)) {
        let message = "`pull_request` starts nothing here with these types".to_owned();
        reader
            .warn("workflow/ignored", first.span, message)
            .hint(format!("there are {}", PULL_REQUEST_TYPES.join(", ")));
    }
    PullRequest {
        types,
        filters: filters(event.config, reader),
    }
}

fn workflow_run(event: &Event<'_>, reader: &mut Reader<'_>) -> WorkflowRun {
    let config = event.config;
    let list = |key: &str| config.get(key).map(|node| reader.texts(node));
    let (workflows, types) = (list("workflows"), list("types"));
    if workflows.as_ref().is_none_or(Vec::is_empty) {
        let message = "`workflow_run` does not say which workflows: it lacks `workflows`";
        reader.error("workflow/missing-key", event.at, message.to_owned());
    }
    WorkflowRun {
        workflows: workflows.unwrap_or_default(),
        types: types.unwrap_or_default(),
        branches: filter(config, "branches", "branches-ignore", reader),
    }
}

fn schedule(node: &Node, reader: &mut Reader<'_>) -> Option<Schedule> {
    let map = node.as_map()?;
    let cron = reader.text(map.get("cron")?)?;
    if let Err(message) = formats::cron(&cron.value) {
        reader.error("workflow/schedule", cron.span, message);
    }
    let timezone = map.get("timezone").and_then(|node| reader.text(node));
    if let Some(zone) = timezone
        .as_ref()
        .filter(|zone| !formats::is_timezone(&zone.value))
    {
        let message = "`timezone` is no name of a time zone".to_owned();
        reader
            .error("workflow/schedule", zone.span, message)
            .hint("names are like `Europe/Berlin`");
    }
    Some(Schedule { cron, timezone })
}

fn dispatch(config: &Map, reader: &mut Reader<'_>) -> Vec<DispatchInput> {
    let Some(inputs) = config.get("inputs").and_then(Node::as_map) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, entry) in &inputs.entries {
        let Some(map) = entry.value.as_map() else {
            continue;
        };
        let input = DispatchInput {
            name: Spanned {
                value: name.clone(),
                span: entry.key,
            },
            description: map
                .get("description")
                .and_then(|node| reader.text(node))
                .map(|t| t.value),
            kind: input_type(map),
            required: reader.truth(map.get("required")),
            default: map.get("default").map(|node| reader.data(node)),
            options: map
                .get("options")
                .map(|node| reader.texts(node))
                .unwrap_or_default(),
        };
        judge_input(&input, map, reader);
        found.push(input);
    }
    found
}

fn judge_input(input: &DispatchInput, map: &Map, reader: &mut Reader<'_>) {
    let name = &input.name.value;
    if let Some(default) = &input.default {
        default_fits(name, input.kind, default, reader);
    }
    let is_choice = input.kind == InputType::Choice;
    if is_choice && input.options.is_empty() {
        let message = format!("input `{name}` is a choice and lacks `options`");
        reader.error("workflow/missing-key", input.name.span, message);
    }
    if let (false, Some(at)) = (is_choice, map.key_span("options")) {
        let message = format!("input `{name}`: `options` has no effect without `type: choice`");
        reader.warn("workflow/ignored", at, message);
    }
    let default = map.get("default").and_then(|node| reader.text(node));
    if let (true, Some(default)) = (is_choice && !input.options.is_empty(), default)
        && !input
            .options
            .iter()
            .any(|option| option.value == default.value)
    {
        let message = format!("input `{name}`: the default is none of its options");
        reader.error("workflow/value", default.span, message);
    }
}

fn default_fits(name: &str, kind: InputType, default: &Spanned<Data>, reader: &mut Reader<'_>) {
    let fits = match (&default.value, kind) {
        (Data::Text(text), _) if text.fixed().is_none() => true,
        (Data::Boolean(_), InputType::Boolean) | (Data::Number(_), InputType::Number) => true,
        // GitHub takes the words as well where a person is asked.
        (Data::Text(text), InputType::Boolean) => {
            matches!(text.fixed(), Some("true" | "false" | ""))
        }
        (Data::Text(text), InputType::Number) => text
            .fixed()
            .is_some_and(|text| text.is_empty() || text.parse::<f64>().is_ok()),
        (Data::Null, _) => true,
        (_, InputType::Boolean | InputType::Number) => false,
        (_, InputType::String | InputType::Environment | InputType::Choice) => true,
    };
    if !fits {
        let kind = match kind {
            InputType::Boolean => "`true` or `false`",
            _ => "a number",
        };
        let message = format!("input `{name}`: the default must be {kind}");
        reader.error("workflow/value", default.span, message);
    }
}

fn input_type(map: &Map) -> InputType {
    match map.get("type").and_then(Node::text) {
        Some("boolean") => InputType::Boolean,
        Some("number") => InputType::Number,
        Some("environment") => InputType::Environment,
        Some("choice") => InputType::Choice,
        _ => InputType::String,
    }
}

fn interface(config: &Map, reader: &mut Reader<'_>) -> Interface {
    let nothing = Map::default();
    let section = |key: &str| config.get(key).and_then(Node::as_map).unwrap_or(&nothing);
    let mut inputs = IndexMap::new();
    for (name, entry) in &section("inputs").entries {
        let Some(map) = entry.value.as_map() else {
            continue;
        };
        let input = CallInput {
            key: entry.key,
            kind: input_type(map),
            required: reader.truth(map.get("required")),
            default: map.get("default").map(|node| reader.data(node)),
        };
        if let Some(default) = &input.default {
            default_fits(name, input.kind, default, reader);
        }
        inputs.insert(name.clone(), input);
    }
    let secrets = section("secrets").entries.iter().map(|(name, entry)| {
        let required = entry.value.as_map().and_then(|map| map.get("required"));
        (name.clone(), reader.truth(required))
    });
    let secrets = secrets.collect();
    let outputs = section("outputs")
        .entries
        .iter()
        .filter_map(|(name, entry)| {
            let value = entry.value.as_map()?.get("value")?;
            let pair = Pair {
                key: entry.key,
                value: reader.template(value)?,
            };
            Some((name.clone(), pair))
        });
    Interface {
        inputs,
        secrets,
        outputs: outputs.collect(),
    }
}
