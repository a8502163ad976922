//! `actions/setup-node`.

use std::fs;
use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Deserialize;

use super::dependencies::manager;
use super::files;
use super::install::{self, Found, Offer, architecture};
use super::matchers::{Matchers, register};
use super::program::{ask, which};
use super::version::{Range, Version};
use crate::failure::{Failure, refused};
use crate::http::{Ask, Http};
use crate::step::Step;

const TOOL: &str = "node";
const DIST: &str = "https://nodejs.org/dist";
const MANAGERS: [&str; 3] = ["npm", "yarn", "pnpm"];
/// Names of the lines that are supported for long, by their major version.
const LINES: [(&str, u64); 6] = [
    ("fermium", 14),
    ("gallium", 16),
    ("hydrogen", 18),
    ("iron", 20),
    ("jod", 22),
    ("krypton", 24),
];

/// Which versions are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Range(Range),
    /// The newest that there is.
    Latest,
    /// One that is supported for long: the newest such line, or the one of a name.
    Lts(Option<String>),
}

/// A line of the list of versions.
#[derive(Deserialize)]
struct Listed {
    version: String,
    /// `false`, or the name of a line.
    lts: serde_json::Value,
}

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    let asked = match (step.given("node-version"), step.given("node-version-file")) {
        (Some(version), _) => Some(version),
        (None, Some(file)) => Some(files::version(step, &file, &["nodejs", "node"])?),
        (None, None) => None,
    };
    let found = match &asked {
        Some(asked) => find(step, asked)?,
        None => match own(step) {
            Some(found) => found,
            None => {
                return refused("there is no node here: say which one is wanted by `node-version`");
            }
        },
    };
    let bin = if found.place.is_dir() {
        found.place.join("bin")
    } else {
        folder(&found.place)
    };
    step.say(&format!("Node.js {} in {}", found.version, bin.display()));
    if found.place.is_dir() {
        step.add_path(&bin)?;
    }
    step.output("node-version", &format!("v{}", found.version))?;
    register(step, &Matchers::Node)?;
    registry(step)?;
    packages(step, &found.version, &bin)
}

fn folder(program: &Path) -> PathBuf {
    program.parent().unwrap_or(Path::new("/")).to_owned()
}

fn find(step: &Step, asked: &str) -> Result<Found, Failure> {
    let mut wanted = Wanted::parse(asked)?;
    let listed = Http::new()?;
    let mut why = None;
    // What is newest is known by the list only.
    if wanted == Wanted::Latest || step.flag("check-latest", false)? {
        match offer(step, &listed, &wanted) {
            Ok(offer) => wanted = Wanted::Range(Range::exactly(&offer.version)),
            Err(failure) => {
                step.warning(&format!(
                    "what is newest is not known: {}",
                    havre_base::one_line(&failure)
                ));
                why = Some(failure);
            }
        }
    }
    let fitting = |found: &Found| wanted.holds(&found.version);
    let cached = install::all_cached(step, TOOL)
        .into_iter()
        .filter(fitting)
        .max_by(install::newest);
    let own = own(step);
    if let Some(found) = cached.or_else(|| own.clone().filter(fitting)) {
        return Ok(found);
    }
    let failure = match why {
        Some(failure) => failure,
        None => match offer(step, &listed, &wanted) {
            Ok(offer) => return fetched(step, &listed, &offer),
            Err(failure) => failure,
        },
    };
    let own: Vec<String> = own
        .iter()
        .map(|own| format!("{} in {}", own.version, own.place.display()))
        .collect();
    Err(install::nothing(step, TOOL, asked, &own, Some(&failure)))
}

fn fetched(step: &Step, http: &Http, offer: &Offer) -> Result<Found, Failure> {
    let token = step.given("mirror-token");
    let found = install::fetch(step, http, TOOL, offer, token.as_deref())?;
    if ask(&found.place.join("bin/node"), &["--version"]).is_none() {
        return refused(format!(
            "Node.js {} was fetched, but does not run in this image, whose C library is another; choose an image of \
             Node.js (`container:`)",
            found.version
        ));
    }
    Ok(found)
}

fn own(step: &Step) -> Option<Found> {
    let program = which(step, "node")?;
    let version = Version::parse(&ask(&program, &["--version"])?)?;
    Some(Found {
        version,
        place: program,
    })
}

impl Wanted {
    fn parse(asked: &str) -> Result<Self, Failure> {
        match asked {
            "latest" | "node" | "current" => return Ok(Self::Latest),
            "lts" | "lts/*" => return Ok(Self::Lts(None)),
            _ => {}
        }
        if let Some(name) = asked.strip_prefix("lts/") {
            return Ok(Self::Lts(Some(name.to_lowercase())));
        }
        match Range::parse(asked) {
            Some(range) => Ok(Self::Range(range)),
            None => refused(format!(
                "`{asked}` is no version of Node.js: write 20, 20.x, >=18, lts/* or latest"
            )),
        }
    }

    /// Without the list: of what is known of Node.js's lines.
    fn holds(&self, version: &Version) -> bool {
        match self {
            Self::Range(range) => range.holds(version, false),
            Self::Latest => true,
            Self::Lts(None) => {
                let newest = LINES
                    .iter()
                    .map(|(_, major)| *major)
                    .max()
                    .unwrap_or_default();
                version.major() >= newest - 4 && version.major().is_multiple_of(2)
            }
            Self::Lts(Some(name)) => LINES
                .iter()
                .any(|(line, major)| line == name && *major == version.major()),
        }
    }

    fn lists(&self, listed: &Listed, version: &Version) -> bool {
        match self {
            Self::Range(range) => range.holds(version, false),
            Self::Latest => true,
            Self::Lts(None) => listed.lts.is_string(),
            Self::Lts(Some(name)) => listed
                .lts
                .as_str()
                .is_some_and(|line| line.eq_ignore_ascii_case(name)),
        }
    }
}

/// The newest version of the list that is wanted.
fn offer(step: &Step, http: &Http, wanted: &Wanted) -> Result<Offer, Failure> {
    let base = step.given("mirror").unwrap_or_else(|| DIST.to_owned());
    let base = base.trim_end_matches('/');
    let list: Vec<Listed> =
        match serde_json::from_str(&text(step, http, &format!("{base}/index.json"))?) {
            Ok(list) => list,
            Err(error) => return refused(format!("{base}/index.json cannot be read: {error}")),
        };
    let versions = list
        .iter()
        .filter_map(|listed| Some((Version::parse(&listed.version)?, listed)));
    let Some((version, listed)) = versions
        .filter(|(version, listed)| wanted.lists(listed, version))
        .max_by(|a, b| a.0.cmp(&b.0))
    else {
        return refused(format!("{base} has no such version"));
    };
    let name = format!("node-{}-linux-{}.tar.gz", listed.version, architecture());
    let folder = format!("{base}/{}", listed.version);
    let sums = text(step, http, &format!("{folder}/SHASUMS256.txt"))?;
    match install::checksum(&sums, &name) {
        Some(sum) => Ok(Offer {
            version,
            url: format!("{folder}/{name}"),
            sha256: sum.to_owned(),
        }),
        None => refused(format!("{folder} has no {name}")),
    }
}

fn text(step: &Step, http: &Http, url: &str) -> Result<String, Failure> {
    let token = step
        .given("mirror-token")
        .map(|token| ("authorization", format!("Bearer {token}")));
    let answer = http.ask(&Ask {
        method: Method::GET,
        url,
        headers: token.into_iter().collect(),
        body: Default::default(),
    })?;
    if answer.status.is_success() {
        return Ok(String::from_utf8_lossy(&answer.body).into_owned());
    }
    refused(format!("{url} answers {}", answer.status))
}

/// Has npm use a registry, and a token from `NODE_AUTH_TOKEN` with it.
fn registry(step: &Step) -> Result<(), Failure> {
    let Some(registry) = step.given("registry-url") else {
        return Ok(());
    };
    let Some((_, bare)) = registry.split_once("://") else {
        return refused("`registry-url` must begin with https://");
    };
    let bare = bare.trim_end_matches('/');
    let scope = match step.given("scope") {
        Some(scope) => Some(scope),
        // That registry is one of scopes only.
        None if bare.starts_with("npm.pkg.github.com") => {
            step.var("GITHUB_REPOSITORY_OWNER").map(str::to_owned)
        }
        None => None,
    };
    let scope = scope.map(|scope| format!("@{}:", scope.trim_start_matches('@').to_lowercase()));
    let url = format!("{}/", registry.trim_end_matches('/'));
    let lines = format!(
        "//{bare}/:_authToken=${{NODE_AUTH_TOKEN}}\n{}registry={url}\n",
        scope.unwrap_or_default()
    );
    let path = step.temp()?.join(".npmrc");
    fs::write(&path, lines).map_err(Failure::io(format!("write {}", path.display())))?;
    step.export("NPM_CONFIG_USERCONFIG", &path.to_string_lossy())?;
    // npm refuses a file with a variable that is not set.
    step.export(
        "NODE_AUTH_TOKEN",
        step.var("NODE_AUTH_TOKEN")
            .unwrap_or("XXXXX-XXXXX-XXXXX-XXXXX"),
    )
}

fn packages(step: &Step, version: &Version, bin: &Path) -> Result<(), Failure> {
    let named = step.lines("cache-dependency-path");
    if let Some(name) = step.given("cache") {
        return manager(&name, &MANAGERS)?.restore(
            step,
            TOOL,
            &version.to_string(),
            &named,
            Some(bin.to_owned()),
        );
    }
    if !step.flag("package-manager-cache", true)? || !says_npm(step)? {
        return Ok(());
    }
    let npm = manager("npm", &MANAGERS)?;
    if npm.has_files(step)? {
        return npm.restore(
            step,
            TOOL,
            &version.to_string(),
            &named,
            Some(bin.to_owned()),
        );
    }
    Ok(())
}

/// Whether package.json names npm as the project's package manager.
fn says_npm(step: &Step) -> Result<bool, Failure> {
    if !step.workspace()?.join("package.json").is_file() {
        return Ok(false);
    }
    let text = files::read(step, "package.json")?;
    let Ok(package) = serde_json::from_str::<serde_json::Value>(&text) else {
        return Ok(false);
    };
    let named = package["packageManager"]
        .as_str()
        .is_some_and(|name| name.starts_with("npm@"));
    Ok(named || package["devEngines"]["packageManager"]["name"] == "npm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_versions_are_understood() {
        let holds = |asked: &str, version: &str| {
            Wanted::parse(asked)
                .unwrap()
                .holds(&Version::parse(version).unwrap())
        };
        assert!(holds("lts/*", "22.1.0") && !holds("lts/*", "23.0.0") && !holds("lts/*", "14.0.0"));
        assert!(holds("lts/Iron", "20.1.0") && !holds("lts/iron", "22.0.0"));
        assert!(holds("20.x", "20.1.0") && holds("latest", "1.0.0"));
        assert!(Wanted::parse("what").is_err());
    }
}
