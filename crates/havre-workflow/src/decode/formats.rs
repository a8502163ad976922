//! Texts with a format of their own: ids, what is called, times.

use crate::model::{CalledWorkflow, Remote, UsedAction};

/// Longest id, in characters.
const MAX_ID: usize = 100;

/// Letters, digits, `_` and `-`, not beginning with a digit or `-`.
pub(super) fn is_id(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.len() < MAX_ID && text.starts_with(first) && text.chars().all(rest)
}

/// What a step's `uses` names.
pub(super) fn action(text: &str) -> Result<UsedAction, &'static str> {
    if let Some(image) = text.strip_prefix("docker://") {
        return match image {
            "" => Err("the image is missing behind `docker://`"),
            image => Ok(UsedAction::Image(image.to_owned())),
        };
    }
    if text == "." || text.starts_with("./") || text.starts_with(".\\") {
        return Ok(UsedAction::Workspace(text.to_owned()));
    }
    if let Some(path) = own(text)? {
        return Ok(UsedAction::Own(path));
    }
    let form = "write `OWNER/REPOSITORY@REF`, `OWNER/REPOSITORY/PATH@REF`, `./PATH`, `$/PATH` or \
                `docker://IMAGE`";
    remote(text).map(UsedAction::Remote).ok_or(form)
}

/// What a job's `uses` names.
pub(super) fn workflow(text: &str) -> Result<CalledWorkflow, &'static str> {
    if let Some(path) = own(text)? {
        return in_workflows(path).map(CalledWorkflow::Local);
    }
    if let Some(path) = text.strip_prefix("./") {
        if path.contains('@') {
            return Err("a workflow of this repository is called at this commit: leave `@` out");
        }
        return in_workflows(path.to_owned()).map(CalledWorkflow::Local);
    }
    let form = "write `OWNER/REPOSITORY/.github/workflows/FILE@REF` or `./.github/workflows/FILE`";
    let remote = remote(text).ok_or(form)?;
    in_workflows(remote.path.clone())?;
    Ok(CalledWorkflow::Remote(remote))
}

/// `$/…`: in the repository that holds the file.
fn own(text: &str) -> Result<Option<String>, &'static str> {
    let Some(path) = text.strip_prefix("$/") else {
        return Ok(None);
    };
    if path.contains('@') {
        return Err("`$/` is this repository at this commit: leave `@` out");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("the path leads out of the repository");
    }
    Ok(Some(path.to_owned()))
}

fn in_workflows(path: String) -> Result<String, &'static str> {
    let name = path.strip_prefix(".github/workflows/").unwrap_or_default();
    let is_file = name.ends_with(".yml") || name.ends_with(".yaml");
    match is_file && !name.contains('/') {
        true => Ok(path),
        false => Err("workflows are called by a file in `.github/workflows/`, `.yml` or `.yaml`"),
    }
}

fn remote(text: &str) -> Option<Remote> {
    let (place, reference) = text.split_once('@')?;
    let mut parts = place.splitn(3, ['/', '\\']);
    let (owner, repository) = (parts.next()?, parts.next()?);
    let path = parts.next().unwrap_or_default();
    let named = |name: &str| !name.is_empty() && !name.chars().all(|c| c == '.');
    // Not a path, nor an address.
    let plain = |name: &str| !name.contains([':', '$']) && !name.starts_with('.');
    let is_place = named(owner) && named(repository) && plain(owner);
    (is_place && !reference.is_empty()).then(|| Remote {
        owner: owner.to_owned(),
        repository: repository.to_owned(),
        path: path.to_owned(),
        reference: reference.to_owned(),
    })
}

/// What is wrong with a time of five fields.
pub(super) fn cron(text: &str) -> Result<(), String> {
    const MONTHS: [&str; 12] = [
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ];
    const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
        ("minute", 0, 59, &[]),
        ("hour", 0, 23, &[]),
        ("day", 1, 31, &[]),
        ("month", 1, 12, &MONTHS),
        ("day of the week", 0, 6, &DAYS),
    ];
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err("a time has five fields: minute, hour, day, month, day of the week".to_owned());
    }
    for (field, (name, least, most, words)) in fields.iter().zip(FIELDS) {
        for item in field.split(',') {
            if !is_item(item, least, most, words) {
                return Err(format!("`{item}` is no {name} ({least} to {most})"));
            }
        }
    }
    Ok(())
}

fn is_item(item: &str, least: u32, most: u32, words: &[&str]) -> bool {
    let number = |text: &str| {
        let word = words
            .iter()
            .position(|word| word.eq_ignore_ascii_case(text));
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match word {
            Some(index) => Some(index as u32 + least),
            None if digits => text.parse().ok(),
            None => None,
        }
        .filter(|number| (least..=most).contains(number))
    };
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let is_step = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|s| s > 0 && s <= most));
    let is_range = match range.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(a, b)| a <= b),
        None => range == "*" || number(range).is_some(),
    };
    is_step && is_range
}

/// Whether a text looks like the name of a time zone.
pub(super) fn is_timezone(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c))
    };
    text.len() <= 64 && text.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for id in ["a", "_a-1", "A9"] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", "1a", "-a", "a.b", "a b", "é", &"a".repeat(100)] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn what_is_used() {
        let is = |text: &str| action(text).is_ok();
        for text in [
            "docker://alpine:3.8",
            "actions/aws/ec2@main",
            "./.github/actions/my-action",
            "$/actions/a",
            "org with space/repo@v2",
            "a/b@refs/heads/x@y",
        ] {
            assert!(is(text), "{text}");
        }
        for text in [
            "docker://",
            "$$docker://alpine:3.8",
            "...docker://alpine:3.8",
            "badrepo@invalid",
            "a/b",
            "a/b@",
            "$/a@v1",
            "$/../a",
            "https://x/y@z",
            "",
        ] {
            assert!(!is(text), "{text}");
        }
        let is = |text: &str| workflow(text).is_ok();
        assert!(is("./.github/workflows/a.yml") && is("$/.github/workflows/a.yaml"));
        assert!(is("a/b/.github/workflows/c.yml@v1"));
        for text in [
            "./.github/workflows/a.yml@v1",
            "./a.yml",
            "./.github/workflows/x/a.yml",
            "a/b@v1",
            "a/b/.github/workflows/c.yml",
        ] {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn times() {
        for text in ["* * * * *", "*/5 0-23/2 1,15 JAN-mar SUN", "0 4 * * 6"] {
            assert_eq!(cron(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "* * * * 7",
            "@daily",
        ] {
            assert!(cron(text).is_err(), "{text}");
        }
        assert!(is_timezone("Europe/Berlin") && is_timezone("UTC") && is_timezone("Etc/GMT+1"));
        assert!(!is_timezone("../x") && !is_timezone("a b") && !is_timezone(""));
    }
}
