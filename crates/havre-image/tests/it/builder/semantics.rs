//! What Dockerfiles mean to BuildKit, as its documentation and its conversion of instructions have
//! it, where a simpler reading is close by.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use havre_image::builder::StepMount;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::support::{Bench, report};

fn check(prepare: impl FnOnce(&Bench), steps: &str, expected: &[&str]) {
    let bench = Bench::new();
    prepare(&bench);
    let outcome = match bench.try_build(&format!("FROM scratch\n{steps}")) {
        Ok(image) => bench.tree(&image),
        Err(error) => vec![report(&error)],
    };
    assert_eq!(outcome, expected, "for\n{steps}");
}

/// Lines of the image's tree that start with one of `names`.
fn lines(bench: &Bench, dockerfile: &str, names: &[&str]) -> Vec<String> {
    let image = bench.build(dockerfile);
    let mut tree = bench.tree(&image);
    tree.retain(|line| names.iter().any(|name| line.starts_with(name)));
    tree
}

#[test]
fn a_working_folder_belongs_to_the_user() {
    let bench = Bench::with_base();
    let build = |steps: &str| lines(&bench, &format!("FROM base:1\n{steps}"), &["srv"]);
    assert_eq!(
        build("USER 1000\nWORKDIR /srv/app"),
        ["srv 755 1000:1000 /", "srv/app 755 1000:1000 /"]
    );
    // A name brings its own group; a folder that is there stays as it is.
    assert_eq!(
        build("WORKDIR /srv\nUSER app\nWORKDIR app\nUSER app:web\nWORKDIR web"),
        [
            "srv 755 0:0 /",
            "srv/app 755 1000:1001 /",
            "srv/app/web 755 1000:33 /"
        ]
    );
    assert_eq!(build("USER root\nWORKDIR /srv"), ["srv 755 0:0 /"]);
    assert_eq!(build("USER :33\nWORKDIR /srv"), ["srv 755 0:33 /"]);
    // Nobody could use it; that is said by what runs as this user.
    assert_eq!(build("USER nobody\nWORKDIR /srv"), ["srv 755 0:0 /"]);
    assert_eq!(build("ARG U\nUSER $U\nWORKDIR /srv"), ["srv 755 0:0 /"]);
    bench.build("FROM base:1\nUSER 1000\nWORKDIR /app\nRUN touch /app/package-lock.json");
}

#[test]
fn the_folder_that_content_is_copied_into_is_a_usual_one() {
    let secret = |bench: &Bench| {
        bench.file("src/index.html", "hi").mode("src", 0o700);
    };
    let tree = ["srv 755 0:0 /", "srv/index.html 644 0:0 \"hi\""];
    check(secret, "COPY src /srv", &tree);
    check(secret, "COPY src/ /srv/", &tree);
    check(secret, "COPY s* /srv", &tree);
    check(secret, "ADD src /srv", &tree);
    check(secret, "COPY --link src /srv", &tree);
    // Neither it nor the folders above it are meant by --chmod; they are by --chown.
    check(
        secret,
        "COPY --chmod=0600 --chown=5:6 src /srv/a",
        &[
            "srv 755 5:6 /",
            "srv/a 755 5:6 /",
            "srv/a/index.html 600 5:6 \"hi\"",
        ],
    );
    let bench = Bench::with_base();
    bench.file("x", "x");
    let owned = "FROM base:1 AS a\nUSER app\nWORKDIR /data/sub\nFROM scratch\nCOPY x /x\n\
                 COPY --from=a /data /srv";
    assert_eq!(
        lines(&bench, owned, &["srv"]),
        ["srv 755 0:0 /", "srv/sub 755 1000:1001 /"]
    );
    // A bind mount shows the folder itself.
    bench.file("src/y", "y").mode("src", 0o750);
    bench.build("FROM base:1\nRUN --mount=type=bind,source=src,target=/src true");
    let last = bench.runner.last.lock().unwrap();
    assert!(matches!(
        &last.as_ref().unwrap().mounts[0],
        StepMount::Bind { target, .. } if target == "/src"
    ));
    drop(last);
    bench.build("FROM base:1\nRUN --mount=type=bind,source=src,target=/src ls -ld /src");
    assert!(
        bench.output()[0].starts_with("drwxr-x---"),
        "{:?}",
        bench.output()
    );
}

#[test]
fn variables_are_inherited_and_the_later_one_counts() {
    let bench = Bench::with_base();
    let output = |dockerfile: &str| {
        bench.build(dockerfile);
        bench.output()
    };
    let inherited = "FROM base:1 AS base\nARG V=1.2.3\nENV E=e\nFROM base AS build\n\
                     FROM build\nRUN echo $V $E";
    assert_eq!(output(inherited), ["1.2.3 e"]);
    // ARG hides an earlier ENV, also of the base image, and ENV an earlier ARG.
    let later = "FROM base:1 AS a\nENV V=env\nARG V=arg\nRUN echo $V\nFROM a\nRUN echo $V\n\
                 ENV V=env2\nRUN echo $V\nARG V=arg2\nENV W=$V\nRUN echo $V $W";
    assert_eq!(output(later), ["arg", "arg", "env2", "arg2 arg2"]);
    // The image has what ENV says.
    let image = bench.build("FROM base:1\nENV V=env\nARG V=arg");
    let env = &image.config.run.env;
    assert!(env.contains(&"V=env".to_owned()), "{env:?}");
    // Without a value ARG changes nothing; what the caller gives counts everywhere.
    assert_eq!(
        output("FROM base:1 AS a\nARG V=1\nFROM a\nARG V\nRUN echo $V"),
        ["1"]
    );
    let mut request = bench.request("FROM base:1 AS a\nARG V=1\nFROM a\nARG V=2\nRUN echo $V");
    request.args.insert("V".to_owned(), "given".to_owned());
    bench.try_request(&request).unwrap();
    assert_eq!(bench.output(), ["given"]);
    // Those of a stage that is only copied from are its own.
    assert_eq!(
        output(
            "FROM base:1 AS a\nARG V=1\nFROM base:1\nCOPY --from=a /etc/passwd /p\nRUN echo [$V]"
        ),
        ["[]"]
    );
}

#[test]
fn proxies_have_both_spellings() {
    let bench = Bench::with_base();
    let show = "FROM base:1\nRUN echo [$HTTP_PROXY][$http_proxy][$No_Proxy][$NO_PROXY][$no_proxy]";
    let mut request = bench.request(show);
    for (name, value) in [("HTTP_PROXY", "p"), ("No_Proxy", "n"), ("ftp_proxy", "")] {
        request.args.insert(name.to_owned(), value.to_owned());
    }
    bench.try_request(&request).unwrap();
    assert_eq!(bench.output(), ["[p][p][][n][n]"]);
    assert!(bench.warnings().is_empty(), "{:?}", bench.warnings());
    // What the Dockerfile says counts more, and neither spelling is part of the key.
    request
        .args
        .insert("http_proxy".to_owned(), "other".to_owned());
    bench.try_request(&request).unwrap();
    assert_eq!(bench.cached(), [true, true]);
    request.no_cache = true;
    bench.try_request(&request).unwrap();
    assert_eq!(bench.output(), ["[other][other][][n][n]"]);
}

#[test]
fn two_stars_are_any_number_of_folders() {
    let sample = |bench: &Bench| {
        bench
            .file("src/a.txt", "a")
            .file("src/x/b.txt", "b")
            .file("src/x/y/c.txt", "c")
            .file("src/x/y/d.md", "d")
            .file("other.txt", "o");
        for folder in ["src", "src/x", "src/x/y"] {
            bench.mode(folder, 0o755);
        }
    };
    let names = |steps: &str| {
        let bench = Bench::new();
        sample(&bench);
        let image = bench.build(&format!("FROM scratch\n{steps}"));
        let files = bench.tree(&image).into_iter();
        let files =
            files.filter_map(|line| Some(line.strip_suffix('"')?.split(' ').next()?.to_owned()));
        files.collect::<Vec<_>>()
    };
    for (pattern, expected) in [
        (
            "./src/**/*.txt",
            vec!["p/src/a.txt", "p/src/x/b.txt", "p/src/x/y/c.txt"],
        ),
        (
            "src/./**/*.txt",
            vec!["p/a.txt", "p/x/b.txt", "p/x/y/c.txt"],
        ),
        ("**/y/**", vec!["p/src/x/y/c.txt", "p/src/x/y/d.md"]),
        (
            "**/x",
            vec!["p/src/x/b.txt", "p/src/x/y/c.txt", "p/src/x/y/d.md"],
        ),
        ("s*/**/?.md", vec!["p/src/x/y/d.md"]),
        ("**.md", vec!["p/src/x/y/d.md"]),
    ] {
        assert_eq!(
            names(&format!("COPY --parents {pattern} /p/")),
            expected,
            "{pattern}"
        );
    }
    // Without --parents it is one folder, as in a shell.
    assert_eq!(names("COPY src/**/*.txt /p/"), ["p/b.txt"]);
}

#[test]
fn parents_are_as_the_source_has_them() {
    let sample = |bench: &Bench| {
        bench.file("a/b/c", "c").mode("a", 0o700).mode("a/b", 0o711);
    };
    check(
        sample,
        "COPY --parents a/b/c /p/",
        &[
            "p 755 0:0 /",
            "p/a 700 0:0 /",
            "p/a/b 711 0:0 /",
            "p/a/b/c 644 0:0 \"c\"",
        ],
    );
    check(
        sample,
        "COPY --parents --chmod=750 --chown=5:6 a/./b/c /p/",
        &["p 755 5:6 /", "p/b 750 5:6 /", "p/b/c 750 5:6 \"c\""],
    );
    let bench = Bench::with_base();
    let owned = "FROM base:1 AS s\nUSER 1000:1001\nWORKDIR /d/e\nRUN touch f\nFROM scratch\n\
                 COPY --from=s --parents /d/e/f /p/";
    assert_eq!(
        lines(&bench, owned, &["p"]),
        [
            "p 755 0:0 /",
            "p/d 755 1000:1001 /",
            "p/d/e 755 1000:1001 /",
            "p/d/e/f 644 1000:1001 \"\""
        ]
    );
}

#[test]
fn several_sources_go_into_a_folder_that_is_there() {
    let sample = |bench: &Bench| {
        bench.file("a", "1").file("b", "2").file("d/c", "3");
    };
    let both = [
        "app 755 0:0 /",
        "app/a 644 0:0 \"1\"",
        "app/b 644 0:0 \"2\"",
    ];
    check(sample, "WORKDIR /app\nCOPY a b /app", &both);
    check(sample, "WORKDIR /app\nWORKDIR /\nADD a b app", &both);
    // An earlier source makes the folder.
    check(
        sample,
        "COPY d a /app",
        &[
            "app 755 0:0 /",
            "app/a 644 0:0 \"1\"",
            "app/c 644 0:0 \"3\"",
        ],
    );
    check(
        sample,
        "COPY a b /app",
        &[
            "inline Dockerfile:2: cannot carry out COPY a b /app: /app is not a folder, and there \
             are several sources: end the destination with /",
        ],
    );
    check(
        sample,
        "COPY <<x <<y /app\n1\nx\n2\ny",
        &[
            "inline Dockerfile:2: cannot carry out COPY <<x <<y /app: /app is not a folder, and \
             there are several sources: end the destination with /",
        ],
    );
}

#[test]
fn an_empty_owner_or_mode_is_none() {
    let bench = Bench::with_base();
    bench.file("f", "f");
    let copied = |flags: &str| {
        let text = format!("FROM base:1\nARG NONE=\nARG USER\nCOPY {flags} f /new");
        lines(&bench, &text, &["new"])
    };
    for (flags, expected) in [
        ("--chown=:33", "0:33"),
        ("--chown=:web", "0:33"),
        ("--chown=app:", "1000:1001"),
        ("--chown=root:web", "0:33"),
        ("--chown=", "0:0"),
        ("--chown=$NONE --chmod=${NONE}", "0:0"),
        ("--chown=$USER:33", "0:33"),
        ("--from= --chmod=", "0:0"),
    ] {
        assert_eq!(
            copied(flags),
            [format!("new 644 {expected} \"f\"")],
            "{flags}"
        );
    }
    // An image without accounts has root all the same.
    check(
        |bench| {
            bench.file("f", "f");
        },
        "COPY --chown=root:root f /new",
        &["new 644 0:0 \"f\""],
    );
    let error = bench
        .try_build("FROM base:1\nCOPY --chown=4294967295 f /f")
        .unwrap_err();
    assert!(report(&error).contains("no user"), "{}", report(&error));
}

#[test]
fn an_archive_replaces_what_is_in_its_way() {
    let bench = Bench::new();
    let path = bench.context.join("a.tar");
    let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
    let mut add = |name: &str, kind: tar::EntryType, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o700);
        header.set_uid(7);
        header.set_gid(7);
        header.set_size(text.len() as u64);
        if kind == tar::EntryType::Symlink {
            header.set_size(0);
            builder.append_link(&mut header, name, text).unwrap();
        } else {
            builder
                .append_data(&mut header, name, text.as_bytes())
                .unwrap();
        }
    };
    add("./", tar::EntryType::Directory, "");
    add("folder", tar::EntryType::Regular, "file now");
    add("file/", tar::EntryType::Directory, "");
    add("file/in", tar::EntryType::Regular, "in");
    add("link/", tar::EntryType::Directory, "");
    add("link/new", tar::EntryType::Regular, "new");
    add("merged/", tar::EntryType::Directory, "");
    add("old", tar::EntryType::Symlink, "folder");
    builder.finish().unwrap();
    drop(builder);
    bench
        .file("have/folder/deep/x", "x")
        .file("have/file", "f")
        .file("have/aim/kept", "k")
        .file("have/merged/stays", "s")
        .file("have/old/y", "y");
    symlink("aim", bench.context.join("have/link")).unwrap();
    bench.mode("have/aim", 0o755);
    let image = bench.build("FROM scratch\nCOPY have /d\nADD a.tar /d");
    assert_eq!(
        bench.tree(&image),
        [
            // The folder itself is not what `./` in the archive says.
            "d 755 0:0 /",
            "d/aim 755 0:0 /",
            "d/aim/kept 644 0:0 \"k\"",
            "d/file 700 7:7 /",
            "d/file/in 700 7:7 \"in\"",
            "d/folder 700 7:7 \"file now\"",
            "d/link 700 7:7 /",
            "d/link/new 700 7:7 \"new\"",
            "d/merged 700 7:7 /",
            "d/merged/stays 644 0:0 \"s\"",
            "d/old 777 7:7 -> folder",
        ]
    );
}

#[test]
fn cache_mounts_differ_by_owner_and_mode() {
    let bench = Bench::with_base();
    let seen = |options: &str, name: &str| {
        let text = format!(
            "FROM base:1\nRUN --mount=type=cache,target=/c{options} ls -A /c; touch /c/{name}"
        );
        bench.build(&text);
        bench.output()
    };
    assert_eq!(seen("", "root"), [""; 0]);
    assert_eq!(seen(",uid=1000", "uid"), [""; 0]);
    assert_eq!(seen(",gid=1000", "gid"), [""; 0]);
    assert_eq!(seen(",mode=0700", "mode"), [""; 0]);
    assert_eq!(seen(",uid=1000", "again"), ["uid"]);
    assert_eq!(seen(",id=/c", "named"), ["root"]);
    let all = bench.dir.path().join("images/build-mounts");
    let mut kinds: Vec<String> = fs::read_dir(&all)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(fs::Metadata::is_dir)
        .map(|meta| {
            let mode = meta.permissions().mode() & 0o7777;
            format!("{mode:o} {}:{}", meta.uid(), meta.gid())
        })
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["700 0:0", "755 0:0", "755 0:1000", "755 1000:0"]);
}

#[test]
fn cache_mounts_are_their_projects_own() {
    let bench = Bench::with_base();
    let seen = |of: &str, name: &str| {
        let mut request = bench.request(&format!(
            "FROM base:1\nRUN --mount=type=cache,target=/c ls -A /c; touch /c/{name}"
        ));
        request.steps.cache_of = of.to_owned();
        bench.try_request(&request).expect("it builds");
        bench.output()
    };
    assert_eq!(seen("shop", "one"), [""; 0]);
    assert_eq!(seen("blog", "two"), [""; 0]);
    assert_eq!(seen("shop", "three"), ["one"]);
}

/// What a command made can hang on what no key says: a proxy, a secret, a cache mount.
#[test]
fn what_commands_made_is_their_projects_own() {
    let bench = Bench::with_base();
    let build = |of: &str| {
        let mut request = bench.request("FROM base:1\nCOPY f /f\nRUN touch /made");
        request.steps.cache_of = of.to_owned();
        bench.try_request(&request).expect("it builds");
        bench.cached()
    };
    bench.file("f", "f");
    assert_eq!(build("shop"), [true, false, false]);
    assert_eq!(build("blog"), [true, true, false]);
    assert_eq!(build("shop"), [true, true, true]);
    assert_eq!(bench.ran(), 2);
}

#[test]
fn what_others_left_is_found_and_not_changed() {
    let bench = Bench::with_base();
    let build = |of: &str, from: &[&str], no_cache: bool| {
        let mut request = bench.request("FROM base:1\nRUN touch /made");
        request.steps.cache_of = of.to_owned();
        request.steps.cache_from = from.iter().map(|of| (*of).to_owned()).collect();
        request.no_cache = no_cache;
        bench.try_request(&request).expect("it builds");
        bench.cached()[1]
    };
    assert!(!build("branch", &["main"], false));
    assert!(
        !build("main", &[], false),
        "a branch writes for itself alone"
    );
    assert!(build("other", &["nobody", "main"], false));
    assert!(
        !build("other", &[], false),
        "what was found was not taken over"
    );
    assert!(!build("third", &["main"], true));
}

#[test]
fn annotations_are_of_the_manifest() {
    let bench = Bench::with_base();
    let plain = bench.build("FROM base:1");
    let mut request = bench.request("FROM base:1");
    let pair = ("a.b/c".to_owned(), "d".to_owned());
    request.annotations.extend([pair]);
    let image = bench.try_request(&request).expect("it builds");
    assert_eq!(image.config_digest, plain.config_digest);
    let path = bench.images.blob_path(&image.manifest_digest);
    let manifest = std::fs::read_to_string(path).expect("there");
    assert!(
        manifest.contains(r#""annotations":{"a.b/c":"d"}"#),
        "{manifest}"
    );
}

#[test]
fn a_named_pipe_is_carried_and_a_device_is_named() {
    let bench = Bench::new();
    bench.file("f", "f");
    let mode = Mode::from_raw_mode(0o640);
    mknodat(CWD, bench.context.join("pipe"), FileType::Fifo, mode, 0).unwrap();
    bench.mode("pipe", 0o640);
    let socket = bench.context.join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let image = bench.build("FROM scratch\nCOPY --chown=5:6 . /all/");
    assert_eq!(
        bench.tree(&image),
        ["all 755 5:6 /", "all/f 644 5:6 \"f\"", "all/pipe 640 5:6 …"]
    );
    bench.build("FROM scratch\nCOPY --chown=5:6 . /all/");
    assert_eq!(bench.cached(), [true, true]);
    let null = bench.context.join("null");
    mknodat(
        CWD,
        null,
        FileType::CharacterDevice,
        mode,
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    let error = bench.try_build("FROM scratch\nCOPY . /all/").unwrap_err();
    assert_eq!(
        report(&error),
        "inline Dockerfile:2: cannot carry out COPY . /all/: null is a device, which no build \
         context can hold"
    );
}

#[test]
fn a_sparse_file_stays_sparse() {
    let bench = Bench::with_base();
    let sparse = fs::File::create(bench.context.join("disk")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let image =
        bench.build("FROM base:1 AS a\nCOPY disk /disk\nFROM scratch\nCOPY --from=a /disk /disk");
    let layers = bench.images.ensure_unpacked(&image).unwrap();
    let meta = fs::metadata(layers[0].join("disk")).unwrap();
    assert_eq!(meta.len(), 64 << 20);
    assert!(meta.blocks() < 2048, "{} blocks", meta.blocks());
}

#[test]
fn a_trigger_may_take_files_from_a_stage() {
    let bench = Bench::with_base();
    let mut request = bench.request("FROM base:1\nONBUILD COPY --from=tools /made /taken");
    request.tags = vec!["trigger:1".parse().unwrap()];
    bench.try_request(&request).unwrap();
    let image = bench.build(
        "FROM base:1 AS start\nRUN echo made > /made\nFROM start AS tools\nFROM trigger:1\nRUN cat /taken",
    );
    assert_eq!(bench.output(), ["made"]);
    assert_eq!(bench.text(&image, "taken"), "made\n");
    // The steps that came to be needed on the way are counted.
    let events = bench.events.lock().unwrap();
    let mut counted = events.iter().filter_map(|event| match event {
        havre_image::builder::BuildEvent::StepStarted { index, steps, .. } => {
            Some((*index, *steps))
        }
        _ => None,
    });
    assert_eq!(counted.next_back(), Some((5, 5)));
    drop(events);
    // A trigger of a stage of this file, and one whose stage comes too late.
    bench.build(
        "FROM base:1 AS t\nONBUILD COPY --from=other /etc/passwd /p\nFROM base:1 AS other\nFROM t",
    );
    let error = bench
        .try_build("FROM trigger:1 AS a\nFROM base:1 AS tools")
        .map(drop);
    assert!(error.is_ok(), "the stage with the trigger is not needed");
    let error = bench
        .try_build("FROM trigger:1 AS a\nFROM base:1 AS tools\nFROM a")
        .unwrap_err();
    assert!(
        report(&error).contains("stage tools (line 2) stands behind this one"),
        "{}",
        report(&error)
    );
}
