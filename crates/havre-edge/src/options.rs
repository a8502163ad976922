//! The edge's arguments.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// What they are.
pub const USAGE: &str = "usage: edge --run DIR --state DIR [--formerly DIR] [--threads N] \
                         [--takeover SECONDS | --inherit]";

/// How the edge is started.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Of the control sockets.
    pub run: PathBuf,
    /// Of the last state and the access log.
    pub state: PathBuf,
    /// Where the control sockets of an edge are that ran as root.
    pub formerly: Option<PathBuf>,
    /// Worker threads.
    pub threads: usize,
    /// Where listening sockets come from.
    pub sockets: Sockets,
}

/// Where listening sockets come from.
#[derive(Debug, PartialEq, Eq)]
pub enum Sockets {
    /// All are opened.
    New,
    /// From the edge that runs, which has so much grace.
    TakenOver(Duration),
    /// From who kept them, by the standard input.
    Inherited,
}

/// Threads beyond this bring nothing on the machines that this is for.
const MOST_THREADS: usize = 64;

/// Arguments that make no sense.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{} is not an option of the edge", .0.display())]
    Unknown(OsString),
    #[error("--threads is a number from 1 to {MOST_THREADS}, not {}", .0.display())]
    Threads(OsString),
    #[error("--takeover is a number of seconds, not {}", .0.display())]
    Takeover(OsString),
    #[error("--takeover and --inherit exclude each other")]
    TwoSources,
}

impl Options {
    /// Reads the arguments.
    pub fn parse(args: &[OsString]) -> Result<Self, OptionError> {
        let (mut run, mut state, mut formerly) = (None, None, None);
        let (mut threads, mut takeover, mut inherit) = (None, None, false);
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let (place, name) = match name.to_str() {
                Some("--run") => (&mut run, "a value for --run"),
                Some("--state") => (&mut state, "a value for --state"),
                Some("--formerly") => (&mut formerly, "a value for --formerly"),
                Some("--threads") => (&mut threads, "a value for --threads"),
                Some("--takeover") => (&mut takeover, "a value for --takeover"),
                Some("--inherit") => {
                    inherit = true;
                    continue;
                }
                _ => return Err(OptionError::Unknown(name.clone())),
            };
            *place = Some(args.next().ok_or(OptionError::Missing(name))?.clone());
        }
        Ok(Self {
            run: run.ok_or(OptionError::Missing("--run"))?.into(),
            state: state.ok_or(OptionError::Missing("--state"))?.into(),
            formerly: formerly.map(PathBuf::from),
            threads: threads.map_or_else(|| Ok(default_threads()), |text| parse_threads(&text))?,
            sockets: match (takeover, inherit) {
                (None, false) => Sockets::New,
                (Some(text), false) => Sockets::TakenOver(parse_seconds(&text)?),
                (None, true) => Sockets::Inherited,
                (Some(_), true) => return Err(OptionError::TwoSources),
            },
        })
    }
}

fn parse_threads(text: &OsStr) -> Result<usize, OptionError> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=MOST_THREADS).contains(number))
        .ok_or_else(|| OptionError::Threads(text.to_owned()))
}

fn parse_seconds(text: &OsStr) -> Result<Duration, OptionError> {
    let seconds: Option<u32> = text.to_str().and_then(|text| text.parse().ok());
    let seconds = seconds.ok_or_else(|| OptionError::Takeover(text.to_owned()))?;
    Ok(Duration::from_secs(seconds.into()))
}

/// One per core up to four: some 30,000 requests a second each, and the applications need the rest.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().min(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        Options::parse(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_and_mistakes_named() {
        let options = parse(&["--run", "/r", "--state", "/s", "--threads", "3"]);
        let options = options.expect("valid options");
        assert_eq!((options.run.as_path(), options.threads), ("/r".as_ref(), 3));
        for (args, message) in [
            (vec!["--run", "/r"], "--state is missing"),
            (vec!["--run"], "a value for --run is missing"),
            (vec!["--port", "1"], "--port is not an option of the edge"),
            (
                vec!["--run", "r", "--state", "s", "--threads", "0"],
                "--threads is a number from 1 to 64, not 0",
            ),
            (
                vec!["--run", "r", "--state", "s", "--takeover", "1", "--inherit"],
                "--takeover and --inherit exclude each other",
            ),
        ] {
            assert_eq!(parse(&args).expect_err("a mistake"), message);
        }
    }
}
