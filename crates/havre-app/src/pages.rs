//! Addresses of the visitor's own machine in the scripts that an image gives to visitors.
//!
//! A bundler writes public variables into scripts when the image is built. Where such a script asks
//! `http://localhost:5000`, each visitor's browser asks itself, and nothing on the server tells. An
//! address counts only with a port of the project's own: libraries carry addresses with others.
//!
//! What is looked through comes from an image: no link is followed, and entries, files and bytes
//! are bounded.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Most entries of folders of one image.
const MAX_ENTRIES: usize = 50_000;
/// Most bytes that are read, and of one file.
const MAX_BYTES: u64 = 64 << 20;
const MAX_FILE: u64 = 4 << 20;
/// Most addresses that are told.
const MAX_FOUND: usize = 3;
/// Folders that hold no pages: the system's at the top, and what was installed.
const SYSTEM: [&str; 11] = [
    "bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys",
];
const INSTALLED: [&str; 5] = [
    "dist-packages",
    "node_modules",
    "site-packages",
    "usr/lib",
    "usr/include",
];
/// Parts of paths under which bundlers put what visitors get.
const SERVED: [&str; 8] = [
    ".next/static/",
    ".output/public/",
    "/assets/",
    "/html/",
    "_app/immutable/",
    "build/static/",
    "dist/",
    "public/",
];
const HOSTS: [&str; 4] = [
    "http://localhost:",
    "http://127.0.0.1:",
    "ws://localhost:",
    "ws://127.0.0.1:",
];

/// An address, and the script that holds it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LocalAddress {
    pub address: String,
    /// As a path in the image.
    pub file: String,
}

/// Looks through the layers of an image, the topmost first, for addresses with one of these ports.
/// Blocks.
pub(crate) fn local_addresses(
    layers: &[PathBuf],
    ports: &BTreeSet<u16>,
) -> io::Result<Vec<LocalAddress>> {
    let mut look = Look {
        ports,
        seen: BTreeSet::new(),
        entries: 0,
        bytes: 0,
        found: Vec::new(),
    };
    for layer in layers {
        look.layer(layer)?;
    }
    Ok(look.found)
}

struct Look<'a> {
    ports: &'a BTreeSet<u16>,
    /// Scripts of layers above, which hide those below.
    seen: BTreeSet<String>,
    entries: usize,
    bytes: u64,
    found: Vec<LocalAddress>,
}

impl Look<'_> {
    fn layer(&mut self, root: &Path) -> io::Result<()> {
        let mut folders = vec![(root.to_owned(), String::new())];
        while let Some((folder, inside)) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                if self.is_over() {
                    return Ok(());
                }
                self.entries += 1;
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let inside = format!("{inside}/{name}");
                let kind = entry.file_type()?;
                if kind.is_dir() && !holds_no_pages(&inside) {
                    folders.push((entry.path(), inside));
                } else if kind.is_file() && is_served(&inside) && self.seen.insert(inside.clone()) {
                    self.script(&entry.path(), &inside)?;
                }
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.entries >= MAX_ENTRIES || self.bytes >= MAX_BYTES || self.found.len() >= MAX_FOUND
    }

    fn script(&mut self, path: &Path, inside: &str) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.bytes += open(path)?.take(MAX_FILE).read_to_end(&mut bytes)? as u64;
        let text = String::from_utf8_lossy(&bytes);
        let address = HOSTS
            .iter()
            .find_map(|host| address(&text, host, self.ports));
        self.found.extend(address.map(|address| LocalAddress {
            address,
            file: inside.to_owned(),
        }));
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

fn holds_no_pages(inside: &str) -> bool {
    let top = inside.strip_prefix('/').unwrap_or(inside);
    SYSTEM.contains(&top) || INSTALLED.iter().any(|folder| inside.ends_with(folder))
}

fn is_served(inside: &str) -> bool {
    let script = [".js", ".mjs"]
        .iter()
        .any(|ending| inside.ends_with(ending));
    script && SERVED.iter().any(|part| inside.contains(part))
}

/// The first address in `text` that begins with `host` and has one of these ports.
fn address(text: &str, host: &str, ports: &BTreeSet<u16>) -> Option<String> {
    text.match_indices(host).find_map(|(at, _)| {
        let rest = &text[at + host.len()..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let port: u16 = rest[..end].parse().ok()?;
        ports.contains(&port).then(|| format!("{host}{port}"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn scripts_that_visitors_get_are_looked_through_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let baked = "fetch(\"http://localhost:5000/api\")";
        write("upper/app/.next/static/chunks/mended.js", "fetch(\"/api\")");
        write("lower/app/.next/static/chunks/mended.js", baked);
        write("lower/app/.next/static/chunks/page.js", baked);
        write("lower/app/.next/server/page.js", baked);
        write("lower/app/node_modules/x/dist/x.js", baked);
        write(
            "lower/usr/share/nginx/html/lib.js",
            "a=\"http://localhost:9999\"",
        );
        write("outside.js", baked);
        let served = folder.path().join("lower/srv/public");
        fs::create_dir_all(&served).unwrap();
        symlink(folder.path().join("outside.js"), served.join("link.js")).unwrap();
        symlink("/", served.join("root")).unwrap();

        let layers = ["upper", "lower"].map(|name| folder.path().join(name));
        let found = local_addresses(&layers, &BTreeSet::from([3000, 5000])).unwrap();
        let only = LocalAddress {
            address: "http://localhost:5000".to_owned(),
            file: "/app/.next/static/chunks/page.js".to_owned(),
        };
        assert_eq!(found, [only]);
        assert_eq!(
            local_addresses(&layers, &BTreeSet::from([3000])).unwrap(),
            []
        );
    }
}
