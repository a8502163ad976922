//! What the runner is made of, for boxes that may have no library of the machine's: the binary, its loader and its
//! libraries, and programs that stand in for others.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use havre_engine::MountSpec;
use havre_job::paths;

/// The runner cannot be brought along.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A file.
    #[error("cannot {what} {}", path.display())]
    File {
        /// Verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The binary.
    #[error("{} is no program that this machine's loader knows", .0.display())]
    Program(PathBuf),
    /// Its libraries.
    #[error("cannot find the libraries of {}: {said}", exe.display())]
    Libraries {
        /// The binary.
        exe: PathBuf,
        /// What the loader said.
        said: String,
    },
}

impl RuntimeError {
    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// The binary, and a folder with what it needs.
#[derive(Clone, Debug)]
pub struct Runtime {
    exe: PathBuf,
    libraries: PathBuf,
    programs: PathBuf,
    has_loader: bool,
}

/// A name for what the machine's own program of that name does where everybody is root.
const SUDO: &str = r#"#!/bin/sh
# Who runs here is root already, of this job only.
while [ $# -gt 0 ]; do
    case "$1" in
        -E|-H|-n|-S|-k|-i|-s|-b|--preserve-env|--preserve-env=*|--set-home|--non-interactive) shift ;;
        -u|-g|--user|--group)
            case "$2" in root|0|'#0') shift 2 ;; *) echo "sudo: only root is here, not $2" >&2; exit 1 ;; esac ;;
        --) shift; break ;;
        -*) echo "sudo: $1 is not supported where the image has no sudo of its own" >&2; exit 1 ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}"
exec env "$@"
"#;

/// What makes and moves images; a real one is asked where somebody says where its daemon is.
const DOCKER: &str = r#"#!/bin/sh
if [ -n "$DOCKER_HOST" ]; then
    IFS=:
    for folder in $PATH; do
        if [ "$folder" != "${0%/*}" ] && [ -x "$folder/docker" ]; then
            unset IFS
            exec "$folder/docker" "$@"
        fi
    done
    unset IFS
fi
exec HAVRE job-docker "$@"
"#;

impl Runtime {
    /// Copies what `exe` needs below `dir`, unless it is there. Blocks.
    pub fn prepare(exe: &Path, dir: &Path) -> Result<Self, RuntimeError> {
        let exe = fs::canonicalize(exe).map_err(RuntimeError::file("find", exe))?;
        let needed = match interpreter(&exe)? {
            Some(loader) => libraries(&exe, &loader)?,
            None => Vec::new(),
        };
        fs::create_dir_all(dir).map_err(RuntimeError::file("make", dir))?;
        let dir = fs::canonicalize(dir).map_err(RuntimeError::file("find", dir))?;
        let made = dir.join(name_of(&needed)?);
        let runtime = Self {
            exe,
            libraries: made.join("lib"),
            programs: made.join("programs"),
            has_loader: !needed.is_empty(),
        };
        if !made.exists() {
            let unfinished = dir.join(format!(".{}", std::process::id()));
            havre_image::remove_tree(&unfinished)
                .map_err(RuntimeError::file("remove", &unfinished))?;
            fill(&unfinished, &needed)?;
            match fs::rename(&unfinished, &made) {
                Err(error) if !made.exists() => {
                    return Err(RuntimeError::file("keep", &made)(error));
                }
                _ => {}
            }
        }
        Ok(runtime)
    }

    /// What starts it, up to its own arguments.
    pub(crate) fn argv(&self) -> Vec<String> {
        command(self.has_loader)
    }

    /// What brings it into a container.
    pub(crate) fn mounts(&self) -> Vec<MountSpec> {
        let bind = |source: &Path, target: &str| MountSpec::Bind {
            source: source.to_owned(),
            target: target.to_owned(),
            read_only: true,
            subpath: None,
        };
        vec![
            bind(&self.exe, paths::BINARY),
            bind(&self.libraries, paths::LIBRARIES),
            bind(&self.programs, paths::PROGRAMS),
        ]
    }
}

/// A file that is copied, and what it is called there.
type Needed = (PathBuf, String);

/// Changes with each of them.
fn name_of(needed: &[Needed]) -> Result<String, RuntimeError> {
    let mut hasher = DefaultHasher::new();
    SUDO.hash(&mut hasher);
    DOCKER.hash(&mut hasher);
    havre(!needed.is_empty()).hash(&mut hasher);
    for (path, name) in needed {
        let meta = fs::metadata(path).map_err(RuntimeError::file("look at", path))?;
        (path, name, meta.len(), meta.mtime(), meta.mtime_nsec()).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn fill(dir: &Path, needed: &[Needed]) -> Result<(), RuntimeError> {
    let put = |path: PathBuf, mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, mode).map_err(RuntimeError::file("make", &path))
    };
    for name in ["", "lib", "programs", "programs/docker"] {
        let path = dir.join(name);
        fs::create_dir_all(&path).map_err(RuntimeError::file("make", &path))?;
        put(path, 0o755)?;
    }
    for (path, name) in needed {
        let to = dir.join("lib").join(name);
        fs::copy(path, &to).map_err(RuntimeError::file("copy", path))?;
        put(to, 0o755)?;
    }
    let programs = [
        ("sudo", SUDO.to_owned()),
        ("havre", havre(!needed.is_empty())),
        (
            "docker/docker",
            DOCKER.replace("HAVRE", &command(!needed.is_empty()).join(" ")),
        ),
    ];
    for (name, script) in programs {
        let program = dir.join("programs").join(name);
        fs::write(&program, script).map_err(RuntimeError::file("write", &program))?;
        put(program, 0o755)?;
    }
    Ok(())
}

/// The command line, for jobs: the binary as the runner is started.
fn havre(has_loader: bool) -> String {
    let words = command(has_loader).join(" ");
    format!("#!/bin/sh\nexec {words} \"$@\"\n")
}

/// What starts the binary in a box.
fn command(has_loader: bool) -> Vec<String> {
    let loader = [
        paths::LOADER,
        "--library-path",
        paths::LIBRARIES,
        paths::BINARY,
    ];
    let skipped = if has_loader { 0 } else { 3 };
    loader[skipped..]
        .iter()
        .map(|word| (*word).to_owned())
        .collect()
}

/// The loader that a program asks for; `None`: it needs none.
fn interpreter(exe: &Path) -> Result<Option<PathBuf>, RuntimeError> {
    let read = || -> io::Result<Option<Option<PathBuf>>> {
        let file = File::open(exe)?;
        let mut header = [0; 64];
        file.read_exact_at(&mut header, 0)?;
        let Some(table) = Table::of(&header) else {
            return Ok(None);
        };
        for number in 0..table.count {
            let mut entry = [0; 56];
            file.read_exact_at(&mut entry, table.at + number * table.size)?;
            if u32_at(&entry, 0) != PT_INTERP {
                continue;
            }
            let length = u64_at(&entry, 32).min(4096) as usize;
            let mut path = vec![0; length];
            file.read_exact_at(&mut path, u64_at(&entry, 8))?;
            let path = String::from_utf8_lossy(&path);
            return Ok(Some(Some(PathBuf::from(path.trim_end_matches('\0')))));
        }
        Ok(Some(None))
    };
    let found = read().map_err(RuntimeError::file("read", exe))?;
    found.ok_or_else(|| RuntimeError::Program(exe.to_owned()))
}

const PT_INTERP: u32 = 3;

/// Where an ELF file of 64 bits, little-endian, has its program headers.
struct Table {
    at: u64,
    size: u64,
    count: u64,
}

impl Table {
    fn of(header: &[u8; 64]) -> Option<Self> {
        let known = header.starts_with(b"\x7fELF\x02\x01");
        let size = u64::from(u16::from_le_bytes([header[54], header[55]]));
        known.then(|| Self {
            at: u64_at(header, 32),
            size,
            count: u64::from(u16::from_le_bytes([header[56], header[57]])),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..].first_chunk().copied();
    bytes.map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..].first_chunk().copied();
    bytes.map_or(0, u64::from_le_bytes)
}

/// Asks the loader what it would load.
fn libraries(exe: &Path, loader: &Path) -> Result<Vec<Needed>, RuntimeError> {
    let run = Command::new(loader)
        .arg("--list")
        .arg(exe)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(RuntimeError::file("run", loader))?;
    let said = String::from_utf8_lossy(&run.stdout);
    let found = listed(&said).filter(|_| run.status.success());
    let mut needed = found.ok_or_else(|| RuntimeError::Libraries {
        exe: exe.to_owned(),
        said: format!("{said}{}", String::from_utf8_lossy(&run.stderr))
            .trim()
            .to_owned(),
    })?;
    needed.push((loader.to_owned(), "loader".to_owned()));
    Ok(needed)
}

/// `name => path (address)`; what has no arrow is the kernel's, or the loader. `None`: one is missing.
fn listed(said: &str) -> Option<Vec<Needed>> {
    let arrows = said
        .lines()
        .filter_map(|line| line.trim().split_once(" => "));
    let file = |(name, found): (&str, &str)| {
        let path = found.rsplit_once(" (").map_or(found, |(path, _)| path);
        let plain = !name.contains('/') && name != "loader";
        match path.starts_with('/') {
            true if plain => Some(Some((PathBuf::from(path), name.to_owned()))),
            // The loader by its own path.
            true => Some(None),
            false => None,
        }
    };
    let all: Option<Vec<_>> = arrows.map(file).collect();
    Some(all?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_lists() {
        let said = "\tlinux-vdso.so.1 (0x00007f)\n\tlibgcc_s.so.1 => /lib/libgcc_s.so.1 (0x00007f)\n\
            \tlibc.so.6 => /lib/with space/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let files = listed(said).expect("all there");
        let expected = [
            ("/lib/libgcc_s.so.1", "libgcc_s.so.1"),
            ("/lib/with space/libc.so.6", "libc.so.6"),
        ];
        assert_eq!(
            files,
            expected.map(|(path, name)| (path.into(), name.to_owned()))
        );
        assert_eq!(listed("\tlibx.so => not found\n"), None);
        assert_eq!(listed("\tstatically linked\n"), Some(Vec::new()));
    }

    #[test]
    fn this_program_can_be_brought_along() {
        let dir = tempfile::tempdir().expect("a folder");
        let exe = std::env::current_exe().expect("this program");
        let runtime = Runtime::prepare(&exe, dir.path()).expect("prepared");
        let again = Runtime::prepare(&exe, dir.path()).expect("prepared");
        assert_eq!(runtime.libraries, again.libraries);
        assert!(runtime.libraries.join("libc.so.6").exists());
        let run = Command::new(runtime.libraries.join("loader"))
            .arg("--library-path")
            .arg(&runtime.libraries)
            .arg(&exe)
            .arg("--list")
            .output()
            .expect("run");
        assert!(String::from_utf8_lossy(&run.stdout).contains("this_program_can_be"));
        let script = dir.path().join("script");
        fs::write(&script, "#!/bin/sh\n".repeat(20)).expect("written");
        assert!(matches!(
            Runtime::prepare(&script, dir.path()),
            Err(RuntimeError::Program(_))
        ));
    }
}
