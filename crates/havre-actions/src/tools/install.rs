//! Where versions of a tool come from.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

use flate2::bufread::GzDecoder;
use tar::Archive;

use super::version::{Range, Version};
use crate::cache::Scratch;
use crate::failure::{Failure, refused};
use crate::http::Http;
use crate::step::Step;

/// A version of a tool that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) version: Version,
    /// Its folder, or the program itself where it is the machine's own.
    pub(super) place: PathBuf,
}

/// A version that can be fetched.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) version: Version,
    pub(super) url: String,
    /// In hex.
    pub(super) sha256: String,
}

/// The machine's architecture, as folders of the tool cache are called.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The newest version in the tool cache that is of a range.
pub(super) fn cached(step: &Step, tool: &str, range: &Range, pre: bool) -> Option<Found> {
    all_cached(step, tool)
        .into_iter()
        .filter(|found| range.holds(&found.version, pre))
        .max_by(newest)
}

pub(super) fn newest(a: &Found, b: &Found) -> std::cmp::Ordering {
    a.version.cmp(&b.version)
}

/// All versions in the tool cache, those only whose mark says that they are whole.
pub(super) fn all_cached(step: &Step, tool: &str) -> Vec<Found> {
    let Some(cache) = step.var("RUNNER_TOOL_CACHE") else {
        return Vec::new();
    };
    // A cache that cannot be read is as good as none.
    let versions = fs::read_dir(Path::new(cache).join(tool))
        .into_iter()
        .flatten()
        .flatten();
    let whole = |entry: fs::DirEntry| {
        let version = Version::parse(entry.file_name().to_str()?)?;
        let mark = entry.path().join(format!("{}.complete", architecture()));
        mark.is_file().then(|| Found {
            version,
            place: entry.path().join(architecture()),
        })
    };
    let mut all: Vec<Found> = versions.filter_map(whole).collect();
    all.sort_by(newest);
    all
}

/// Fetches a version into the tool cache, as the one folder of its archive.
pub(super) fn fetch(
    step: &Step,
    http: &Http,
    tool: &str,
    offer: &Offer,
    token: Option<&str>,
) -> Result<Found, Failure> {
    let version = offer.version.to_string();
    step.say(&format!("Fetching {tool} {version} from {}", offer.url));
    let archive = Scratch::new(step)?;
    let fetched = http.fetch(&offer.url, token, &archive.0)?;
    if !fetched.sha256.eq_ignore_ascii_case(&offer.sha256) {
        return refused(format!(
            "{} is not what its list of checksums says; nothing was installed",
            offer.url
        ));
    }
    let cache = PathBuf::from(step.needed("RUNNER_TOOL_CACHE")?)
        .join(tool)
        .join(&version);
    let doing = || Failure::io(format!("install {tool} {version} in {}", cache.display()));
    fs::create_dir_all(&cache).map_err(doing())?;
    // Two jobs may do so at once: each unpacks for itself, and the first one's stays.
    let fresh = cache.join(step.fresh_name("new"));
    unpack(&archive.0, &fresh).map_err(doing())?;
    let place = cache.join(architecture());
    let mark = cache.join(format!("{}.complete", architecture()));
    if mark.is_file() {
        fs::remove_dir_all(&fresh).map_err(doing())?;
    } else {
        if place.exists() {
            fs::remove_dir_all(&place).map_err(doing())?;
        }
        fs::rename(&fresh, &place).map_err(doing())?;
        fs::write(&mark, "").map_err(doing())?;
    }
    Ok(Found {
        version: offer.version.clone(),
        place,
    })
}

/// Without the one folder that all is in.
fn unpack(archive: &Path, into: &Path) -> std::io::Result<()> {
    let mut archive = Archive::new(GzDecoder::new(BufReader::new(File::open(archive)?)));
    fs::create_dir_all(into)?;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path: PathBuf = entry.path()?.components().skip(1).collect();
        if path
            .components()
            .any(|part| !matches!(part, Component::Normal(_)))
            || path.as_os_str().is_empty()
        {
            continue;
        }
        if let Some(target) = entry
            .link_name()?
            .filter(|_| entry.header().entry_type().is_hard_link())
        {
            let target: PathBuf = target.components().skip(1).collect();
            fs::hard_link(into.join(target), into.join(path))?;
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(into.join(parent))?;
        }
        entry.unpack(into.join(path))?;
    }
    Ok(())
}

/// What a list of checksums says, by file names.
pub(super) fn checksum<'l>(list: &'l str, name: &str) -> Option<&'l str> {
    list.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (sum, file) = (words.next()?, words.next()?);
        (file.trim_start_matches('*') == name).then_some(sum)
    })
}

/// What is told where nothing fits.
pub(super) fn nothing(
    step: &Step,
    tool: &str,
    wanted: &str,
    own: &[String],
    fetched: Option<&Failure>,
) -> Failure {
    let mut there = own.to_vec();
    there.extend(
        all_cached(step, tool)
            .iter()
            .map(|found| format!("{} in the tool cache", found.version)),
    );
    let there = if there.is_empty() {
        "nothing".to_owned()
    } else {
        there.join(", ")
    };
    let fetched =
        fetched.map(|why| format!(", and none can be fetched ({})", havre_base::one_line(why)));
    Failure::Refused(format!(
        "no {tool} that is `{wanted}`: there is {there}{}; install it on the machine, or choose an image that has it \
         (`container:`)",
        fetched.unwrap_or_default()
    ))
}
