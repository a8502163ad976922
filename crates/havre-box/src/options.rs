//! `options` of a container or service, as `docker create` takes them. Pure.

use std::time::Duration;

use havre_base::shell_words;

/// What the options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Of `-e` and `--env`, in their order.
    pub env: Vec<(String, String)>,
    /// `--user`.
    pub user: Option<String>,
    /// `--entrypoint`; empty: none at all.
    pub entrypoint: Option<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--shm-size`.
    pub shm_size_bytes: Option<u64>,
    /// `--tmpfs`: where, and how large.
    pub tmpfs: Vec<(String, Option<u64>)>,
    /// `--ulimit`: name, soft, hard.
    pub ulimits: Vec<(String, u64, u64)>,
    /// `--cpus`, in thousand-millionths.
    pub nano_cpus: Option<u64>,
    /// `--memory`.
    pub memory_bytes: Option<u64>,
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--init`.
    pub init: bool,
    /// `--health-…`.
    pub health: Probe,
    /// What has no effect here, for who wrote it.
    pub warnings: Vec<String>,
}

/// What the options say of health; what they do not say is the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// A line for the shell.
    pub command: Option<String>,
    /// Between probes.
    pub interval: Option<Duration>,
    /// Of a probe.
    pub timeout: Option<Duration>,
    /// Failures in a row.
    pub retries: Option<u32>,
    /// In which failures do not count.
    pub start_period: Option<Duration>,
    /// `--no-healthcheck`.
    pub none: bool,
}

/// Options that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The line.
    #[error("options: {0}")]
    Line(&'static str),
    /// An option that is not there, or not allowed.
    #[error("options: {0} is not supported; {SUPPORTED}")]
    Unsupported(String),
    /// Without its value.
    #[error("options: {0} needs a value")]
    NoValue(String),
    /// With a wrong one.
    #[error("options: {value:?} is no value of {option}: {expected}")]
    Value {
        /// Which option.
        option: String,
        /// What it was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
}

/// For the message.
const SUPPORTED: &str = "these are: --health-cmd, --health-interval, --health-timeout, --health-retries, \
    --health-start-period, --no-healthcheck, -e/--env, -u/--user, --entrypoint, -h/--hostname, -w/--workdir, --shm-size, --tmpfs, \
    --ulimit, --cpus, -m/--memory, --network-alias, --init";

impl CreateOptions {
    /// Reads a line as a shell would split it, without variables.
    pub fn parse(line: &str) -> Result<Self, OptionError> {
        let mut options = Self::default();
        let mut words = shell_words(line).map_err(OptionError::Line)?.into_iter();
        while let Some(word) = words.next() {
            let (option, joined) = separate(&word)?;
            if let Some(flag) = options.flag(&option) {
                match joined.as_deref() {
                    None | Some("true") => *flag = true,
                    Some("false") => *flag = false,
                    Some(other) => return Err(wrong(&option, other, "true or false")),
                }
                continue;
            }
            if !takes_value(&option) {
                return Err(OptionError::Unsupported(option));
            }
            let value = joined.or_else(|| words.next());
            let value = value.ok_or_else(|| OptionError::NoValue(option.clone()))?;
            options.set(&option, value)?;
        }
        Ok(options)
    }

    fn flag(&mut self, option: &str) -> Option<&mut bool> {
        match option {
            "--init" => Some(&mut self.init),
            "--no-healthcheck" => Some(&mut self.health.none),
            _ => None,
        }
    }

    fn set(&mut self, option: &str, value: String) -> Result<(), OptionError> {
        match option {
            "--env" => {
                let parts = value.split_once('=').filter(|(name, _)| !name.is_empty());
                let (name, content) = parts.ok_or_else(|| {
                    wrong(option, &value, "NAME=value; there is nothing to inherit")
                })?;
                self.env.push((name.to_owned(), content.to_owned()));
            }
            "--user" => self.user = Some(value),
            "--entrypoint" => self.entrypoint = Some(value),
            "--hostname" => self.hostname = Some(value),
            "--workdir" => match value.starts_with('/') {
                true => self.workdir = Some(value),
                false => return Err(wrong(option, &value, "an absolute path")),
            },
            "--shm-size" => self.shm_size_bytes = Some(size(option, &value)?),
            "--memory" => self.memory_bytes = Some(size(option, &value)?),
            "--tmpfs" => self.tmpfs.push(tmpfs(&value)?),
            "--ulimit" => self.ulimits.push(ulimit(&value)?),
            "--cpus" => self.nano_cpus = Some(cpus(&value)?),
            "--network-alias" => self.aliases.push(value),
            "--name" => {
                let text =
                    format!("options: --name {value} has no effect: it is called as its key says");
                self.warnings.push(text);
            }
            "--health-cmd" => self.health.command = Some(value),
            "--health-interval" => self.health.interval = Some(duration(option, &value)?),
            "--health-timeout" => self.health.timeout = Some(duration(option, &value)?),
            "--health-start-period" => self.health.start_period = Some(duration(option, &value)?),
            "--health-retries" => {
                let count = value.parse::<u32>().ok().filter(|count| *count > 0);
                self.health.retries =
                    Some(count.ok_or_else(|| wrong(option, &value, "a number from 1"))?);
            }
            _ => return Err(OptionError::Unsupported(option.to_owned())),
        }
        Ok(())
    }
}

fn takes_value(option: &str) -> bool {
    const WITH_VALUE: [&str; 17] = [
        "--env",
        "--user",
        "--entrypoint",
        "--hostname",
        "--workdir",
        "--shm-size",
        "--memory",
        "--tmpfs",
        "--ulimit",
        "--cpus",
        "--network-alias",
        "--name",
        "--health-cmd",
        "--health-interval",
        "--health-timeout",
        "--health-retries",
        "--health-start-period",
    ];
    WITH_VALUE.contains(&option)
}

/// An option by its long name, and the value that is written in the same word.
fn separate(word: &str) -> Result<(String, Option<String>), OptionError> {
    let long = |letter: &str| match letter {
        "e" => Some("--env"),
        "u" => Some("--user"),
        "h" => Some("--hostname"),
        "w" => Some("--workdir"),
        "m" => Some("--memory"),
        _ => None,
    };
    if let Some(rest) = word.strip_prefix("--") {
        return Ok(match rest.split_once('=') {
            Some((name, value)) => (format!("--{name}"), Some(value.to_owned())),
            None => (word.to_owned(), None),
        });
    }
    let unsupported = || OptionError::Unsupported(word.to_owned());
    let rest = word.strip_prefix('-').ok_or_else(unsupported)?;
    let (letter, value) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
    let option = long(letter).ok_or_else(unsupported)?;
    let value = value.strip_prefix('=').unwrap_or(value);
    let value = (rest != letter).then(|| value.to_owned());
    Ok((option.to_owned(), value))
}

fn wrong(option: &str, value: &str, expected: &'static str) -> OptionError {
    OptionError::Value {
        option: option.to_owned(),
        value: value.to_owned(),
        expected,
    }
}

/// `64m`, `1.5g`, `1024`.
fn size(option: &str, value: &str) -> Result<u64, OptionError> {
    let refused = || wrong(option, value, "a size as 64m or 2g");
    let lower = value.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match lower.chars().last() {
        Some('k') => (&lower[..lower.len() - 1], 10),
        Some('m') => (&lower[..lower.len() - 1], 20),
        Some('g') => (&lower[..lower.len() - 1], 30),
        Some('t') => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number = decimal(digits).ok_or_else(refused)?;
    let bytes = number * f64::from(2_u32).powi(shift);
    match bytes >= 1.0 && bytes < (1_u64 << 52) as f64 {
        true => Ok(bytes as u64),
        false => Err(refused()),
    }
}

/// Digits with a point at most.
fn decimal(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

fn cpus(value: &str) -> Result<u64, OptionError> {
    let number = decimal(value).filter(|cpus| (0.001..=4096.0).contains(cpus));
    let number = number.ok_or_else(|| wrong("--cpus", value, "a number as 1.5"))?;
    Ok((number * 1e9) as u64)
}

/// `/path` or `/path:size=64m`; other options of mounts are refused.
fn tmpfs(value: &str) -> Result<(String, Option<u64>), OptionError> {
    let refused = || wrong("--tmpfs", value, "/path or /path:size=64m");
    let (path, options) = value.split_once(':').unwrap_or((value, ""));
    if !path.starts_with('/') {
        return Err(refused());
    }
    let mut bytes = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", amount)) => bytes = Some(size("--tmpfs", amount)?),
            None if ["rw", "noexec", "nosuid", "nodev"].contains(&option) => {}
            _ => return Err(refused()),
        }
    }
    Ok((path.to_owned(), bytes))
}

/// `nofile=1024` or `nofile=1024:2048`; -1 is without limit.
fn ulimit(value: &str) -> Result<(String, u64, u64), OptionError> {
    let refused = || wrong("--ulimit", value, "NAME=soft[:hard]");
    let number = |text: &str| match text {
        "-1" => Some(u64::MAX),
        digits => digits.parse().ok(),
    };
    let (name, limits) = value.split_once('=').ok_or_else(refused)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    match (number(soft), number(hard)) {
        (Some(soft), Some(hard)) if soft <= hard && !name.is_empty() => {
            Ok((name.to_owned(), soft, hard))
        }
        _ => Err(refused()),
    }
}

/// Go's form: `10s`, `1m30s`, `500ms`.
fn duration(option: &str, value: &str) -> Result<Duration, OptionError> {
    let refused = || wrong(option, value, "a time as 10s, 1m30s or 500ms");
    let mut rest = value;
    let mut seconds = 0.0;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (digits, unit) = rest.split_at(end.ok_or_else(refused)?);
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, next) = unit.split_at(end.unwrap_or(unit.len()));
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(refused()),
        };
        seconds += decimal(digits).ok_or_else(refused)? * factor;
        rest = next;
    }
    match !value.is_empty() && seconds <= 1e6 {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> CreateOptions {
        CreateOptions::parse(line).expect(line)
    }

    fn refused(line: &str) -> String {
        CreateOptions::parse(line).expect_err(line).to_string()
    }

    #[test]
    fn what_a_database_is_given() {
        let read = read(
            r#"--health-cmd "pg_isready -U 'me'" --health-interval=10s --health-timeout 5s
            --health-retries 5 --health-start-period 1m30.5s"#,
        );
        let expected = Probe {
            command: Some("pg_isready -U 'me'".to_owned()),
            interval: Some(Duration::from_secs(10)),
            timeout: Some(Duration::from_secs(5)),
            retries: Some(5),
            start_period: Some(Duration::from_millis(90_500)),
            none: false,
        };
        assert_eq!(read.health, expected);
    }

    #[test]
    fn all_forms() {
        let read = read(
            "-e A=1 --env=B='x y=z' -eC= --user 1000:33 -u0 --entrypoint '' -h me -w /srv --shm-size 1.5g --tmpfs \
             /run:rw,size=64m --tmpfs /x --ulimit nofile=1024:-1 --ulimit core=0 --cpus 1.5 -m512mb \
             --network-alias db --init --name mine --memory 1024",
        );
        let env = [("A", "1"), ("B", "x y=z"), ("C", "")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read.env, env);
        assert_eq!(read.user.as_deref(), Some("0"));
        assert_eq!(read.entrypoint.as_deref(), Some(""));
        assert_eq!(read.hostname.as_deref(), Some("me"));
        assert_eq!(read.workdir.as_deref(), Some("/srv"));
        assert_eq!(read.shm_size_bytes, Some(3 << 29));
        let memory = [("/run".to_owned(), Some(64 << 20)), ("/x".to_owned(), None)];
        assert_eq!(read.tmpfs, memory);
        let limits = [
            ("nofile".to_owned(), 1024, u64::MAX),
            ("core".to_owned(), 0, 0),
        ];
        assert_eq!(read.ulimits, limits);
        assert_eq!(read.nano_cpus, Some(1_500_000_000));
        assert_eq!(read.memory_bytes, Some(1024));
        assert_eq!(read.aliases, ["db"]);
        assert!(read.init && !read.health.none);
        assert!(read.warnings[0].contains("--name mine"));
        assert!(!self::read("--init=false").init);
        assert_eq!(self::read(" \n"), CreateOptions::default());
    }

    #[test]
    fn all_others_are_refused_by_name() {
        for (line, named) in [
            ("--privileged", "--privileged"),
            ("--volume=/:/host", "--volume"),
            ("-v /:/host", "-v"),
            ("--network host", "--network"),
            ("--cap-add ALL", "--cap-add"),
            ("--device /dev/sda", "--device"),
            ("--security-opt seccomp=unconfined", "--security-opt"),
            ("--pid host", "--pid"),
            ("image", "image"),
            ("-", "-"),
            ("--", "--"),
            ("-é", "-é"),
            ("--user", "--user needs a value"),
            ("-e HOME", "\"HOME\""),
            ("--cpus 0", "--cpus"),
            ("--cpus NaN", "NaN"),
            ("--memory 1x", "1x"),
            ("--memory ''", "--memory"),
            ("--tmpfs run", "--tmpfs"),
            ("--tmpfs /run:mode=777", "--tmpfs"),
            ("--ulimit nofile=2:1", "--ulimit"),
            ("--health-interval 10", "10s"),
            ("--health-interval 10x", "10x"),
            ("--health-interval ''", "--health-interval"),
            ("--health-retries 0", "--health-retries"),
            ("--workdir x", "absolute"),
            ("--init=maybe", "maybe"),
            ("--env 'x", "quote"),
            ("x\\", "backslash"),
        ] {
            let said = refused(line);
            assert!(said.contains(named), "{line}: {said}");
        }
    }
}
