//! The text of a unit, and the command line for other init systems. Pure.

use std::path::{Path, PathBuf};

use havre_app::Root;
use havre_base::shell_word;

use crate::cli::DaemonSettings;
use crate::error::Failure;
use crate::exit::Exit;

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The binary.
    pub exe: PathBuf,
    /// Its folders.
    pub root: Root,
    /// What it is told.
    pub settings: DaemonSettings,
}

/// The unit.
///
/// The edge and the name servers, which the daemon starts, stay in the unit's cgroup (shims and
/// containers leave it, for a tree beside systemd's, hence no delegation). systemd must end none
/// of them: not when it stops the unit, and not when memory runs out for one.
pub fn text(start: &Start) -> Result<String, Failure> {
    let state = quoted(writable(start.root.state_dir())?);
    // Behind a colon no variables are expanded.
    let exe = quoted(&format!(":{}", writable(&start.exe)?));
    let mut environment = String::new();
    if let Some(base) = start.root.base() {
        environment += &variable("HAVRE_ROOT", writable(base)?);
    }
    for (name, value) in start.settings.variables() {
        environment += &variable(&name, &value);
    }
    let stopped = Exit::Interrupted.code();
    Ok(format!(
        "\
# Made by `havre daemon install`, which overwrites it: `systemctl edit` keeps changes apart.

[Unit]
Description=Havre, which runs compose applications in production
Wants=network-online.target
After=network-online.target
RequiresMountsFor={state}
StartLimitIntervalSec=0

[Service]
Type=notify
{environment}ExecStart={exe} daemon
TimeoutStartSec=5min
Restart=always
RestartSec=100ms
# How it ends at `havre daemon stop`.
RestartPreventExitStatus={stopped}
SuccessExitStatus={stopped}
# The proxy and the containers outlive the daemon. No option may give it a mount namespace
# (ProtectSystem=, PrivateTmp=, ...): the containers' networks are pinned in the host's.
KillMode=process
OOMPolicy=continue
OOMScoreAdjust=-900
LimitNOFILE=1048576
LimitNPROC=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"
    ))
}

/// The settings that [`text`] wrote down.
pub fn settings(text: &str) -> DaemonSettings {
    let variables = text.lines().filter_map(|line| {
        let inner = line.strip_prefix("Environment=\"")?.strip_suffix('"')?;
        let (name, value) = inner.split_once('=')?;
        Some((name.to_owned(), value.replace("%%", "%")))
    });
    DaemonSettings::of_variables(&variables.collect())
}

/// The same for a shell, and so for other init systems.
pub fn command_line(start: &Start) -> String {
    let mut words = vec![start.exe.display().to_string()];
    if let Some(base) = start.root.base() {
        words.extend(["--root".to_owned(), base.display().to_string()]);
    }
    words.push("daemon".to_owned());
    words.extend(start.settings.flags());
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    words.join(" ")
}

/// A path as text, where a unit can hold it: systemd takes no quotes and backslashes in the path of
/// a program, however they are written.
fn writable(path: &Path) -> Result<&str, Failure> {
    let refused = |c: char| c.is_control() || ['"', '\'', '\\'].contains(&c);
    path.to_str()
        .filter(|text| !text.contains(refused))
        .ok_or_else(|| {
            let message = format!("a unit of systemd cannot name the path {path:?}");
            Failure::new(Exit::Failed, message)
                .hint("choose one without quotes, backslashes, line breaks and the like")
        })
}

fn variable(name: &str, value: &str) -> String {
    format!("Environment={}\n", quoted(&format!("{name}={value}")))
}

/// One word of a unit's line, by the rules of systemd.syntax(7) and systemd.unit(5).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_macros, reason = "its output is for a person")]

    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn start(exe: &str, base: Option<&str>, http: &[&str], https: &[&str]) -> Start {
        let addresses = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect();
        Start {
            exe: exe.into(),
            root: Root::new(base.map(PathBuf::from)),
            settings: DaemonSettings {
                http: addresses(http),
                https: addresses(https),
                ..DaemonSettings::default()
            },
        }
    }

    /// All that needs care in a path.
    const ODD: &str = "a b%n$HOME;#é";

    #[test]
    fn the_unit_of_the_machine() {
        insta::assert_snapshot!(text(&start("/usr/local/bin/havre", None, &[], &[])).unwrap());
    }

    #[test]
    fn a_root_and_addresses_go_into_the_environment() {
        let mut start = start(
            "/opt/havre",
            Some("/srv/h 1"),
            &["0.0.0.0:8080", "[::]:8080"],
            &["127.0.0.1:8443"],
        );
        start.settings.trusted_proxies = vec!["203.0.113.0/24".to_owned()];
        start.settings.build_cache_ceiling = Some("12%".parse().unwrap());
        let text = text(&start).unwrap();
        let wanted = "\
RequiresMountsFor=\"/srv/h 1/lib\"
Environment=\"HAVRE_ROOT=/srv/h 1\"
Environment=\"HAVRE_BUILD_CACHE_CEILING=12%%\"
Environment=\"HAVRE_HTTP=0.0.0.0:8080,[::]:8080\"
Environment=\"HAVRE_HTTPS=127.0.0.1:8443\"
Environment=\"HAVRE_TRUSTED_PROXIES=203.0.113.0/24\"
ExecStart=\":/opt/havre\" daemon
";
        let found: Vec<&str> = text
            .lines()
            .filter(|line| wanted.contains(line) && !line.is_empty())
            .collect();
        assert_eq!(found.join("\n"), wanted.trim_end(), "{text}");
        assert_eq!(settings(&text), start.settings);
        assert_eq!(settings(""), DaemonSettings::default());
        assert_eq!(
            command_line(&start),
            "/opt/havre --root '/srv/h 1' daemon --http 0.0.0.0:8080 --http [::]:8080 \
             --https 127.0.0.1:8443 --trusted-proxy 203.0.113.0/24 --build-cache-ceiling '12%'"
        );
    }

    #[test]
    fn paths_that_no_line_can_hold_are_refused() {
        let bytes = std::ffi::OsStr::from_bytes(b"/a\xff/havre");
        for exe in [
            Path::new(bytes),
            Path::new("/a\nExecStart=/b"),
            Path::new("/a\"b"),
        ] {
            let start = Start {
                exe: exe.to_owned(),
                ..start("", None, &[], &[])
            };
            assert!(text(&start).is_err(), "{exe:?}");
        }
    }

    #[test]
    fn systemd_and_the_shell_read_what_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let exe = folder.path().join(ODD);
        fs::write(&exe, "#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\"\n").unwrap();
        fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
        let base = folder.path().join(format!("root {ODD}"));
        let [exe, base] = [&exe, &base].map(|path| path.to_str().unwrap());
        let start = start(exe, Some(base), &["[::1]:8080"], &[]);
        let shell = Command::new("sh")
            .args(["-c", &command_line(&start)])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&shell.stdout),
            format!("{exe}\n--root\n{base}\ndaemon\n--http\n[::1]:8080\n")
        );

        let unit = folder.path().join("havre.service");
        fs::write(&unit, text(&start).unwrap()).unwrap();
        let verify = |unit: &Path| {
            Command::new("systemd-analyze")
                .args(["verify", "--man=no", "--recursive-errors=no"])
                .arg(unit)
                .output()
        };
        let Ok(verified) = verify(&unit) else {
            println!("skipped: needs systemd-analyze");
            return;
        };
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && said.is_empty(), "{said}");
        // It does look: a binary that is not there, a line that it does not know.
        fs::remove_file(exe).unwrap();
        let without = verify(&unit).unwrap();
        let said = String::from_utf8_lossy(&without.stderr);
        assert!(said.contains(exe), "{said}");
    }
}
