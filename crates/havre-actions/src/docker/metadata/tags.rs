//! Which tags an image gets. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// What happened.
pub(super) struct Event {
    pub(super) name: String,
    pub(super) reference: String,
    pub(super) commit: String,
    pub(super) base: String,
    pub(super) default_branch: String,
    pub(super) now: Timestamp,
}

/// A line of `tags`.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    kind: &'static str,
    settings: BTreeMap<String, String>,
}

/// What is common to all tags.
#[derive(Debug, Default)]
pub(super) struct Flavor {
    /// `None`: by itself.
    latest: Option<bool>,
    prefix: String,
    prefix_latest: bool,
    suffix: String,
    suffix_latest: bool,
}

/// The tags of an image.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) main: Option<String>,
    more: Vec<String>,
    latest: Option<String>,
}

/// Kinds, what they know beside what all know, and how early they come.
const KINDS: [(&str, &[&str], i64); 6] = [
    ("schedule", &["pattern"], 1000),
    ("semver", &["pattern", "value"], 900),
    ("edge", &["branch"], 700),
    ("ref", &["event"], 600),
    ("raw", &["value"], 200),
    ("sha", &["format"], 100),
];
const COMMON: [&str; 5] = ["type", "enable", "priority", "prefix", "suffix"];
/// Where nothing is asked for.
const DEFAULTS: [&str; 4] = [
    "type=schedule",
    "type=ref,event=branch",
    "type=ref,event=tag",
    "type=ref,event=pr",
];

impl Names {
    pub(super) fn all(&self) -> Vec<String> {
        self.main
            .iter()
            .chain(&self.more)
            .chain(&self.latest)
            .cloned()
            .collect()
    }
}

impl Rule {
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let mut settings = BTreeMap::new();
        for field in line.split(',').map(str::trim) {
            match field.split_once('=') {
                Some((key, value)) => {
                    settings.insert(key.trim().to_lowercase(), value.trim().to_owned())
                }
                None => settings.insert("value".to_owned(), field.to_owned()),
            };
        }
        let asked = settings.get("type").map_or("raw", String::as_str);
        let Some((kind, known, _)) = KINDS.iter().find(|(kind, ..)| *kind == asked) else {
            return Err(format!(
                "`type={asked}` of `tags` is not supported: use ref, semver, sha, raw, schedule or edge"
            ));
        };
        if let Some(key) = settings
            .keys()
            .find(|key| !COMMON.contains(&key.as_str()) && !known.contains(&key.as_str()))
        {
            return Err(format!(
                "`{key}` is nothing that type={kind} of `tags` knows"
            ));
        }
        let event = settings.get("event").map(String::as_str);
        match (*kind, event) {
            ("ref", Some("branch" | "tag" | "pr")) => {}
            ("ref", _) => return Err("type=ref of `tags` needs event=branch, tag or pr".to_owned()),
            ("semver", _) if !settings.contains_key("pattern") => {
                return Err("type=semver of `tags` needs a pattern, e.g. {{version}}".to_owned());
            }
            ("raw", _) if !settings.contains_key("value") => {
                return Err("type=raw of `tags` needs a value".to_owned());
            }
            _ => {}
        }
        Ok(Self { kind, settings })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    fn priority(&self) -> i64 {
        let own = KINDS
            .iter()
            .find(|(kind, ..)| *kind == self.kind)
            .map_or(0, |(.., priority)| *priority);
        self.get("priority")
            .and_then(|text| text.parse().ok())
            .unwrap_or(own)
    }

    fn is_enabled(&self, event: &Event) -> Result<bool, String> {
        match self
            .get("enable")
            .map(|text| expanded(text, event))
            .transpose()?
            .as_deref()
        {
            None | Some("true") => Ok(true),
            Some("false" | "") => Ok(false),
            Some(other) => Err(format!("`enable={other}` of `tags` must be true or false")),
        }
    }
}

impl Flavor {
    pub(super) fn parse(lines: &[String]) -> Result<Self, String> {
        let mut flavor = Self::default();
        for line in lines {
            let mut fields = line
                .split(',')
                .map(|field| field.trim().split_once('=').unwrap_or((field.trim(), "")));
            let (key, value) = fields.next().unwrap_or_default();
            let mut on_latest = false;
            for more in fields {
                match more {
                    ("onlatest", value) => on_latest = value == "true",
                    (other, _) => return Err(format!("`{other}` is nothing that `flavor` knows")),
                }
            }
            match (key, value) {
                ("latest", "auto") => flavor.latest = None,
                ("latest", "true") => flavor.latest = Some(true),
                ("latest", "false") => flavor.latest = Some(false),
                ("prefix", text) => {
                    (flavor.prefix, flavor.prefix_latest) = (text.to_owned(), on_latest)
                }
                ("suffix", text) => {
                    (flavor.suffix, flavor.suffix_latest) = (text.to_owned(), on_latest)
                }
                _ => return Err(format!("`{line}` is nothing that `flavor` knows")),
            }
        }
        Ok(flavor)
    }
}

/// The tags, and warnings.
pub(super) fn names(
    mut rules: Vec<Rule>,
    flavor: &Flavor,
    event: &Event,
) -> Result<(Names, Vec<String>), String> {
    if rules.is_empty() {
        rules = DEFAULTS
            .iter()
            .map(|line| Rule::parse(line))
            .collect::<Result<_, _>>()?;
    }
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.priority()));
    let (mut names, mut warnings) = (Names::default(), Vec::new());
    let mut latest = None;
    for rule in &rules {
        if !rule.is_enabled(event)? {
            continue;
        }
        let Some((value, is_latest)) = value(rule, event, &mut warnings)? else {
            continue;
        };
        let name = sanitized(&around(rule, flavor, event, &value)?);
        if name.is_empty() {
            continue;
        }
        if latest.is_none() {
            latest = Some(flavor.latest.unwrap_or(is_latest));
        }
        if names.main.is_none() {
            names.main = Some(name);
        } else if names.main.as_ref() != Some(&name) && !names.more.contains(&name) {
            names.more.push(name);
        }
    }
    if latest == Some(true) {
        let prefix = if flavor.prefix_latest {
            flavor.prefix.as_str()
        } else {
            ""
        };
        let suffix = if flavor.suffix_latest {
            flavor.suffix.as_str()
        } else {
            ""
        };
        let name = sanitized(&format!(
            "{}latest{}",
            expanded(prefix, event)?,
            expanded(suffix, event)?
        ));
        names.latest = Some(name).filter(|name| !names.all().contains(name));
    }
    Ok((names, warnings))
}

/// What a rule makes of an event, and whether `latest` goes with it by itself.
fn value(
    rule: &Rule,
    event: &Event,
    warnings: &mut Vec<String>,
) -> Result<Option<(String, bool)>, String> {
    let branch = event.reference.strip_prefix("refs/heads/");
    let tag = event.reference.strip_prefix("refs/tags/");
    let plain = |text: &str| Some((text.to_owned(), false));
    Ok(match rule.kind {
        "schedule" if event.name == "schedule" => {
            plain(&expanded(rule.get("pattern").unwrap_or("nightly"), event)?)
        }
        "semver" => match rule
            .get("value")
            .map(|value| expanded(value, event))
            .transpose()?
            .as_deref()
            .or(tag)
        {
            Some(version) => semver(version, rule.get("pattern").unwrap_or_default(), warnings),
            None => None,
        },
        "edge" => {
            let wanted = rule.get("branch").unwrap_or(&event.default_branch);
            if branch.is_some() && branch == Some(wanted) {
                plain("edge")
            } else {
                None
            }
        }
        "ref" => match rule.get("event") {
            Some("branch") => branch.and_then(plain),
            Some("tag") => tag.map(|tag| (tag.to_owned(), true)),
            _ => event
                .reference
                .strip_prefix("refs/pull/")
                .and_then(|pull| plain(pull.split('/').next()?)),
        },
        "raw" => plain(&expanded(rule.get("value").unwrap_or_default(), event)?),
        "sha" => {
            let commit = &event.commit;
            let short = commit.get(..7).unwrap_or(commit);
            plain(if rule.get("format") == Some("long") {
                commit
            } else {
                short
            })
        }
        _ => None,
    })
}

/// A version that is not released is itself only, whatever the pattern.
fn semver(text: &str, pattern: &str, warnings: &mut Vec<String>) -> Option<(String, bool)> {
    let version = text.trim().trim_start_matches(['v', '=']);
    let (core, pre) = version
        .split_once('-')
        .map_or((version, false), |(core, _)| (core, true));
    let core = core.split('+').next().unwrap_or(core);
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let [major, minor, patch] = numbers.as_slice() else {
        warnings.push(format!("{text} is no semantic version"));
        return None;
    };
    if !numbers.iter().all(is_number) {
        warnings.push(format!("{text} is no semantic version"));
        return None;
    }
    let bare = version.split('+').next().unwrap_or(version);
    if pre {
        let raw = pattern.contains("raw");
        return Some((
            if raw {
                text.to_owned()
            } else {
                bare.to_owned()
            },
            false,
        ));
    }
    let known = [
        ("raw", text),
        ("version", bare),
        ("major", major),
        ("minor", minor),
        ("patch", patch),
    ];
    let mut value = pattern.to_owned();
    for (name, with) in known {
        value = value
            .replace(&format!("{{{{{name}}}}}"), with)
            .replace(&format!("{{{{ {name} }}}}"), with);
    }
    Some((value, true))
}

fn around(rule: &Rule, flavor: &Flavor, event: &Event, value: &str) -> Result<String, String> {
    let own = match (rule.kind, rule.get("event")) {
        ("sha", _) => Some("sha-"),
        ("ref", Some("pr")) => Some("pr-"),
        _ => None,
    };
    let prefix = expanded(rule.get("prefix").or(own).unwrap_or(&flavor.prefix), event)?;
    let suffix = expanded(rule.get("suffix").unwrap_or(&flavor.suffix), event)?;
    Ok(format!("{prefix}{value}{suffix}"))
}

fn sanitized(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            name.push(c);
        } else if !name.ends_with('\u{0}') {
            name.push('\u{0}');
        }
    }
    name.replace('\u{0}', "-")
}

/// With what stands in double braces replaced.
fn expanded(text: &str, event: &Event) -> Result<String, String> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inner, behind)) = after.split_once("}}") else {
            return Err(format!("`{text}` has braces that are not closed"));
        };
        whole.push_str(before);
        whole.push_str(&expression(inner.trim(), event)?);
        rest = behind;
    }
    whole.push_str(rest);
    Ok(whole)
}

fn expression(text: &str, event: &Event) -> Result<String, String> {
    let branch = event.reference.strip_prefix("refs/heads/");
    let words: Vec<&str> = text.splitn(2, ' ').collect();
    Ok(match words.as_slice() {
        ["branch"] => sanitized(branch.unwrap_or_default()),
        ["tag"] => sanitized(
            event
                .reference
                .strip_prefix("refs/tags/")
                .unwrap_or_default(),
        ),
        ["sha"] => event.commit.get(..7).unwrap_or(&event.commit).to_owned(),
        ["base_ref"] => sanitized(&event.base),
        ["is_default_branch"] => {
            (branch.is_some_and(|branch| branch == event.default_branch)).to_string()
        }
        ["is_not_default_branch"] => {
            (branch.is_none_or(|branch| branch != event.default_branch)).to_string()
        }
        ["date", format] => date(format.trim().trim_matches(['\'', '"']), event.now)?,
        _ => {
            return Err(format!(
                "`{{{{{text}}}}}` is not known in `tags`; there are branch, tag, sha, base_ref, is_default_branch and date 'YYYYMMDD'"
            ));
        }
    })
}

/// Letters as Moment.js has them, in UTC.
fn date(format: &str, now: Timestamp) -> Result<String, String> {
    const PARTS: [(&str, &str); 8] = [
        ("YYYY", "%Y"),
        ("YY", "%y"),
        ("MM", "%m"),
        ("DD", "%d"),
        ("HH", "%H"),
        ("mm", "%M"),
        ("ss", "%S"),
        ("X", "%s"),
    ];
    let mut text = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if let Some((letters, part)) = PARTS.iter().find(|(letters, _)| rest.starts_with(letters)) {
            text.push_str(&now.strftime(part).to_string());
            rest = &rest[letters.len()..];
        } else if first.is_ascii_alphabetic() || "'\"=".contains(first) {
            return Err(format!(
                "the date format `{format}` is not supported: write YYYY, MM, DD, HH, mm, ss, in UTC"
            ));
        } else {
            text.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        reference: &str,
        name: &str,
        lines: &[&str],
        flavor: &[&str],
    ) -> Result<Vec<String>, String> {
        let event = Event {
            name: name.to_owned(),
            reference: reference.to_owned(),
            commit: "860c1904a1ce19322e91ac35af1ab07466440c37".to_owned(),
            base: "main".to_owned(),
            default_branch: "main".to_owned(),
            now: "2026-11-30T12:34:56Z".parse().unwrap(),
        };
        let rules = lines
            .iter()
            .map(|line| Rule::parse(line))
            .collect::<Result<_, _>>()?;
        let flavor = Flavor::parse(
            &flavor
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>(),
        )?;
        names(rules, &flavor, &event).map(|(names, _)| names.all())
    }

    fn check(reference: &str, lines: &[&str], flavor: &[&str], expected: &[&str]) {
        assert_eq!(
            of(reference, "push", lines, flavor).unwrap(),
            expected,
            "{reference} {lines:?} {flavor:?}"
        );
    }

    const SEMVER: [&str; 3] = [
        "type=semver,pattern={{version}}",
        "type=semver,pattern={{major}}.{{minor}}",
        "type=semver,pattern={{major}}",
    ];

    #[test]
    fn tags_are_those_of_the_action() {
        check("refs/heads/main", &[], &[], &["main"]);
        check("refs/heads/feat/a b", &[], &[], &["feat-a-b"]);
        check("refs/tags/v1.2.3", &[], &[], &["v1.2.3", "latest"]);
        check("refs/pull/7/merge", &[], &[], &["pr-7"]);
        check(
            "refs/tags/v1.2.3",
            &SEMVER,
            &[],
            &["1.2.3", "1.2", "1", "latest"],
        );
        check("refs/tags/v2.0.8-beta.67", &SEMVER, &[], &["2.0.8-beta.67"]);
        check(
            "refs/tags/v2.0.8-beta.67",
            &["type=semver,pattern={{raw}}"],
            &[],
            &["v2.0.8-beta.67"],
        );
        check("refs/tags/nightly", &SEMVER, &[], &[]);
        check("refs/heads/main", &SEMVER, &[], &[]);
        check(
            "refs/heads/main",
            &["type=semver,pattern=v{{major}},value=v3.1.0"],
            &[],
            &["v3", "latest"],
        );
        check(
            "refs/heads/main",
            &["type=sha", "type=ref,event=branch"],
            &[],
            &["main", "sha-860c190"],
        );
        check(
            "refs/heads/main",
            &["type=sha,prefix=,format=long"],
            &[],
            &["860c1904a1ce19322e91ac35af1ab07466440c37"],
        );
        check(
            "refs/heads/main",
            &["type=edge", "release"],
            &[],
            &["edge", "release"],
        );
        check("refs/heads/dev", &["type=edge,branch=dev"], &[], &["edge"]);
        check("refs/heads/dev", &["type=edge"], &[], &[]);
        check(
            "refs/heads/main",
            &["type=raw,value=latest,enable={{is_default_branch}}"],
            &[],
            &["latest"],
        );
        check(
            "refs/heads/dev",
            &["type=raw,value=latest,enable={{is_default_branch}}"],
            &[],
            &[],
        );
        check(
            "refs/heads/main",
            &["type=raw,value={{branch}}-{{sha}}-{{date 'YYYYMMDD-HHmmss'}}"],
            &[],
            &["main-860c190-20261130-123456"],
        );
        check(
            "refs/heads/main",
            &["type=raw,value=a,priority=1", "type=sha,priority=2"],
            &[],
            &["sha-860c190", "a"],
        );
        assert_eq!(
            of("refs/heads/main", "schedule", &[], &[]).unwrap(),
            ["nightly", "main"]
        );
    }

    #[test]
    fn a_flavor_is_common_to_all() {
        check(
            "refs/heads/main",
            &[],
            &["latest=true"],
            &["main", "latest"],
        );
        check(
            "refs/tags/v1.2.3",
            &SEMVER,
            &["latest=false"],
            &["1.2.3", "1.2", "1"],
        );
        check(
            "refs/tags/v1.2.3",
            &SEMVER[..1],
            &["prefix=a-,onlatest=true", "suffix=-z"],
            &["a-1.2.3-z", "a-latest"],
        );
        check(
            "refs/heads/main",
            &["type=sha"],
            &["prefix=a-"],
            &["sha-860c190"],
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (line, why) in [
            ("type=match,pattern=v(.*)", "type=match"),
            ("type=pep440,pattern={{version}}", "type=pep440"),
            ("type=ref,event=what", "event=branch, tag or pr"),
            ("type=semver", "needs a pattern"),
            ("type=sha,fromat=long", "`fromat`"),
            ("type=raw,value={{what}}", "{{what}}"),
            ("type=raw,value={{date 'YYYY' tz='Asia/Tokyo'}}", "in UTC"),
            ("type=raw,value=a,enable=maybe", "must be true or false"),
        ] {
            let error = of("refs/heads/main", "push", &[line], &[]).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        assert!(of("refs/heads/main", "push", &[], &["lates=true"]).is_err());
    }
}
