//! Layers of friends and of enemies.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use havre_image::{Entry, EntryKind, Limits, UnpackError, Unpacker};

use crate::support::{file, folder, hard_link, link, node, tar};

/// A place to unpack to, in the midst of things that must not be touched.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        fs::create_dir(dir.path().join("outside.d")).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn unpack(&self, bytes: &[u8]) -> Result<(), UnpackError> {
        self.unpack_within(bytes, Limits::default())
    }

    fn unpack_within(&self, bytes: &[u8], limits: Limits) -> Result<(), UnpackError> {
        Unpacker::new(&self.root(), &[], limits)?
            .layer(bytes)
            .map(drop)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn assert_outside_untouched(&self) {
        let outside = self.dir.path();
        assert_eq!(
            fs::read_to_string(outside.join("outside")).unwrap(),
            "untouched"
        );
        assert_eq!(fs::read_dir(outside.join("outside.d")).unwrap().count(), 0);
    }
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut buffer = [0; 64];
    let length = rustix::fs::lgetxattr(path, name, &mut buffer[..]).ok()?;
    Some(buffer[..length].to_vec())
}

fn is_whiteout(path: &Path) -> bool {
    let meta = fs::symlink_metadata(path).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

/// The layer is refused, with the reason, and nothing outside was touched.
fn refused(entries: &[(Entry, &str)], reason: &str) {
    let place = Scratch::new();
    let error = place.unpack(&tar(entries)).unwrap_err();
    assert!(
        matches!(&error, UnpackError::Refused { reason: found, .. } if found.contains(reason)),
        "expected {reason:?}, found {error:?}"
    );
    place.assert_outside_untouched();
}

/// The layer is taken, but stays inside.
fn contained(entries: &[(Entry, &str)], expected: &[(&str, &str)]) {
    let place = Scratch::new();
    place.unpack(&tar(entries)).unwrap();
    for (path, content) in expected {
        assert_eq!(place.read(path), *content, "{path}");
    }
    place.assert_outside_untouched();
}

#[test]
fn metadata_survives() {
    let mut program = Entry::new("bin/su", EntryKind::File, 0o4755);
    program.uid = 1000;
    program.gid = 1001;
    program.mtime = 1_600_000_000;
    // cap_net_raw+ep, revision 2.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut capable = Entry::new("bin/ping", EntryKind::File, 0o755);
    capable.uid = 7;
    capable.xattrs = vec![
        (b"security.capability".to_vec(), capability.to_vec()),
        (b"user.note".to_vec(), b"kept".to_vec()),
        (b"security.selinux".to_vec(), b"of the host".to_vec()),
    ];
    let mut bin = Entry::new("bin/", EntryKind::Directory, 0o1777);
    bin.mtime = 1_500_000_000;
    let mut symlink = link("bin/l", "su");
    symlink.0.uid = 5;
    symlink.0.mtime = 1_400_000_000;
    let place = Scratch::new();
    place
        .unpack(&tar(&[(bin, ""), (program, "x"), (capable, "y"), symlink]))
        .unwrap();
    let meta = |path: &str| fs::symlink_metadata(place.root().join(path)).unwrap();
    let su = meta("bin/su");
    assert_eq!(
        (su.mode() & 0o7777, su.uid(), su.gid()),
        (0o4755, 1000, 1001)
    );
    assert_eq!(su.mtime(), 1_600_000_000);
    assert_eq!(
        (meta("bin").mode() & 0o7777, meta("bin").mtime()),
        (0o1777, 1_500_000_000)
    );
    assert_eq!(
        (meta("bin/l").uid(), meta("bin/l").mtime()),
        (5, 1_400_000_000)
    );
    let ping = place.root().join("bin/ping");
    assert_eq!(
        attribute(&ping, "security.capability").as_deref(),
        Some(&capability[..])
    );
    assert_eq!(attribute(&ping, "user.note").as_deref(), Some(&b"kept"[..]));
    assert_eq!(attribute(&ping, "security.selinux"), None);
}

#[test]
fn paths_that_lead_out_are_refused() {
    refused(&[file("../outside", "x")], "out of the layer");
    refused(&[file("a/../../outside", "x")], "out of the layer");
    refused(
        &[file("a/../../../../../../../etc/havre-test", "x")],
        "out of the layer",
    );
    refused(&[hard_link("a", "../outside")], "out of the layer");
    refused(&[file("..", "x")], "out of the layer");
}

#[test]
fn absolute_paths_are_relative_to_the_layer() {
    contained(
        &[file("/a", "1"), file("//b/./c", "2")],
        &[("a", "1"), ("b/c", "2")],
    );
    contained(&[file("x/../d", "3")], &[("d", "3")]);
}

#[test]
fn links_do_not_lead_out() {
    let place = Scratch::new();
    let absolute = place.dir.path().to_string_lossy().into_owned();
    // Inside the layer the absolute link leads to a folder that is not there.
    let error = place
        .unpack(&tar(&[link("l", &absolute), file("l/outside", "x")]))
        .unwrap_err();
    assert!(error.to_string().contains("leads to nothing"), "{error}");
    place.assert_outside_untouched();

    contained(
        &[folder("t"), link("l", "/t"), file("l/f", "in")],
        &[("t/f", "in")],
    );
    refused(
        &[link("l", "../.."), file("l/../../outside", "x")],
        "out of the layer",
    );
    // `..` at the root is the root.
    contained(
        &[folder("etc"), link("l", "../../../etc"), file("l/f", "in")],
        &[("etc/f", "in")],
    );
    refused(
        &[link("l", "/proc/self/root"), file("l/x", "x")],
        "leads to nothing",
    );
}

#[test]
fn a_file_does_not_write_through_a_link_of_its_name() {
    contained(
        &[file("t", "target"), link("f", "t"), file("f", "own")],
        &[("t", "target"), ("f", "own")],
    );
    contained(
        &[link("f", "/../outside"), file("f", "own")],
        &[("f", "own")],
    );
}

#[test]
fn hard_links_stay_in_the_layer() {
    contained(&[file("a", "1"), hard_link("b", "/a")], &[("b", "1")]);
    contained(&[file("a", "1"), hard_link("a", "a")], &[("a", "1")]);
    refused(&[hard_link("b", "a")], "leads to nothing");
    refused(&[folder("a"), hard_link("b", "a")], "link to a folder");
    refused(
        &[link("l", "/etc"), hard_link("b", "l/hostname")],
        "leads to nothing",
    );
    refused(&[hard_link("b", "/")], "link to a folder");
}

#[test]
fn devices_are_refused_but_those_of_every_container() {
    refused(
        &[node("sda", EntryKind::BlockDevice { major: 8, minor: 0 })],
        "device",
    );
    refused(
        &[node("mem", EntryKind::CharDevice { major: 1, minor: 1 })],
        "device",
    );
    refused(
        &[node(
            "fuse",
            EntryKind::CharDevice {
                major: 10,
                minor: 229,
            },
        )],
        "device",
    );
    // What overlay takes for a removed file comes from markers only.
    refused(
        &[node("w", EntryKind::CharDevice { major: 0, minor: 0 })],
        "device",
    );
    let place = Scratch::new();
    let null = EntryKind::CharDevice { major: 1, minor: 3 };
    place
        .unpack(&tar(&[
            node("dev/null", null),
            node("fifo", EntryKind::Fifo),
        ]))
        .unwrap();
    let meta = fs::symlink_metadata(place.root().join("dev/null")).unwrap();
    assert!(meta.file_type().is_char_device());
    assert_eq!(meta.rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(meta.mode() & 0o777, 0o666);
    assert!(
        fs::symlink_metadata(place.root().join("fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
}

#[test]
fn attributes_of_the_overlay_are_refused() {
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.x",
    ] {
        let mut entry = folder("d");
        entry.0.xattrs = vec![(name.into(), b"/etc".to_vec())];
        refused(&[entry], "overlay itself");
    }
}

#[test]
fn markers_become_what_overlay_understands() {
    let place = Scratch::new();
    place
        .unpack(&tar(&[
            folder("d"),
            file("d/.wh.gone", ""),
            hard_link("d/.wh.linked", "d/.wh.gone"),
            folder("opaque"),
            file("opaque/.wh..wh..opq", ""),
            file("opaque/new", "n"),
            file(".wh..wh.plnk/1", ""),
            file(".wh..wh.aufs", ""),
        ]))
        .unwrap();
    assert!(is_whiteout(&place.root().join("d/gone")));
    assert!(is_whiteout(&place.root().join("d/linked")));
    let opaque = attribute(&place.root().join("opaque"), "trusted.overlay.opaque");
    assert_eq!(opaque.as_deref(), Some(&b"y"[..]));
    assert_eq!(crate::support::listing(&place.root()), ["d", "opaque"]);
}

#[test]
fn a_marker_beside_the_new_thing_hides_the_old_only() {
    for entries in [
        [file(".wh.d", ""), folder("d"), file("d/f", "new")],
        [folder("d"), file("d/f", "new"), file(".wh.d", "")],
        [file(".wh.d", ""), file("d/f", "new"), folder("d")],
    ] {
        let place = Scratch::new();
        place.unpack(&tar(&entries)).unwrap();
        assert_eq!(place.read("d/f"), "new");
        let opaque = attribute(&place.root().join("d"), "trusted.overlay.opaque");
        assert_eq!(opaque.as_deref(), Some(&b"y"[..]), "{entries:?}");
    }
    contained(&[file(".wh.f", ""), file("f", "new")], &[("f", "new")]);
    contained(&[file("f", "new"), file(".wh.f", "")], &[("f", "new")]);
}

#[test]
fn markers_that_mean_nothing_are_refused() {
    refused(&[file(".wh.", "")], "marks no file");
    refused(&[file("a/.wh..", "")], "marks no file");
    refused(&[file("a/.wh...", "")], "marks no file");
    refused(&[file(".wh.a/b", "")], "below a marker");
}

#[test]
fn the_last_entry_of_a_name_wins() {
    contained(&[file("a", "1"), file("a", "2")], &[("a", "2")]);
    contained(
        &[folder("a"), file("a/b", "1"), file("a", "2")],
        &[("a", "2")],
    );
    contained(
        &[file("a", "1"), folder("a"), file("a/b", "2")],
        &[("a/b", "2")],
    );
    // The folder that was open for its last child is another one now.
    contained(
        &[
            file("a/x/1", "1"),
            folder("b"),
            file("a/x/2", "2"),
            link("a/x", "../b"),
            file("a/x/3", "3"),
        ],
        &[("b/3", "3")],
    );
    refused(&[file("a", "1"), file("a/b", "2")], "no folder");
}

#[test]
fn folders_taken_for_granted_are_those_of_the_layer_below() {
    let below = tempfile::tempdir().unwrap();
    let mut tmp = folder("tmp/");
    tmp.0.mode = 0o1777;
    tmp.0.uid = 12;
    tmp.0.mtime = 77;
    let root = folder("./");
    let bytes = tar(&[root, tmp]);
    Unpacker::new(below.path(), &[], Limits::default())
        .unwrap()
        .layer(&bytes[..])
        .unwrap();
    let place = Scratch::new();
    let bytes = tar(&[file("tmp/f", "x"), file("fresh/f", "x")]);
    Unpacker::new(&place.root(), &[below.path().to_owned()], Limits::default())
        .unwrap()
        .layer(&bytes[..])
        .unwrap();
    let meta = |path: &str| fs::metadata(place.root().join(path)).unwrap();
    let tmp = meta("tmp");
    assert_eq!(
        (tmp.mode() & 0o7777, tmp.uid(), tmp.mtime()),
        (0o1777, 12, 77)
    );
    assert_eq!(
        (meta("fresh").mode() & 0o7777, meta("fresh").mtime()),
        (0o755, 0)
    );
}

#[test]
fn bombs_are_stopped_at_the_limit() {
    let limits = Limits {
        bytes: 1 << 20,
        entries: 10,
        ratio: 100,
        ratio_from: 4096,
        ..Limits::default()
    };
    let entries: Vec<_> = (0..11).map(|n| folder(&format!("d{n}"))).collect();
    let error = Scratch::new()
        .unpack_within(&tar(&entries), limits)
        .unwrap_err();
    assert!(
        matches!(error, UnpackError::TooMany { limit: 10 }),
        "{error}"
    );

    let read = |compressed: u64| {
        let mut source = limits.for_stream(compressed).cap(std::io::repeat(0));
        std::io::copy(&mut source, &mut std::io::sink())
            .unwrap_err()
            .to_string()
    };
    assert!(read(10).contains("more than 4096 bytes"));
    assert!(read(1000).contains("more than 100000 bytes"));
    assert!(read(u64::MAX).contains("more than 1048576 bytes"));
}

#[test]
fn a_cut_archive_is_an_error() {
    let whole = tar(&[file("a", "0123456789"), file("b", "x")]);
    for length in [100, 512, 515, 1024 + 100] {
        let error = Scratch::new().unpack(&whole[..length]).unwrap_err();
        let text = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(
            text.contains("ends inside") || text.contains("write"),
            "{length}: {text}"
        );
    }
    let mut damaged = whole;
    damaged[3] ^= 1;
    let error = Scratch::new().unpack(&damaged).unwrap_err();
    assert!(matches!(error, UnpackError::Archive(_)), "{error}");
}

#[test]
fn folders_without_end_are_stopped() {
    let limits = Limits {
        folder_names: 10_000,
        ..Limits::default()
    };
    // Each level counts with its whole path, also where the archive takes it for granted.
    let deep = tar(&[file(&format!("{}f", "d/".repeat(200)), "")]);
    let error = Scratch::new().unpack_within(&deep, limits).unwrap_err();
    assert!(error.to_string().contains("too many folders"), "{error}");
    let wide: Vec<_> = (0..3000).map(|n| folder(&format!("{n:04}"))).collect();
    let error = Scratch::new()
        .unpack_within(&tar(&wide), limits)
        .unwrap_err();
    assert!(error.to_string().contains("too many folders"), "{error}");
    refused(&[file(&format!("{}f", "d/".repeat(600)), "")], "too deep");
    refused(
        &[file(
            &format!("{}f", format!("{}/", "d".repeat(200)).repeat(16)),
            "",
        )],
        "too long",
    );
}

/// Numbers that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn damaged_archives_neither_panic_nor_leak() {
    let names = [
        "a",
        "a/b",
        "../outside",
        "/a/../b",
        ".wh.a",
        "a/.wh..wh..opq",
        "l/x",
        "outside.d",
    ];
    let seed = 0x5eed;
    println!("seed {seed:#x}");
    let mut noise = Noise(seed);
    for _ in 0..400 {
        let entries: Vec<_> = (0..8)
            .map(|_| {
                let name = names[noise.below(names.len())];
                match noise.below(5) {
                    0 => folder(name),
                    1 => link(name, ["..", "/", "a", "../outside.d"][noise.below(4)]),
                    2 => hard_link(name, names[noise.below(names.len())]),
                    3 => node(name, EntryKind::Fifo),
                    _ => file(name, "content"),
                }
            })
            .collect();
        let mut bytes = tar(&entries);
        for _ in 0..noise.below(4) {
            let at = noise.below(bytes.len());
            bytes[at] = u8::try_from(noise.below(256)).unwrap();
        }
        bytes.truncate(bytes.len() - noise.below(2) * noise.below(bytes.len()));
        let place = Scratch::new();
        // Most are refused; none may do harm.
        drop(place.unpack(&bytes));
        place.assert_outside_untouched();
    }
}
