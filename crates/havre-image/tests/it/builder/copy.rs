//! COPY, ADD and WORKDIR: what lands where.

use std::io::Write;
use std::os::unix::fs::symlink;

use super::support::{Bench, report};

/// Builds `FROM scratch` plus `steps` over the context that `prepare` makes.
fn check(prepare: impl FnOnce(&Bench), steps: &str, expected: &[&str]) {
    let bench = Bench::new();
    prepare(&bench);
    let outcome = match bench.try_build(&format!("FROM scratch\n{steps}")) {
        Ok(image) => bench.tree(&image),
        Err(error) => vec![report(&error)],
    };
    assert_eq!(outcome, expected, "for\n{steps}");
}

fn sample(bench: &Bench) {
    bench
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("dir/x", "x")
        .file("dir/sub/y", "y");
    bench
        .mode("a.txt", 0o600)
        .mode("dir/sub", 0o750)
        .mode("dir", 0o755)
        .mode("dir/x", 0o755);
}

#[test]
fn a_file_gets_a_name_or_a_folder() {
    check(sample, "COPY a.txt /n", &["n 600 0:0 \"a\""]);
    check(
        sample,
        "COPY a.txt /d/",
        &["d 755 0:0 /", "d/a.txt 600 0:0 \"a\""],
    );
    check(
        sample,
        "WORKDIR /w\nCOPY a.txt b.txt ./",
        &[
            "w 755 0:0 /",
            "w/a.txt 600 0:0 \"a\"",
            "w/b.txt 644 0:0 \"b\"",
        ],
    );
    check(
        sample,
        "WORKDIR /w\nCOPY *.txt ../v/./\nCOPY a.txt .",
        &[
            "v 755 0:0 /",
            "v/a.txt 600 0:0 \"a\"",
            "v/b.txt 644 0:0 \"b\"",
            "w 755 0:0 /",
            "w/a.txt 600 0:0 \"a\"",
        ],
    );
    // An existing folder takes the file in, without a slash too.
    check(
        sample,
        "WORKDIR /w\nCOPY a.txt /w",
        &["w 755 0:0 /", "w/a.txt 600 0:0 \"a\""],
    );
    check(
        sample,
        "COPY a.txt b.txt /n",
        &[
            "inline Dockerfile:2: cannot carry out COPY a.txt b.txt /n: /n is not a folder, and \
             there are several sources: end the destination with /",
        ],
    );
}

#[test]
fn of_a_folder_the_content_is_copied() {
    let tree = [
        "d 755 0:0 /",
        "d/sub 750 0:0 /",
        "d/sub/y 644 0:0 \"y\"",
        "d/x 755 0:0 \"x\"",
    ];
    check(sample, "COPY dir /d", &tree);
    check(sample, "COPY dir/ /d/", &tree);
    check(sample, "WORKDIR /d\nCOPY dir .", &tree);
    // A folder that is there keeps its mode, those inside get the source's.
    check(
        sample,
        "COPY --chmod=0700 dir /d\nCOPY dir /d",
        &[
            "d 755 0:0 /",
            "d/sub 750 0:0 /",
            "d/sub/y 644 0:0 \"y\"",
            "d/x 755 0:0 \"x\"",
        ],
    );
    check(
        sample,
        "COPY dir/s* /e/",
        &["e 755 0:0 /", "e/y 644 0:0 \"y\""],
    );
}

#[test]
fn owners_and_modes_are_set() {
    check(
        sample,
        "COPY --chown=5:6 --chmod=u=rwX,go=rX dir /p/q",
        &[
            "p 755 5:6 /",
            "p/q 755 5:6 /",
            "p/q/sub 755 5:6 /",
            "p/q/sub/y 644 5:6 \"y\"",
            "p/q/x 755 5:6 \"x\"",
        ],
    );
    check(
        sample,
        "COPY --chown=7 --chmod=4755 b.txt /b",
        &["b 4755 7:7 \"b\""],
    );
    check(
        sample,
        "COPY --chown=nobody b.txt /b",
        &[
            "inline Dockerfile:2: cannot carry out COPY --chown=nobody b.txt /b: --chown=nobody: the \
         image's /etc/passwd has no user \"nobody\"",
        ],
    );
    let bench = Bench::with_base();
    sample(&bench);
    let image = bench.build(
        "FROM base:1\nCOPY --chown=app a.txt /1\nCOPY --chown=app:web a.txt /2\n\
         COPY --chown=app:7 a.txt /3\nCOPY --link --chown=0:web a.txt /4",
    );
    let tree = bench.tree(&image);
    for line in [
        "1 600 1000:1001 \"a\"",
        "2 600 1000:33 \"a\"",
        "3 600 1000:7 \"a\"",
        "4 600 0:33 \"a\"",
    ] {
        assert!(tree.contains(&line.to_owned()), "{line} in {tree:#?}");
    }
}

#[test]
fn links_are_kept_inside_and_followed_at_the_top() {
    let prepare = |bench: &Bench| {
        sample(bench);
        symlink("a.txt", bench.context.join("top")).expect("a link");
        symlink("x", bench.context.join("dir/inner")).expect("a link");
        symlink("/etc/passwd", bench.context.join("outside")).expect("a link");
    };
    check(prepare, "COPY top /t", &["t 600 0:0 \"a\""]);
    check(
        prepare,
        "COPY dir/inner dir/x /d/",
        &["d 755 0:0 /", "d/inner 755 0:0 \"x\"", "d/x 755 0:0 \"x\""],
    );
    check(
        prepare,
        "COPY dir /d",
        &[
            "d 755 0:0 /",
            "d/inner 777 0:0 -> x",
            "d/sub 750 0:0 /",
            "d/sub/y 644 0:0 \"y\"",
            "d/x 755 0:0 \"x\"",
        ],
    );
    // The root of the context is the root of its links.
    check(
        prepare,
        "COPY outside /o",
        &["inline Dockerfile:2: cannot carry out COPY outside /o: \"outside\" is not there"],
    );
    check(
        prepare,
        "COPY ../../../../etc/passwd /o",
        &[
            "inline Dockerfile:2: cannot carry out COPY ../../../../etc/passwd /o: \
         \"../../../../etc/passwd\" is not there",
        ],
    );
}

#[test]
fn destinations_that_are_links_are_followed() {
    let prepare = |bench: &Bench| {
        sample(bench);
        bench.file("root/real/keep", "k");
        symlink("/real", bench.context.join("root/link")).expect("a link");
        symlink("real/keep", bench.context.join("root/file")).expect("a link");
        symlink("../../../escape", bench.context.join("root/out")).expect("a link");
    };
    check(
        prepare,
        "COPY root /\nCOPY a.txt /link/\nCOPY b.txt /link/deep/b\nCOPY b.txt /file\nCOPY b.txt /out",
        &[
            "escape 644 0:0 \"b\"",
            "file 777 0:0 -> real/keep",
            "link 777 0:0 -> /real",
            "out 777 0:0 -> ../../../escape",
            "real 755 0:0 /",
            "real/a.txt 600 0:0 \"a\"",
            "real/deep 755 0:0 /",
            "real/deep/b 644 0:0 \"b\"",
            "real/keep 644 0:0 \"b\"",
        ],
    );
    // --link does not look at what is there.
    check(
        prepare,
        "COPY root /\nCOPY --link a.txt /link/a",
        &[
            "file 777 0:0 -> real/keep",
            "link 755 0:0 /",
            "link/a 600 0:0 \"a\"",
            "out 777 0:0 -> ../../../escape",
            "real 755 0:0 /",
            "real/keep 644 0:0 \"k\"",
        ],
    );
    check(
        prepare,
        "COPY root /\nCOPY dir /real/keep",
        &[
            "inline Dockerfile:3: cannot carry out COPY dir /real/keep: /real/keep is a file in the \
         image and would become a folder",
        ],
    );
}

#[test]
fn a_folder_over_a_link_to_a_folder_merges() {
    let prepare = |bench: &Bench| {
        bench.file("base/usr/lib/a", "a").file("add/lib/b", "b");
        symlink("usr/lib", bench.context.join("base/lib")).expect("a link");
    };
    check(
        prepare,
        "COPY base /\nCOPY add /",
        &[
            "lib 777 0:0 -> usr/lib",
            "usr 755 0:0 /",
            "usr/lib 755 0:0 /",
            "usr/lib/a 644 0:0 \"a\"",
            "usr/lib/b 644 0:0 \"b\"",
        ],
    );
}

#[test]
fn ignored_files_are_not_there() {
    let prepare = |bench: &Bench| {
        sample(bench);
        bench.file(
            ".dockerignore",
            "*.txt\n!b.txt\ndir/*\n!dir/sub/y\n.dockerignore",
        );
    };
    check(
        prepare,
        "COPY . /",
        &[
            "b.txt 644 0:0 \"b\"",
            "dir 755 0:0 /",
            "dir/sub 750 0:0 /",
            "dir/sub/y 644 0:0 \"y\"",
        ],
    );
    check(
        prepare,
        "COPY *.txt /d/",
        &["d 755 0:0 /", "d/b.txt 644 0:0 \"b\""],
    );
    check(
        prepare,
        "COPY a.txt /",
        &[
            "inline Dockerfile:2: cannot carry out COPY a.txt /: \"a.txt\" is not there: .dockerignore \
         leaves it out",
        ],
    );
    check(
        sample,
        "COPY --exclude=dir/sub --exclude=*.txt . /",
        &["dir 755 0:0 /", "dir/x 755 0:0 \"x\""],
    );
}

#[test]
fn a_dockerfile_may_have_an_ignore_file_of_its_own() {
    let bench = Bench::new();
    sample(&bench);
    bench
        .file(".dockerignore", "a.txt")
        .file("build/app.Dockerfile", "FROM scratch\nCOPY *.txt /\n")
        .file("build/app.Dockerfile.dockerignore", "b.txt");
    let mut request = bench.request("");
    request.dockerfile =
        havre_image::builder::DockerfileSource::Path("build/app.Dockerfile".into());
    let image = bench.try_request(&request).expect("it builds");
    assert_eq!(bench.tree(&image), ["a.txt 600 0:0 \"a\""]);
}

#[test]
fn parents_are_kept_when_asked_for() {
    check(
        sample,
        "COPY --parents dir/sub/y a.txt /p/",
        &[
            "p 755 0:0 /",
            "p/a.txt 600 0:0 \"a\"",
            "p/dir 755 0:0 /",
            "p/dir/sub 750 0:0 /",
            "p/dir/sub/y 644 0:0 \"y\"",
        ],
    );
    check(
        sample,
        "COPY --parents dir/./sub /p/",
        &["p 755 0:0 /", "p/sub 750 0:0 /", "p/sub/y 644 0:0 \"y\""],
    );
}

#[test]
fn documents_become_files() {
    check(
        |_| {},
        "ARG N=world\nCOPY <<EOF <<'RAW' /d/\nhello $N \\$N\nEOF\n$N\nRAW\n\
         COPY --chmod=0755 --chown=3:4 <<-X /x\n\t\tindented\n\tX",
        &[
            "d 755 0:0 /",
            "d/EOF 644 0:0 \"hello world $N\\n\"",
            "d/RAW 644 0:0 \"$N\\n\"",
            "x 755 3:4 \"indented\\n\"",
        ],
    );
}

#[test]
fn files_of_another_stage_keep_their_owners() {
    check(
        sample,
        "COPY --chown=8:9 dir /d\nFROM scratch\nCOPY --from=0 /d /e\nCOPY --from=0 d/x /y",
        &[
            "e 755 0:0 /",
            "e/sub 750 8:9 /",
            "e/sub/y 644 8:9 \"y\"",
            "e/x 755 8:9 \"x\"",
            "y 755 8:9 \"x\"",
        ],
    );
    let bench = Bench::with_base();
    let image = bench.build("FROM scratch\nCOPY --from=base:1 /bin/sh /etc/group /b/");
    let tree = bench.tree(&image);
    assert!(tree[1].starts_with("b/group 644 0:0"), "{tree:?}");
    assert!(
        tree[2].starts_with("b/sh 755 0:0 …"),
        "a link at the top is followed: {tree:?}"
    );
}

#[test]
fn patterns_without_a_match_are_told() {
    let bench = Bench::new();
    sample(&bench);
    let image = bench.build("FROM scratch\nCOPY a.txt yarn.lock* /");
    assert_eq!(bench.tree(&image), ["a.txt 600 0:0 \"a\""]);
    assert_eq!(
        bench.warnings(),
        ["yarn.lock* matches nothing in the build context"]
    );
}

fn archive(bench: &Bench, name: &str, gzip: bool, entries: &[(&str, tar::EntryType, &str)]) {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if kind.is_dir() { 0o750 } else { 0o640 });
        header.set_uid(11);
        header.set_gid(12);
        header.set_mtime(1);
        let link = kind.is_symlink() || kind.is_hard_link();
        header.set_size(if link || kind.is_dir() {
            0
        } else {
            content.len() as u64
        });
        if link {
            header.set_link_name_literal(content).expect("a link");
        }
        // The crate refuses `..` in paths; an attacker does not use the crate.
        let field = &mut header.as_old_mut().name;
        field[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        let content = if link || kind.is_dir() { "" } else { content };
        builder
            .append(&header, content.as_bytes())
            .expect("an entry");
    }
    let bytes = builder.into_inner().expect("an archive");
    let path = bench.context.join(name);
    if gzip {
        let file = std::fs::File::create(path).expect("a file");
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&bytes).expect("it is written");
        encoder.finish().expect("it is written");
    } else {
        std::fs::write(path, bytes).expect("a file");
    }
}

#[test]
fn local_archives_are_unpacked_by_add_only() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    for gzip in [false, true] {
        let prepare = |bench: &Bench| {
            archive(
                bench,
                "app.bin",
                gzip,
                &[
                    ("top/", Directory, ""),
                    ("top/f", Regular, "f"),
                    ("top/.wh.x", Regular, "not a whiteout"),
                    ("l", Symlink, "top/f"),
                    ("h", Link, "top/f"),
                    ("deep/g", Regular, "g"),
                ],
            );
            bench.file("plain.tar.gz", "no archive");
        };
        check(
            prepare,
            "ADD --chown=1:2 app.bin /n\nRUN",
            &["inline Dockerfile:3: RUN needs a command\n  3 | RUN"],
        );
        check(
            |bench| {
                prepare(bench);
                archive(
                    bench,
                    "app.bin",
                    gzip,
                    &[
                        ("top/", Directory, ""),
                        ("top/f", Regular, "f"),
                        ("l", Symlink, "top/f"),
                        ("h", Link, "top/f"),
                        ("deep/g", Regular, "g"),
                    ],
                );
            },
            "ADD app.bin /n",
            &[
                "n 755 0:0 /",
                "n/deep 755 0:0 /",
                "n/deep/g 640 11:12 \"g\"",
                "n/h 640 11:12 \"f\"",
                "n/l 777 11:12 -> top/f",
                "n/top 750 11:12 /",
                "n/top/f 640 11:12 \"f\"",
            ],
        );
        check(
            prepare,
            "ADD --chmod=0600 plain.tar.gz /p",
            &["p 600 0:0 \"no archive\""],
        );
    }
    check(
        |bench| archive(bench, "a.tar", false, &[("f", Regular, "f")]),
        "ADD --unpack=false --chmod=0644 a.tar /a.tar",
        &["a.tar 644 0:0 …"],
    );
}

#[test]
fn hostile_archives_stay_inside_the_image() {
    use tar::EntryType::{Char, Regular, Symlink};
    check(
        |bench| {
            archive(
                bench,
                "a.tar",
                false,
                &[
                    ("out", Symlink, "/../../../../tmp"),
                    ("out/x", Regular, "x"),
                    ("/abs", Regular, "y"),
                ],
            );
        },
        "ADD a.tar /n/",
        &[
            "n 755 0:0 /",
            "n/abs 640 11:12 \"y\"",
            "n/out 777 11:12 -> /../../../../tmp",
            "tmp 755 0:0 /",
            "tmp/x 640 11:12 \"x\"",
        ],
    );
    check(
        |bench| archive(bench, "a.tar", false, &[("../x", Regular, "x")]),
        "ADD a.tar /n/",
        &[
            "inline Dockerfile:2: cannot carry out ADD a.tar /n/: archive a.tar: entry \"../x\" is \
           refused: its path contains ..",
        ],
    );
    check(
        |bench| archive(bench, "a.tar", false, &[("sda", Char, "")]),
        "ADD a.tar /n/",
        &[
            "inline Dockerfile:2: cannot carry out ADD a.tar /n/: archive a.tar: entry \"sda\" is \
           refused: it is a device that containers may not use",
        ],
    );
    check(
        |bench| {
            std::fs::write(bench.context.join("a.tar.xz"), b"\xfd7zXZ\0rest").expect("a file");
        },
        "ADD a.tar.xz /n/",
        &[
            "inline Dockerfile:2: cannot carry out ADD a.tar.xz /n/: a.tar.xz is compressed with \
           xz, which ADD does not unpack; use gzip or zstd, or --unpack=false",
        ],
    );
    check(
        |_| {},
        "ADD https://example.org/x /n/",
        &[
            "inline Dockerfile:2: ADD https://example.org/x is not supported: ADD takes local files \
           only; fetch it in a RUN step, or before the build\n  2 | ADD https://example.org/x /n/",
        ],
    );
}
