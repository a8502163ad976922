//! What a Dockerfile and its context may cost, and what is said when they cost more.

use std::fs;

use havre_image::builder::{BuildError, DockerfileSource};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::support::{Bench, report};
use crate::support::wait_until;

fn refused(dockerfile: &str) -> String {
    report(&Bench::with_base().try_build(dockerfile).unwrap_err())
}

/// Lines that each make a variable twice as long as the one before.
fn doubling(keyword: &str, lines: usize) -> String {
    let mut text = format!("{keyword} A0=aaaaaaaaaa\n");
    for line in 1..=lines {
        let before = line - 1;
        text.push_str(&format!("{keyword} A{line}=${{A{before}}}${{A{before}}}\n"));
    }
    text
}

#[test]
fn variables_do_not_grow_without_bound() {
    let error = refused(&format!("{}FROM base:1", doubling("ARG", 40)));
    assert!(error.contains("expand to more than 256 KiB"), "{error}");
    assert!(error.starts_with("inline Dockerfile:16: "), "{error}");
    for keyword in ["ARG", "ENV"] {
        let error = refused(&format!("FROM base:1\n{}", doubling(keyword, 40)));
        assert!(error.contains("expand to more than 256 KiB"), "{error}");
    }
    // Many long ones, none too long by itself.
    let many: String = (0..40).map(|n| format!("LABEL l{n}=$A13\n")).collect();
    let error = refused(&format!("FROM base:1\n{}{many}", doubling("ARG", 13)));
    assert!(
        error.contains("more than 1024 KiB larger than its text"),
        "{error}"
    );
    // Also over stages, and through the forms that replace.
    let stages: String = (0..40)
        .map(|n| format!("FROM s{n} AS s{}\nENV e{n}=$A13\n", n + 1))
        .collect();
    let error = refused(&format!(
        "FROM base:1 AS s0\n{}{stages}",
        doubling("ARG", 13)
    ));
    assert!(error.contains("more than 1024 KiB larger"), "{error}");
    let error = refused(&format!(
        "FROM base:1\n{}ARG X=${{A11//a/$A11}}",
        doubling("ARG", 11)
    ));
    assert!(error.contains("expand to more than 256 KiB"), "{error}");
    // What no variable makes is only as long as the file.
    let long = "x".repeat(600 << 10);
    Bench::with_base().build(&format!(
        "FROM base:1\nLABEL l={long}\nCOPY <<f /f\n{long}\nf\n"
    ));
}

#[test]
fn there_are_only_so_many_stages_instructions_and_layers() {
    let stages: String = (0..501).map(|n| format!("FROM base:1 AS s{n}\n")).collect();
    let error = refused(&stages);
    assert!(error.contains("more than 500 stages"), "{error}");
    let error = refused(&format!("FROM base:1\n{}", "ENV a=b\n".repeat(10_000)));
    assert!(error.contains("more than 10000 instructions"), "{error}");
    let bench = Bench::new();
    bench.image_of_layers("many:1", 478);
    let image = bench.build("FROM many:1\nWORKDIR /1\nRUN touch /last\nCMD x");
    assert_eq!(image.layers.len(), 480);
    let error = bench
        .try_build("FROM many:1\nWORKDIR /1\nRUN touch /last\nCMD x\nWORKDIR /2")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "inline Dockerfile:5: WORKDIR /2 would be layer 481 of its image, and the kernel mounts no \
         more than 480"
    );
    assert!(error.hint().unwrap().contains("join RUN"));
    assert!(matches!(error, BuildError::Layers { .. }));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let bench = Bench::with_base();
    let make = |name: &str| {
        let path = bench.context.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        path
    };
    let pipe = make(".dockerignore");
    let error = bench.try_build("FROM base:1\nRUN true").unwrap_err();
    assert_eq!(
        report(&error),
        format!(
            "cannot read {}: it is a named pipe, not a file",
            pipe.display()
        )
    );
    fs::remove_file(&pipe).unwrap();
    fs::create_dir(&pipe).unwrap();
    let error = bench.try_build("FROM base:1\nRUN true").unwrap_err();
    assert!(
        report(&error).ends_with("it is a folder, not a file"),
        "{}",
        report(&error)
    );
    fs::remove_dir(&pipe).unwrap();
    make("Dockerfile.dockerignore");
    make("pipe");
    for (dockerfile, reason) in [
        ("pipe", "it is a named pipe, not a file"),
        ("/dev/zero", "it is a device, not a file"),
        ("..", "it is a folder, not a file"),
    ] {
        let mut request = bench.request("");
        request.dockerfile = DockerfileSource::Path(dockerfile.into());
        let error = bench.try_request(&request).unwrap_err();
        assert!(report(&error).ends_with(reason), "{}", report(&error));
    }
    bench.file("Dockerfile", "FROM base:1");
    let mut request = bench.request("");
    request.dockerfile = DockerfileSource::Path("Dockerfile".into());
    let error = bench.try_request(&request).unwrap_err();
    assert!(report(&error).ends_with("it is a named pipe, not a file"));
    // The accounts of an image are files of strangers too.
    let odd = "FROM base:1\nRUN rm /etc/passwd && mkfifo /etc/passwd || busybox mkfifo /etc/passwd\n\
               COPY --chown=app pipe /p";
    let error = bench.try_build(odd).unwrap_err();
    assert!(
        report(&error).contains("no user \"app\""),
        "{}",
        report(&error)
    );
}

#[test]
fn reading_a_context_ends_when_it_is_cancelled() {
    let bench = Bench::new();
    // An hour of zeros.
    let huge = fs::File::create(bench.context.join("huge")).unwrap();
    huge.set_len(1 << 41).unwrap();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the instruction", || {
                let events = bench.events.lock().unwrap();
                format!("{events:?}").contains("COPY huge")
            });
            bench.cancel.cancel();
        });
        bench.try_build("FROM scratch\nCOPY huge /huge")
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error, BuildError::Cancelled), "{}", report(&error));
}

#[test]
fn what_a_stage_lacks_is_said_of_the_stage() {
    let bench = Bench::with_base();
    let fail = |text: &str| bench.try_build(text).unwrap_err();
    let error = fail("FROM base:1 AS build\nFROM scratch\nCOPY --from=build /dist /d");
    assert_eq!(
        report(&error),
        "inline Dockerfile:3: cannot carry out COPY --from=build /dist /d: the stage build (line 1) \
         has no \"/dist\""
    );
    assert!(error.hint().unwrap().contains("--from start at its root"));
    let error = fail("FROM base:1\nFROM scratch\nCOPY --from=0 /dist /d");
    assert!(report(&error).ends_with("the stage 0 (line 1) has no \"/dist\""));
    let error = fail("FROM scratch\nCOPY --from=base:1 /dist /d");
    assert!(report(&error).ends_with("the image base:1 has no \"/dist\""));
    let error = fail("FROM base:1 AS b\nFROM base:1\nRUN --mount=from=b,source=/no,target=/n true");
    assert!(
        report(&error).ends_with("the stage b (line 1) has no \"/no\""),
        "{}",
        report(&error)
    );
    let error = fail("FROM scratch\nCOPY dist /d");
    assert!(report(&error).ends_with(": \"dist\" is not there"));
    assert!(
        error
            .hint()
            .unwrap()
            .contains("relative to the build context")
    );
}

#[test]
fn a_stage_that_may_be_meant_is_named() {
    let bench = Bench::with_base();
    for text in [
        "FROM base:1 AS builder\nFROM base:1\nCOPY --from=bulider /x /x",
        "FROM base:1 AS builder\nFROM bilder",
        "FROM base:1 AS builder\nFROM base:1\nRUN --mount=from=build,target=/x true",
    ] {
        let error = bench.try_build(text).unwrap_err();
        let hint = error.hint().unwrap_or_default();
        assert!(hint.ends_with("did you mean builder?"), "{text}: {hint}");
    }
    let mut request = bench.request("FROM base:1 AS builder\nFROM base:1");
    request.target = Some("biulder".to_owned());
    let error = bench.try_request(&request).unwrap_err();
    assert!(
        report(&error).contains("no stage \"biulder\" to build; did you mean builder?"),
        "{}",
        report(&error)
    );
    let error = bench
        .try_build("FROM base:1 AS builder\nFROM nginx")
        .unwrap_err();
    assert!(error.hint().unwrap().contains("havre image import"));
}

#[test]
fn long_lines_are_cut() {
    let bench = Bench::with_base();
    let long = "x".repeat(100_000);
    for text in [
        format!("FROM base:1\nRUN exit 3 # {long}"),
        format!("FROM base:1\nCOPY {long} /d"),
        format!("FROM base:1\nCOPPY {long}"),
        format!("FROM base:1\nLABEL {long}"),
        format!("FROM base:1\nENV {long}=${{"),
        format!("FROM {long}"),
        format!("FROM base:1 AS a\nFROM base:1\nCOPY --from={long} a b"),
    ] {
        let error = bench.try_build(&text).unwrap_err();
        let shown = report(&error);
        assert!(
            shown.chars().count() < 1200,
            "{} characters: {}",
            shown.len(),
            &shown[..400]
        );
        let instruction = error.instruction().unwrap_or_default();
        assert!(instruction.chars().count() <= 201, "{instruction}");
    }
    let events = bench.events.lock().unwrap();
    assert!(format!("{events:?}").len() < 3000);
}

#[test]
fn folders_lie_only_so_deep_in_each_other() {
    let bench = Bench::with_base();
    let deep = |levels: usize| {
        format!(
            "FROM base:1 AS deep\nRUN mkdir /top && cd /top && i=0; \
             while [ $i -lt {levels} ]; do mkdir d && cd d; i=$((i+1)); done\n\
             FROM scratch\nCOPY --from=deep /top /copy"
        )
    };
    bench.build(&deep(300));
    let error = bench.try_build(&deep(600)).unwrap_err();
    assert!(
        report(&error).contains("folders lie more than 400 deep in each other, at top/d/d"),
        "{}",
        report(&error)
    );
    // In the build context, also where nothing of it is copied.
    let mut path = bench.context.clone();
    for _ in 0..600 {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    for text in ["COPY . /c", "COPY --parents **/x /c/"] {
        let error = bench
            .try_build(&format!("FROM scratch\n{text}"))
            .unwrap_err();
        assert!(report(&error).contains("more than 400 deep"), "{text}");
    }
}
