//! `actions/setup-python`.

use std::fs;
use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Deserialize;

use super::dependencies::manager;
use super::files;
use super::install::{self, Found, Offer};
use super::matchers::{Matchers, register};
use super::program::{ask, folders, run};
use super::version::{Range, Version};
use crate::failure::{Failure, refused};
use crate::http::{Ask, Http};
use crate::step::Step;

const TOOL: &str = "Python";
/// Names the newest release of builds of Python that run from any folder.
const RELEASES: &str = "https://raw.githubusercontent.com/astral-sh/python-build-standalone/latest-release/latest-release.json";
const MANAGERS: [&str; 3] = ["pip", "pipenv", "poetry"];
/// What an interpreter is asked: whether others manage its packages, and whether this user may.
const QUESTION: &str = "\
import os, sys, sysconfig
paths = sysconfig.get_paths()
managed = os.path.exists(os.path.join(paths['stdlib'], 'EXTERNALLY-MANAGED'))
print('%d.%d.%d' % sys.version_info[:3])
print(sys.version_info[3])
print(sys.executable)
print('free' if os.access(paths['purelib'], os.W_OK) and not managed else 'managed')
";

/// Which versions are wanted.
struct Wanted {
    asked: String,
    range: Range,
    pre: bool,
}

/// An interpreter of the machine.
#[derive(Clone, Debug)]
struct Own {
    version: Version,
    program: PathBuf,
    /// Packages can be installed for it.
    free: bool,
}

/// A Python as later steps will have it.
struct Ready {
    version: Version,
    root: PathBuf,
    bin: PathBuf,
}

#[derive(Deserialize)]
struct Release {
    asset_url_prefix: String,
}

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    let wanted = wanted(step)?;
    let ready = ready(step, &wanted)?;
    let python = ready.bin.join("python");
    let python = if python.exists() {
        python
    } else {
        ready.bin.join("python3")
    };
    step.say(&format!("Python {} is {}", ready.version, python.display()));
    if step.flag("update-environment", true)? {
        step.add_path(&ready.bin)?;
        let root = ready.root.to_string_lossy();
        for name in [
            "pythonLocation",
            "Python_ROOT_DIR",
            "Python2_ROOT_DIR",
            "Python3_ROOT_DIR",
        ] {
            step.export(name, &root)?;
        }
    }
    step.output("python-version", &ready.version.to_string())?;
    step.output("python-path", &python.to_string_lossy())?;
    register(step, &Matchers::Python)?;
    let pip = |args: &[&str]| {
        run(
            step,
            Some(&ready.bin),
            &python,
            &[&["-m", "pip", "install"], args].concat(),
        )
    };
    if let Some(version) = step.given("pip-version") {
        pip(&[
            "--upgrade",
            "--disable-pip-version-check",
            &format!("pip=={version}"),
        ])?;
    }
    if let Some(more) = step.given("pip-install") {
        pip(&more.split_whitespace().collect::<Vec<_>>())?;
    }
    if let Some(name) = step.given("cache") {
        let named = step.lines("cache-dependency-path");
        manager(&name, &MANAGERS)?.restore(
            step,
            "python",
            &ready.version.to_string(),
            &named,
            Some(ready.bin),
        )?;
    }
    Ok(())
}

fn wanted(step: &Step) -> Result<Wanted, Failure> {
    let lines = step.lines("python-version");
    let asked = match (lines.as_slice(), step.given("python-version-file")) {
        ([one], _) => one.clone(),
        ([], Some(file)) => files::version(step, &file, &["python"])?,
        ([], None) if step.workspace()?.join(".python-version").is_file() => {
            files::version(step, ".python-version", &["python"])?
        }
        ([], None) => "*".to_owned(),
        (_, _) => {
            return refused("one `python-version` can be set up at once; use a matrix for several");
        }
    };
    let text = asked.trim().trim_start_matches("python-");
    let (text, dev) = text
        .strip_suffix("-dev")
        .map_or((text, false), |text| (text, true));
    if text.starts_with("pypy") || text.starts_with("graalpy") || text.ends_with('t') {
        return refused(format!(
            "`{asked}` is not set up here: choose an image that has it (`container:`)"
        ));
    }
    match Range::parse(text) {
        Some(range) => Ok(Wanted {
            range,
            pre: dev || step.flag("allow-prereleases", false)?,
            asked,
        }),
        None => refused(format!(
            "`{asked}` is no version of Python: write 3.11, 3.x or >=3.9"
        )),
    }
}

fn ready(step: &Step, wanted: &Wanted) -> Result<Ready, Failure> {
    if let Some(found) = install::cached(step, TOOL, &wanted.range, wanted.pre) {
        return Ok(Ready {
            bin: found.place.join("bin"),
            version: found.version,
            root: found.place,
        });
    }
    let all = owns(step);
    let fitting = all
        .iter()
        .filter(|own| wanted.range.holds(&own.version, wanted.pre));
    if let Some(own) = fitting.max_by(|a, b| a.version.cmp(&b.version)) {
        return of_machine(step, own);
    }
    let failure = match fetched(step, wanted) {
        Ok(found) => {
            return Ok(Ready {
                bin: found.place.join("bin"),
                version: found.version,
                root: found.place,
            });
        }
        Err(failure) => failure,
    };
    let own: Vec<String> = all
        .iter()
        .map(|own| format!("{} in {}", own.version, own.program.display()))
        .collect();
    Err(install::nothing(
        step,
        TOOL,
        &wanted.asked,
        &own,
        Some(&failure),
    ))
}

/// All interpreters in PATH, each once.
fn owns(step: &Step) -> Vec<Own> {
    let mut programs = Vec::new();
    for folder in folders(step) {
        // A folder of PATH that is not there, or cannot be read, holds no Python.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let minor = name
                .strip_prefix("python3.")
                .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
            if minor || name == "python3" || name == "python" {
                programs.push(entry.path());
            }
        }
    }
    let mut owns: Vec<Own> = Vec::new();
    for own in programs.iter().filter_map(|program| own(program)) {
        if !owns.iter().any(|other| other.program == own.program) {
            owns.push(own);
        }
    }
    owns
}

fn own(program: &Path) -> Option<Own> {
    let answer = ask(program, &["-c", QUESTION])?;
    let [version, level, executable, packages] =
        answer.lines().collect::<Vec<_>>().try_into().ok()?;
    let pre = if level == "final" {
        String::new()
    } else {
        format!("-{level}")
    };
    let version = Version::parse(&format!("{version}{pre}"))?;
    Some(Own {
        version,
        program: PathBuf::from(executable),
        free: packages == "free",
    })
}

/// As it is, if packages can be installed for it and it is called `python`; else an environment of its own.
fn of_machine(step: &Step, own: &Own) -> Result<Ready, Failure> {
    let bin = own.program.parent().unwrap_or(Path::new("/")).to_owned();
    if own.free && bin.join("python").is_file() {
        let root = bin.parent().unwrap_or(&bin).to_owned();
        return Ok(Ready {
            version: own.version.clone(),
            root,
            bin,
        });
    }
    let root = step.temp()?.join(format!("python-{}", own.version));
    let ready = Ready {
        version: own.version.clone(),
        bin: root.join("bin"),
        root,
    };
    if ask(&ready.bin.join("python"), &["-m", "pip", "--version"]).is_some() {
        // An earlier step of the job has made it.
        return Ok(ready);
    }
    let folder = ready.root.to_string_lossy();
    if run(
        step,
        None,
        &own.program,
        &["-m", "venv", "--clear", &folder],
    )
    .is_err()
    {
        return refused(format!(
            "Python {} in {} is there, but cannot make an environment to install packages in: install `python3-venv`, \
             or choose an image of Python (`container:`)",
            own.version,
            own.program.display()
        ));
    }
    Ok(ready)
}

fn fetched(step: &Step, wanted: &Wanted) -> Result<Found, Failure> {
    let http = Http::new()?;
    let releases = step.var("HAVRE_PYTHON_RELEASES").unwrap_or(RELEASES);
    let Ok(release) = serde_json::from_str::<Release>(&text(&http, releases)?) else {
        return refused(format!("{releases} cannot be read"));
    };
    let base = release.asset_url_prefix.trim_end_matches('/');
    let sums = text(&http, &format!("{base}/SHA256SUMS"))?;
    let Some(offer) = offer(&sums, base, wanted) else {
        return refused(format!("{base} has no such version"));
    };
    let found = install::fetch(step, &http, TOOL, &offer, None)?;
    let bin = found.place.join("bin");
    if ask(&bin.join("python3"), &["--version"]).is_none() {
        return refused(format!(
            "Python {} was fetched, but does not run in this image, whose C library is another; choose an image of \
             Python (`container:`)",
            found.version
        ));
    }
    Ok(found)
}

/// The newest build of a list of checksums: `cpython-3.12.4+20240726-x86_64-unknown-linux-gnu-install_only.tar.gz`.
fn offer(sums: &str, base: &str, wanted: &Wanted) -> Option<Offer> {
    let tail = format!(
        "-{}-unknown-linux-gnu-install_only.tar.gz",
        std::env::consts::ARCH
    );
    let builds = sums.lines().filter_map(|line| {
        let (sum, name) = line.split_once(char::is_whitespace)?;
        let name = name.trim();
        let version = Version::parse(name.strip_prefix("cpython-")?.strip_suffix(&tail)?)?;
        let url = format!("{base}/{}", name.replace('+', "%2B"));
        wanted.range.holds(&version, wanted.pre).then(|| Offer {
            version,
            url,
            sha256: sum.to_owned(),
        })
    });
    builds.max_by(|a, b| a.version.cmp(&b.version))
}

fn text(http: &Http, url: &str) -> Result<String, Failure> {
    let ask = Ask {
        method: Method::GET,
        url,
        headers: Vec::new(),
        body: Default::default(),
    };
    let into = http.ask(&ask)?;
    if into.status.is_success() {
        return Ok(String::from_utf8_lossy(&into.body).into_owned());
    }
    refused(format!("{url} answers {}", into.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_fitting_build_is_chosen() {
        let arch = std::env::consts::ARCH;
        let line = |version: &str, kind: &str| {
            format!("{version}  cpython-{version}+20260101-{arch}-unknown-linux-{kind}.tar.gz\n")
        };
        let sums = [
            line("3.12.1", "gnu-install_only"),
            line("3.12.4", "gnu-install_only"),
            line("3.12.9", "musl-install_only"),
            line("3.13.0", "gnu-install_only"),
            line("3.14.0a1", "gnu-install_only"),
        ]
        .concat();
        let check = |range: &str, pre: bool, expected: Option<&str>| {
            let wanted = Wanted {
                asked: String::new(),
                range: Range::parse(range).unwrap(),
                pre,
            };
            let offer = offer(&sums, "https://example.org/r", &wanted);
            assert_eq!(
                offer.as_ref().map(|offer| offer.sha256.as_str()),
                expected,
                "{range}"
            );
        };
        check("3.12", false, Some("3.12.4"));
        check("3.x", false, Some("3.13.0"));
        check("3.14", false, None);
        check("3.14", true, Some("3.14.0a1"));
    }
}
