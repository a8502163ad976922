//! Import and export, cross-checked with skopeo.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use havre_image::config::Healthcheck;
use havre_image::progress::silent;
use havre_image::{ExportFormat, Image, ImageConfig, ImportError, ImportFault};

use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, chain, file, folder, link, needs, reference, run, tar};

/// An image with two layers and every part of a configuration that Docker knows.
pub fn sample(fixture: &Fixture, name: &str) -> Image {
    let plain = fixture.image(
        name,
        &[
            tar(&[folder("etc"), file("etc/a", "1"), link("l", "etc/a")]),
            tar(&[file("etc/.wh.a", ""), file("b", "content of b")]),
        ],
    );
    let mut config = ImageConfig::for_this_machine();
    config.run.cmd = Some(vec!["/b".to_owned()]);
    config.run.user = "7:8".to_owned();
    config.run.healthcheck = Some(Healthcheck {
        test: vec!["CMD-SHELL".to_owned(), "true".to_owned()],
        interval: 5_000_000_000,
        retries: 3,
        ..Healthcheck::default()
    });
    fixture
        .images
        .commit_image(config, &plain.layers, &reference(name))
        .unwrap()
}

pub fn export(fixture: &Fixture, name: &str, format: ExportFormat) -> PathBuf {
    let path = fixture.dir.path().join(format!("{format:?}.tar"));
    let out = File::create(&path).unwrap();
    fixture
        .images
        .export(&reference(name), format, out)
        .unwrap();
    path
}

fn import(fixture: &Fixture, path: &Path, name: Option<&str>) -> Result<Vec<String>, ImportError> {
    let name = name.map(reference);
    let imported =
        fixture
            .images
            .import(path, name.as_ref(), &silent, &CancellationToken::new())?;
    Ok(imported
        .iter()
        .map(|one| one.reference.to_string())
        .collect())
}

/// What can be seen in the topmost layers without mounting: configuration and diff ids.
fn same_content(one: &Image, other: &Image) {
    assert_eq!(one.config_digest, other.config_digest);
    assert_eq!(one.config, other.config);
    let diff_ids = |image: &Image| {
        image
            .layers
            .iter()
            .map(|layer| layer.diff_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(diff_ids(one), diff_ids(other));
}

#[test]
fn an_oci_archive_keeps_every_digest() {
    let here = Fixture::new();
    let image = sample(&here, "app:1");
    let archive = export(&here, "app:1", ExportFormat::Oci);
    let there = Fixture::new();
    assert_eq!(import(&there, &archive, None).unwrap(), ["app:1"]);
    assert_eq!(
        there.images.resolve(&reference("app:1")).unwrap(),
        Some(image.clone())
    );
    assert_eq!(
        there.listing("layers").len(),
        2,
        "an imported image is unpacked"
    );
    // The same as a folder, under another name.
    let layout = there.dir.path().join("layout");
    fs::create_dir(&layout).unwrap();
    run(
        "tar",
        &[
            "xf",
            archive.to_str().unwrap(),
            "-C",
            layout.to_str().unwrap(),
        ],
    );
    let third = Fixture::new();
    assert_eq!(
        import(&third, &layout, Some("other")).unwrap(),
        ["other:latest"]
    );
    assert_eq!(
        third.images.resolve(&reference("other")).unwrap(),
        Some(image)
    );
}

#[test]
fn a_docker_archive_keeps_the_configuration() {
    let here = Fixture::new();
    let image = sample(&here, "r.example/app:1");
    let archive = export(&here, "r.example/app:1", ExportFormat::DockerArchive);
    let there = Fixture::new();
    assert_eq!(import(&there, &archive, None).unwrap(), ["r.example/app:1"]);
    let found = there
        .images
        .resolve(&reference("r.example/app:1"))
        .unwrap()
        .unwrap();
    same_content(&image, &found);
}

#[test]
fn skopeo_reads_what_is_exported_and_writes_what_is_imported() {
    if !needs("skopeo") {
        return;
    }
    let here = Fixture::new();
    let image = sample(&here, "app:1");
    for (format, kind) in [
        (ExportFormat::Oci, "oci-archive"),
        (ExportFormat::DockerArchive, "docker-archive"),
    ] {
        let archive = export(&here, "app:1", format);
        let source = format!("{kind}:{}", archive.display());
        let config = run("skopeo", &["inspect", "--config", "--raw", &source]);
        let config: ImageConfig = serde_json::from_str(&config).unwrap();
        assert_eq!(config, image.config, "{kind}");
        for target in ["oci", "oci-archive", "docker-archive"] {
            let there = Fixture::new();
            let path = there.dir.path().join("copy");
            let copy = format!("{target}:{}:app:2", path.display());
            run(
                "skopeo",
                &["--insecure-policy", "copy", "--quiet", &source, &copy],
            );
            assert_eq!(
                import(&there, &path, None).unwrap(),
                ["app:2"],
                "{kind} to {target}"
            );
            let found = there.images.resolve(&reference("app:2")).unwrap().unwrap();
            assert_eq!(found.config.run.cmd, image.config.run.cmd);
            assert_eq!(found.config.rootfs, image.config.rootfs);
            // Between the two kinds skopeo writes the configuration anew and drops what OCI does
            // not know.
            if kind == "oci-archive" && target.starts_with("oci") {
                same_content(&image, &found);
            }
        }
    }
}

#[test]
fn the_same_image_is_exported_as_the_same_bytes() {
    let bytes = |format| {
        let fixture = Fixture::new();
        sample(&fixture, "app:1");
        fs::read(export(&fixture, "app:1", format)).unwrap()
    };
    for format in [ExportFormat::Oci, ExportFormat::DockerArchive] {
        assert!(bytes(format) == bytes(format), "{format:?}");
    }
}

#[test]
fn a_root_file_system_becomes_an_image_however_it_is_packed() {
    let fixture = Fixture::new();
    let root = fixture.dir.path().join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/sh"), "#!").unwrap();
    let mut diff_ids = Vec::new();
    let mut packers = vec![("tar", "--no-auto-compress"), ("tar.gz", "--gzip")];
    if needs("zstd") {
        packers.push(("tar.zst", "--zstd"));
    }
    for (suffix, option) in packers {
        let path = fixture.dir.path().join(format!("root.{suffix}"));
        let flags = if option == "--no-auto-compress" {
            "--format=gnu"
        } else {
            option
        };
        run(
            "tar",
            &[
                flags,
                "-cf",
                path.to_str().unwrap(),
                "-C",
                root.to_str().unwrap(),
                ".",
            ],
        );
        let error = import(&fixture, &path, None).unwrap_err();
        assert!(matches!(*error.source, ImportFault::NeedsName), "{error}");
        import(&fixture, &path, Some("debian:bookworm-slim")).unwrap();
        let image = fixture
            .images
            .resolve(&reference("debian:bookworm-slim"))
            .unwrap()
            .unwrap();
        assert_eq!(image.layers.len(), 1);
        assert!(image.config.run.env[0].starts_with("PATH="));
        let lower = fixture.images.ensure_unpacked(&image).unwrap();
        assert_eq!(fs::read_to_string(lower[0].join("bin/sh")).unwrap(), "#!");
        diff_ids.push(image.layers[0].diff_id);
    }
    diff_ids.dedup();
    assert_eq!(diff_ids.len(), 1);
    assert!(fixture.listing("tmp").is_empty());
}

#[test]
fn an_archive_that_was_changed_is_refused_and_names_nothing() {
    let here = Fixture::new();
    sample(&here, "app:1");
    for format in [ExportFormat::Oci, ExportFormat::DockerArchive] {
        let archive = export(&here, "app:1", format);
        let mut bytes = fs::read(&archive).unwrap();
        let at = bytes
            .windows(12)
            .position(|part| part == b"content of b")
            .unwrap();
        bytes[at] = b'C';
        fs::write(&archive, &bytes).unwrap();
        let there = Fixture::new();
        let error = import(&there, &archive, None).unwrap_err();
        assert!(
            chain(&error).contains("sha256:"),
            "{format:?}: {}",
            chain(&error)
        );
        assert!(there.images.list().unwrap().is_empty());

        fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
        import(&there, &archive, None).unwrap_err();
        assert!(there.images.list().unwrap().is_empty());
    }
}

#[test]
fn what_is_no_image_says_so() {
    let fixture = Fixture::new();
    let error = import(&fixture, Path::new("/nowhere/x.tar"), None).unwrap_err();
    assert!(
        chain(&error).contains("/nowhere/x.tar"),
        "{}",
        chain(&error)
    );
    let text = fixture.dir.path().join("text");
    fs::write(&text, "x".repeat(2000)).unwrap();
    let error = import(&fixture, &text, Some("a")).unwrap_err();
    assert!(chain(&error).contains("damaged"), "{}", chain(&error));
    let empty = fixture.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = import(&fixture, &empty, Some("a")).unwrap_err();
    assert!(matches!(*error.source, ImportFault::NoLayout), "{error}");
    assert!(fixture.images.list().unwrap().is_empty());
}

#[test]
fn an_archive_does_not_reach_outside_itself() {
    let fixture = Fixture::new();
    fs::write(fixture.dir.path().join("secret"), "{}").unwrap();
    let manifest = r#"[{"Config":"../secret","RepoTags":["a:1"],"Layers":[]}]"#;
    let layout = fixture.dir.path().join("layout");
    fs::create_dir(&layout).unwrap();
    fs::write(layout.join("manifest.json"), manifest).unwrap();
    let error = import(&fixture, &layout, None).unwrap_err();
    assert!(chain(&error).contains("not there"), "{}", chain(&error));
}

/// A tar of `docker save` whose image lists `layers`.
fn docker_archive(fixture: &Fixture, layers: &[&str]) -> PathBuf {
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": ["many:1"], "Layers": layers}
    ]);
    let mut config = ImageConfig::for_this_machine();
    let layer = tar(&[file("a", "1")]);
    config.rootfs.diff_ids = vec![havre_image::Digest::of(&layer); layers.len()];
    let path = fixture.dir.path().join("docker.tar");
    let mut builder = tar::Builder::new(File::create(&path).unwrap());
    for (name, content) in [
        ("manifest.json", serde_json::to_vec(&manifest).unwrap()),
        ("config.json", serde_json::to_vec(&config).unwrap()),
        ("layer.tar", layer),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, content.as_slice())
            .unwrap();
    }
    builder.finish().unwrap();
    path
}

#[test]
fn an_archive_lists_only_so_many_layers() {
    let fixture = Fixture::new();
    let archive = docker_archive(&fixture, &["layer.tar"; 2]);
    assert_eq!(import(&fixture, &archive, None).unwrap(), ["many:1"]);
    let fixture = Fixture::new();
    let archive = docker_archive(&fixture, &vec!["layer.tar"; 100_000]);
    let error = import(&fixture, &archive, None).unwrap_err();
    assert!(
        chain(&error).contains("it lists over 480 layers"),
        "{}",
        chain(&error)
    );
    let blobs = fs::read_dir(fixture.path("blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 0, "nothing of it was begun");
}

#[test]
fn what_holds_nothing_or_cannot_be_read_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("empty.tar");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &tar(&[])).unwrap();
    for bytes in [Vec::new(), tar(&[]), packed.finish().unwrap()] {
        fs::write(&path, bytes).unwrap();
        let error = import(&fixture, &path, Some("e:1")).unwrap_err();
        assert!(
            matches!(*error.source, ImportFault::Empty),
            "{}",
            chain(&error)
        );
    }
    let pipe = fixture.dir.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
    for (path, reason) in [
        (pipe.as_path(), "a named pipe"),
        (Path::new("/dev/zero"), "a device"),
    ] {
        let error = import(&fixture, path, Some("e:1")).unwrap_err();
        assert!(chain(&error).contains(reason), "{}", chain(&error));
    }
    assert!(fixture.images.list().unwrap().is_empty());
}

#[test]
fn an_import_ends_when_it_is_cancelled() {
    let fixture = Fixture::new();
    let archive = docker_archive(&fixture, &["layer.tar"; 2]);
    let cancel = CancellationToken::new();
    let stop = |_| cancel.cancel();
    let error = fixture
        .images
        .import(&archive, None, &stop, &cancel)
        .unwrap_err();
    assert!(
        matches!(*error.source, ImportFault::Cancelled),
        "{}",
        chain(&error)
    );
    assert!(fixture.images.list().unwrap().is_empty());
}
