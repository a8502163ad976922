//! Reads the project's files: only regular ones, bounded, each once.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::host_path;
use crate::regular;
use crate::report::Report;
use crate::source::{SourceId, Span};
use crate::yaml::MAX_FILE_BYTES;

/// Names that files have and folders do not.
const FILE_NAMES: [&str; 11] = [
    ".htpasswd",
    ".netrc",
    ".npmrc",
    ".pgpass",
    "Caddyfile",
    "Corefile",
    "Procfile",
    "hosts",
    "localtime",
    "passwd",
    "resolv.conf",
];
/// Ends of files that are written before a program starts: configuration, scripts, keys, pages.
const FILE_ENDS: [&str; 44] = [
    "acl",
    "asc",
    "bak",
    "cert",
    "cfg",
    "cnf",
    "conf",
    "config",
    "crt",
    "css",
    "csv",
    "env",
    "gpg",
    "hcl",
    "html",
    "ini",
    "jar",
    "jks",
    "js",
    "json",
    "key",
    "lua",
    "md",
    "p12",
    "pem",
    "pfx",
    "php",
    "properties",
    "py",
    "rb",
    "rules",
    "sh",
    "sql",
    "template",
    "tmpl",
    "toml",
    "tpl",
    "ts",
    "txt",
    "vcl",
    "war",
    "xml",
    "yaml",
    "yml",
];
/// Files of the machine that hold what a container has by itself, and that not every machine has.
const OF_THE_MACHINE: [&str; 3] = ["/etc/localtime", "/etc/machine-id", "/etc/timezone"];

/// Whether a mount of what is not there means a file, by the names on both sides. An empty folder
/// in its place would fail whoever reads it.
pub fn means_file(source: &Path, target: &Path) -> bool {
    let machine = OF_THE_MACHINE.iter().any(|path| source == Path::new(path));
    !machine && (is_named_as_file(source) || is_named_as_file(target))
}

fn is_named_as_file(path: &Path) -> bool {
    let part =
        |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).map(str::to_owned);
    let name = part(path.file_name()).unwrap_or_default();
    let end = part(path.extension())
        .unwrap_or_default()
        .to_ascii_lowercase();
    name.starts_with(".env")
        || FILE_NAMES.contains(&name.as_str())
        || FILE_ENDS.contains(&end.as_str())
}

/// Files already read in this load.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// The project's folder, links resolved.
    own: PathBuf,
    read: HashMap<PathBuf, SourceId>,
}

impl Files {
    /// None yet of the project in this folder.
    pub fn of(directory: &Path) -> Self {
        Self {
            own: std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned()),
            read: HashMap::new(),
        }
    }

    /// Reads `path`; an error names `what` and points at `at`, the place that asked for it.
    pub fn read(
        &mut self,
        path: &Path,
        what: &str,
        at: Option<Span>,
        report: &mut Report,
    ) -> Option<SourceId> {
        if let Some(id) = self.read.get(path) {
            return Some(*id);
        }
        match read_text(path, &self.own) {
            Ok(text) => {
                let id = report.add_source(path, text);
                self.read.insert(path.to_owned(), id);
                Some(id)
            }
            Err(error) => {
                let shown = report.shown(path);
                let message = match error.kind() {
                    io::ErrorKind::NotFound => format!("{what} {shown} does not exist"),
                    _ => format!("cannot read {what} {shown}: {error}"),
                };
                report.error("compose/missing-file", at, message);
                None
            }
        }
    }
}

fn read_text(path: &Path, own: &Path) -> io::Result<String> {
    let may = |real: &Path| match host_path::endangered_by_reading(real, own) {
        // What is in it would be shown with the errors in it.
        Some(_) => Err(io::Error::other(format!(
            "it is {}, which is the machine's secret, not the project's",
            real.display()
        ))),
        None => Ok(()),
    };
    let bytes = regular::read_if(path, MAX_FILE_BYTES, may)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        for (source, target, file) in [
            ("./nginx.conf", "/etc/nginx/nginx.conf", true),
            ("./proxy", "/etc/caddy/Caddyfile", true),
            (".env", "/app/.env", true),
            (".env.production", "/x", true),
            ("./certs/site.PEM", "/run/x", true),
            ("./conf.d", "/etc/nginx/conf.d", false),
            ("./python", "/usr/lib/python3.12", false),
            ("./data", "/data", false),
            ("./example.com", "/var/www/example.com", false),
            (".cache", "/root/.cache", false),
            ("/etc/localtime", "/etc/localtime", false),
        ] {
            let found = means_file(Path::new(source), Path::new(target));
            assert_eq!(found, file, "{source} {target}");
        }
    }
}
