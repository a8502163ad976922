//! Archives of caches: by the machine's GNU tar, else by our own.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, EntryType, Header};

use crate::failure::Failure;
use crate::glob::normal;

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// As far back as any `zstd --long` looks that the client has ever used.
const WINDOW: u32 = 30;
/// A long name comes before its entry, under this one.
const LONG_NAME: &[u8] = b"././@LongLink";

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Gzip,
    Zstd,
}

impl Method {
    /// What the client of GitHub would choose here.
    pub(super) fn of_machine() -> Self {
        if says("zstd", &["--quiet", "--version"]).is_some_and(|text| !text.trim().is_empty()) {
            Self::Zstd
        } else {
            Self::Gzip
        }
    }

    /// The client's own word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd-without-long",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd -T0",
        }
    }
}

/// Archives paths, which are relative to `folder`, with all that is below them.
pub(super) fn pack(
    file: &Path,
    folder: &Path,
    paths: &[PathBuf],
    method: Method,
) -> Result<(), Failure> {
    if !has_tar(method) {
        return pack_here(file, folder, paths, method).map_err(Failure::io("archive the cache"));
    }
    let mut command = Command::new("tar");
    command
        .args(["--posix", "--use-compress-program", method.program(), "-cf"])
        .arg(file);
    command
        .args(["-P", "-C"])
        .arg(folder)
        .args(["--null", "--files-from", "-"]);
    command.stdin(Stdio::piped());
    let started = Failure::io("start tar");
    let mut child = command.spawn().map_err(started)?;
    let mut list = Vec::new();
    for path in paths {
        list.extend_from_slice(path.as_os_str().as_bytes());
        list.push(0);
    }
    if let Some(mut names) = child.stdin.take() {
        names
            .write_all(&list)
            .map_err(Failure::io("tell tar what to archive"))?;
    }
    ended(child.wait().map_err(Failure::io("wait for tar"))?)
}

/// Puts what is archived back, from `folder` on.
pub(super) fn unpack(file: &Path, folder: &Path) -> Result<(), Failure> {
    let method = method_of(file).map_err(Failure::io("read the archive"))?;
    if !has_tar(method) {
        return unpack_here(file, folder, method).map_err(Failure::io("unpack the cache"));
    }
    let program = match method {
        Method::Gzip => "gzip",
        Method::Zstd => "zstd --long=30",
    };
    let mut command = Command::new("tar");
    command
        .args(["--use-compress-program", program, "-xf"])
        .arg(file)
        .args(["-P", "-C"])
        .arg(folder);
    ended(
        command
            .stdin(Stdio::null())
            .status()
            .map_err(Failure::io("start tar"))?,
    )
}

fn ended(status: std::process::ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    Err(Failure::Program {
        command: "tar".to_owned(),
        status: status.to_string(),
    })
}

fn has_tar(method: Method) -> bool {
    let compressor = match method {
        Method::Gzip => "gzip",
        Method::Zstd => "zstd",
    };
    says("tar", &["--version"]).is_some_and(|text| text.contains("GNU tar"))
        && says(compressor, &["--version"]).is_some()
}

fn says(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn method_of(file: &Path) -> io::Result<Method> {
    let mut magic = [0; 2];
    File::open(file)?.read_exact(&mut magic)?;
    Ok(if magic == GZIP {
        Method::Gzip
    } else {
        Method::Zstd
    })
}

fn pack_here(file: &Path, folder: &Path, paths: &[PathBuf], method: Method) -> io::Result<()> {
    let file = File::create(file)?;
    match method {
        Method::Gzip => {
            let encoder = GzEncoder::new(file, Compression::default());
            write_all(encoder, folder, paths)?.finish()?.sync_data()
        }
        Method::Zstd => {
            let encoder = zstd::Encoder::new(file, 0)?;
            write_all(encoder, folder, paths)?.finish()?.sync_data()
        }
    }
}

fn write_all<W: Write>(into: W, folder: &Path, paths: &[PathBuf]) -> io::Result<W> {
    let mut builder = Builder::new(into);
    for path in paths {
        add(&mut builder, folder, path)?;
    }
    builder.into_inner()
}

fn add<W: Write>(builder: &mut Builder<W>, folder: &Path, path: &Path) -> io::Result<()> {
    let place = folder.join(path);
    let about = fs::symlink_metadata(&place)?;
    let mut header = Header::new_gnu();
    header.set_metadata(&about);
    if about.is_symlink() {
        let target = fs::read_link(&place)?;
        header.set_size(0);
        if header
            .set_link_name_literal(target.as_os_str().as_bytes())
            .is_err()
        {
            long(
                builder,
                EntryType::GNULongLink,
                target.as_os_str().as_bytes(),
            )?;
        }
        return entry(builder, header, path, io::empty());
    }
    if about.is_file() {
        return entry(builder, header, path, File::open(&place)?);
    }
    if !about.is_dir() {
        // Sockets and pipes live with their processes.
        return Ok(());
    }
    header.set_size(0);
    entry(builder, header, path, io::empty())?;
    let mut names: Vec<_> = fs::read_dir(&place)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    names
        .iter()
        .try_for_each(|name| add(builder, folder, &path.join(name)))
}

/// The name as it is: it may lead out of the workspace, e.g. to the home folder.
fn entry<W: Write>(
    builder: &mut Builder<W>,
    mut header: Header,
    path: &Path,
    data: impl Read,
) -> io::Result<()> {
    let name = path.as_os_str().as_bytes();
    let Some(gnu) = header.as_gnu_mut() else {
        return Err(io::Error::other("a header of another form"));
    };
    if name.len() <= gnu.name.len() {
        gnu.name[..name.len()].copy_from_slice(name);
    } else {
        let most = gnu.name.len();
        gnu.name.copy_from_slice(&name[..most]);
        long(builder, EntryType::GNULongName, name)?;
    }
    header.set_cksum();
    builder.append(&header, data)
}

fn long<W: Write>(builder: &mut Builder<W>, kind: EntryType, text: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.name[..LONG_NAME.len()].copy_from_slice(LONG_NAME);
    }
    header.set_mode(0o644);
    header.set_entry_type(kind);
    header.set_size(
        u64::try_from(text.len())
            .unwrap_or(u64::MAX)
            .saturating_add(1),
    );
    header.set_cksum();
    builder.append(&header, text.chain(&[0][..]))
}

fn unpack_here(file: &Path, folder: &Path, method: Method) -> io::Result<()> {
    let file = BufReader::new(File::open(file)?);
    match method {
        Method::Gzip => read_all(MultiGzDecoder::new(file), folder),
        Method::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(file)?;
            decoder.window_log_max(WINDOW)?;
            read_all(decoder, folder)
        }
    }
}

fn read_all(from: impl Read, folder: &Path) -> io::Result<()> {
    let mut archive = Archive::new(from);
    // What a folder may not do is set when all is in it.
    let mut folders = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let place = normal(&folder.join(entry.path()?));
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        if entry.header().entry_type().is_dir() {
            fs::create_dir_all(&place)?;
            folders.push((place, entry.header().mode()?));
        } else if let (EntryType::Link, Some(target)) =
            (entry.header().entry_type(), entry.link_name()?)
        {
            let target = normal(&folder.join(target));
            remove(&place)?;
            fs::hard_link(target, &place)?;
        } else {
            remove(&place)?;
            entry.unpack(&place)?;
        }
    }
    for (place, mode) in folders.into_iter().rev() {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is archived one way comes back the other way.
    fn check(
        method: Method,
        pack: fn(&Path, &Path, &[PathBuf], Method),
        unpack: fn(&Path, &Path, Method),
    ) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let long = "n".repeat(120);
        for folder in ["work/sub", &format!("home/{long}"), "work/sub/empty"] {
            fs::create_dir_all(from.path().join(folder)).unwrap();
        }
        fs::write(from.path().join("work/sub/a"), "one").unwrap();
        fs::write(from.path().join(format!("home/{long}/b")), "two").unwrap();
        std::os::unix::fs::symlink("a", from.path().join("work/sub/link")).unwrap();
        fs::create_dir_all(to.path().join("work")).unwrap();
        let file = from.path().join("archive");
        pack(
            &file,
            &from.path().join("work"),
            &["sub".into(), "../home".into()],
            method,
        );
        assert_eq!(method_of(&file).unwrap(), method);
        unpack(&file, &to.path().join("work"), method);
        let read = |path: &str| fs::read_to_string(to.path().join(path)).unwrap();
        assert_eq!(read("work/sub/a"), "one");
        assert_eq!(read(&format!("home/{long}/b")), "two");
        assert_eq!(
            fs::read_link(to.path().join("work/sub/link")).unwrap(),
            Path::new("a")
        );
        assert!(to.path().join("work/sub/empty").is_dir());
    }

    #[test]
    fn our_own_archives_and_those_of_tar_are_alike() {
        let ours: fn(&Path, &Path, &[PathBuf], Method) =
            |a, b, c, d| pack_here(a, b, c, d).unwrap();
        let theirs: fn(&Path, &Path, &[PathBuf], Method) = |a, b, c, d| pack(a, b, c, d).unwrap();
        let to_ours: fn(&Path, &Path, Method) = |a, b, c| unpack_here(a, b, c).unwrap();
        let to_theirs: fn(&Path, &Path, Method) = |a, b, _| unpack(a, b).unwrap();
        for method in [Method::Gzip, Method::Zstd] {
            check(method, ours, to_ours);
            if !has_tar(method) {
                continue;
            }
            check(method, ours, to_theirs);
            check(method, theirs, to_ours);
            check(method, theirs, to_theirs);
        }
    }
}
