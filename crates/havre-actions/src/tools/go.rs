//! `actions/setup-go`.

use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Deserialize;

use super::dependencies::manager;
use super::files;
use super::install::{self, Found, Offer};
use super::matchers::{Matchers, register};
use super::program::{ask, which};
use super::version::{Range, Version};
use crate::failure::{Failure, refused};
use crate::http::{Ask, Http};
use crate::step::Step;

const TOOL: &str = "go";
const DIST: &str = "https://go.dev/dl";

/// A version of the list.
#[derive(Deserialize)]
struct Listed {
    version: String,
    stable: bool,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    os: String,
    arch: String,
    sha256: String,
    kind: String,
}

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    let asked = match (step.given("go-version"), step.given("go-version-file")) {
        (Some(version), _) => Some(version),
        (None, Some(file)) => Some(files::version(step, &file, &["golang", "go"])?),
        (None, None) => None,
    };
    let found = match &asked {
        Some(asked) => find(step, asked)?,
        None => match own(step) {
            Some(found) => found,
            None => return refused("there is no go here: say which one is wanted by `go-version`"),
        },
    };
    let bin = if found.place.is_dir() {
        let bin = found.place.join("bin");
        step.add_path(&bin)?;
        if step.var("GOROOT").is_some() {
            // The image names the one of another version; empty is as if it were not set.
            step.export("GOROOT", "")?;
        }
        bin
    } else {
        found.place.parent().unwrap_or(Path::new("/")).to_owned()
    };
    if let Some(path) =
        ask(&bin.join("go"), &["env", "GOPATH"]).filter(|path| path.starts_with('/'))
    {
        step.add_path(&PathBuf::from(path).join("bin"))?;
    }
    step.say(&format!("Go {} in {}", found.version, bin.display()));
    step.output("go-version", &found.version.to_string())?;
    register(step, &Matchers::Go)?;
    packages(step, &found.version, bin)
}

fn find(step: &Step, asked: &str) -> Result<Found, Failure> {
    let stable = matches!(asked, "stable" | "oldstable");
    let Some(mut range) = (if stable {
        Some(Range::any())
    } else {
        Range::parse(asked.trim_start_matches("go"))
    }) else {
        return refused(format!(
            "`{asked}` is no version of Go: write 1.22, ^1.21, stable or oldstable"
        ));
    };
    let http = Http::new()?;
    let mut failure = None;
    if stable || step.flag("check-latest", false)? {
        match offer(step, &http, asked, &range) {
            Ok(offer) => range = Range::exactly(&offer.version),
            Err(why) => {
                step.warning(&format!(
                    "what is newest is not known: {}",
                    havre_base::one_line(&why)
                ));
                failure = Some(why);
            }
        }
    }
    let own = own(step);
    let fitting = own.clone().filter(|own| range.holds(&own.version, false));
    if let Some(found) = install::cached(step, TOOL, &range, false).or(fitting) {
        return Ok(found);
    }
    let failure = match failure {
        Some(failure) => failure,
        None => match offer(step, &http, asked, &range) {
            Ok(offer) => return install::fetch(step, &http, TOOL, &offer, None),
            Err(failure) => failure,
        },
    };
    let own: Vec<String> = own
        .iter()
        .map(|own| format!("{} in {}", own.version, own.place.display()))
        .collect();
    Err(install::nothing(step, TOOL, asked, &own, Some(&failure)))
}

fn own(step: &Step) -> Option<Found> {
    let program = which(step, "go")?;
    // `go version go1.22.1 linux/amd64`
    let text = ask(&program, &["version"])?;
    let version = text
        .split_whitespace()
        .find_map(|word| Version::parse(word.strip_prefix("go")?))?;
    Some(Found {
        version,
        place: program,
    })
}

/// The newest version of the list that is wanted.
fn offer(step: &Step, http: &Http, asked: &str, range: &Range) -> Result<Offer, Failure> {
    let base = step
        .given("go-download-base-url")
        .or_else(|| step.var("GO_DOWNLOAD_BASE_URL").map(str::to_owned));
    let base = base.unwrap_or_else(|| DIST.to_owned());
    let base = base.trim_end_matches('/');
    let url = format!("{base}/?mode=json&include=all");
    let answer = http.ask(&Ask {
        method: Method::GET,
        url: &url,
        headers: Vec::new(),
        body: Default::default(),
    })?;
    let Ok(list) = serde_json::from_slice::<Vec<Listed>>(&answer.body) else {
        return refused(format!(
            "{base} has no list of versions ({})",
            answer.status
        ));
    };
    match chosen(list, asked, range) {
        Some((version, file)) => Ok(Offer {
            version,
            url: format!("{base}/{}", file.filename),
            sha256: file.sha256,
        }),
        None => refused(format!("{base} has no such version")),
    }
}

fn chosen(list: Vec<Listed>, asked: &str, range: &Range) -> Option<(Version, File)> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |file: &File| file.os == "linux" && file.arch == arch && file.kind == "archive";
    let mut offers: Vec<(Version, File)> = list
        .into_iter()
        .filter(|listed| listed.stable)
        .filter_map(|listed| {
            let version = Version::parse(listed.version.strip_prefix("go")?)?;
            let file = listed.files.into_iter().find(fits)?;
            range.holds(&version, false).then_some((version, file))
        })
        .collect();
    offers.sort_by(|a, b| b.0.cmp(&a.0));
    if asked == "oldstable" {
        let newest = offers.first()?.0.numbers[1];
        offers.retain(|(version, _)| version.numbers[1] != newest);
    }
    offers.into_iter().next()
}

fn packages(step: &Step, version: &Version, bin: PathBuf) -> Result<(), Failure> {
    if !step.flag("cache", true)? {
        return Ok(());
    }
    let (go, named) = (manager("go", &["go"])?, step.lines("cache-dependency-path"));
    // It is on unless somebody turns it off: a project without packages has done nothing wrong.
    if named.is_empty() && !go.has_files(step)? {
        step.say("There is no go.sum: no packages are cached.");
        return Ok(());
    }
    go.restore(step, TOOL, &version.to_string(), &named, Some(bin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_fitting_version_is_chosen() {
        let listed = |version: &str, stable: bool| Listed {
            version: version.to_owned(),
            stable,
            files: ["amd64", "arm64"]
                .map(|arch| File {
                    filename: format!("{version}.{arch}.tar.gz"),
                    os: "linux".to_owned(),
                    arch: arch.to_owned(),
                    sha256: String::new(),
                    kind: "archive".to_owned(),
                })
                .into(),
        };
        let check = |asked: &str, expected: Option<&str>| {
            let list = vec![
                listed("go1.23rc1", false),
                listed("go1.21.9", true),
                listed("go1.22.2", true),
                listed("go1.22", true),
            ];
            let range = Range::parse(asked).unwrap_or_else(Range::any);
            let version = chosen(list, asked, &range).map(|(version, _)| version.to_string());
            assert_eq!(version.as_deref(), expected, "{asked}");
        };
        check("1.22", Some("1.22.2"));
        check("1.22.0", Some("1.22.0"));
        check("stable", Some("1.22.2"));
        check("oldstable", Some("1.21.9"));
        check("^1.20", Some("1.22.2"));
        check("1.23", None);
    }
}
