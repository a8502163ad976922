//! `docker/metadata-action`.

mod tags;

use serde_json::{Map, Value, json};

use crate::failure::{Failure, refused};
use crate::step::Step;
use tags::{Event, Flavor, Names, Rule};

/// Most bytes of an event.
const MOST: u64 = 32 << 20;

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    let repository = repository(step)?;
    let event = event(step, &repository)?;
    let mut rules = Vec::new();
    for line in step.lines("tags") {
        rules.push(Rule::parse(&line).or_else(refused)?);
    }
    let flavor = Flavor::parse(&step.lines("flavor")).or_else(refused)?;
    let (names, warnings) = tags::names(rules, &flavor, &event).or_else(refused)?;
    warnings.iter().for_each(|why| step.warning(why));
    let images = images(step)?;
    let tag_names = names.all();
    let mut tags: Vec<String> = Vec::new();
    for image in &images {
        tags.extend(tag_names.iter().map(|name| format!("{image}:{name}")));
    }
    if images.is_empty() {
        tags.clone_from(&tag_names);
    }
    if tag_names.is_empty() {
        step.warning("no tag is made for this event; give one by `tags`, e.g. `type=raw,value=…`");
    }
    tell(
        step,
        &names,
        &tags,
        &tag_names,
        &described(step, &names, &event, &repository),
    )
}

fn tell(
    step: &Step,
    names: &Names,
    tags: &[String],
    tag_names: &[String],
    common: &[(String, String)],
) -> Result<(), Failure> {
    let separator = |input: &str| {
        step.given(input)
            .map_or_else(|| "\n".to_owned(), |text| text.replace("\\n", "\n"))
    };
    let labels = with(common, &step.lines("labels"));
    let annotations = with(common, &step.lines("annotations"));
    let levels = step
        .var("DOCKER_METADATA_ANNOTATIONS_LEVELS")
        .unwrap_or("manifest");
    let joined = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
    };
    let annotations: Vec<String> = levels
        .split(',')
        .flat_map(|level| {
            joined(&annotations)
                .into_iter()
                .map(move |pair| format!("{level}:{pair}"))
        })
        .collect();
    let map: Map<String, Value> = labels
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let document =
        json!({"tags": tags, "tag-names": tag_names, "labels": map, "annotations": annotations});
    let outputs = [
        ("version", names.main.clone().unwrap_or_default()),
        ("tags", tags.join(&separator("sep-tags"))),
        ("tag-names", tag_names.join(&separator("sep-tags"))),
        ("labels", joined(&labels).join(&separator("sep-labels"))),
        (
            "annotations",
            annotations.join(&separator("sep-annotations")),
        ),
        ("json", document.to_string()),
    ];
    for (name, value) in outputs {
        step.say(&format!("{name}: {value}"));
        step.output(name, &value)?;
        step.export(
            &format!(
                "DOCKER_METADATA_OUTPUT_{}",
                name.replace('-', "_").to_uppercase()
            ),
            &value,
        )?;
    }
    Ok(())
}

/// What the event says of the repository, if there is an event.
fn repository(step: &Step) -> Result<Value, Failure> {
    let Some(path) = step.var("GITHUB_EVENT_PATH") else {
        return Ok(json!({}));
    };
    let text =
        havre_base::read_small(path.as_ref(), MOST).map_err(Failure::io("read the event"))?;
    match serde_json::from_str::<Value>(&text) {
        Ok(mut event) => {
            Ok(json!({"repository": event["repository"].take(), "base": event["base_ref"].take()}))
        }
        Err(_) => refused("the event is no JSON"),
    }
}

fn event(step: &Step, payload: &Value) -> Result<Event, Failure> {
    let base = step.var("GITHUB_BASE_REF").map(str::to_owned);
    let base = base.or_else(|| {
        payload["base"]
            .as_str()
            .map(|base| base.trim_start_matches("refs/heads/").to_owned())
    });
    Ok(Event {
        name: step.var("GITHUB_EVENT_NAME").unwrap_or_default().to_owned(),
        reference: step.needed("GITHUB_REF")?.to_owned(),
        commit: step.needed("GITHUB_SHA")?.to_owned(),
        base: base.unwrap_or_default(),
        default_branch: payload["repository"]["default_branch"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        now: jiff::Timestamp::now(),
    })
}

/// `name`, or `name=…,enable=…`, a line each.
fn images(step: &Step) -> Result<Vec<String>, Failure> {
    let mut images = Vec::new();
    for line in step.lines("images") {
        let mut name = String::new();
        let mut enabled = true;
        for field in line.split(',').map(str::trim) {
            match field.split_once('=') {
                None if name.is_empty() => field.clone_into(&mut name),
                Some(("name", value)) => value.clone_into(&mut name),
                Some(("enable", value)) => enabled = value == "true",
                _ => return refused(format!("`images` has `{field}`; it knows name and enable")),
            }
        }
        if enabled && !name.is_empty() {
            images.push(name.to_lowercase());
        }
    }
    Ok(images)
}

/// What the Open Container Initiative has names for.
fn described(step: &Step, names: &Names, event: &Event, payload: &Value) -> Vec<(String, String)> {
    let repository = &payload["repository"];
    let full = step.var("GITHUB_REPOSITORY").unwrap_or_default();
    let url = format!(
        "{}/{full}",
        step.var("GITHUB_SERVER_URL")
            .unwrap_or("https://github.com")
    );
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pairs = [
        ("created", format!("{:.3}", event.now)),
        ("description", text(&repository["description"])),
        ("licenses", text(&repository["license"]["spdx_id"])),
        ("revision", event.commit.clone()),
        ("source", url.clone()),
        (
            "title",
            full.rsplit('/').next().unwrap_or_default().to_owned(),
        ),
        ("url", url),
        ("version", names.main.clone().unwrap_or_default()),
    ];
    pairs
        .into_iter()
        .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value))
        .collect()
}

/// With those that were given, which go before.
fn with(common: &[(String, String)], given: &[String]) -> Vec<(String, String)> {
    let mut pairs = common.to_vec();
    for line in given {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        pairs.retain(|(known, _)| known != key);
        pairs.push((key.to_owned(), value.to_owned()));
    }
    pairs.sort();
    pairs
}
