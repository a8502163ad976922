//! RUN and what surrounds it: variables, users, mounts, scripts, the resulting configuration.

use std::fs;

use havre_image::ImageConfig;
use havre_image::builder::StepMount;

use super::support::Bench;

#[test]
fn a_multi_stage_build_gives_a_working_image() {
    let bench = Bench::with_base();
    bench.file("src/main.txt", "source");
    let image = bench.build(
        r#"ARG SUFFIX=v1
FROM base:1 AS build
ARG SUFFIX
WORKDIR /src
COPY src/ .
RUN mkdir out && cat main.txt > out/app && echo "$SUFFIX" >> out/app && rm main.txt

FROM base:1 AS unused
RUN false

FROM base:1
LABEL a=1 "b c"="d $PATH"
ENV MODE=production GREETING="hello world"
ENV MODE=test OLD=$MODE
WORKDIR /app/
WORKDIR data
COPY --from=build --chown=app:app /src/out/app ../bin/
USER app
EXPOSE 80 53/udp 8000-8001
VOLUME /app/data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD /app/bin/app || exit 1
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT ["/app/bin/app"]
CMD ["--serve"]
"#,
    );
    assert_eq!(
        bench.text(&image, "app/bin/app"),
        "source\nv1\n".replace("source\n", "source")
    );
    let run = &image.config.run;
    assert_eq!(run.user, "app");
    assert_eq!(run.working_dir, "/app/data");
    assert_eq!(
        run.env[1..],
        ["MODE=test", "GREETING=hello world", "OLD=production"]
    );
    assert!(run.env[0].starts_with("PATH=/usr/local/sbin"));
    assert_eq!(
        run.entrypoint.as_deref(),
        Some(&["/app/bin/app".to_owned()][..])
    );
    assert_eq!(run.cmd.as_deref(), Some(&["--serve".to_owned()][..]));
    assert_eq!(run.stop_signal.as_deref(), Some("SIGINT"));
    let ports: Vec<&str> = run.exposed_ports.keys().map(String::as_str).collect();
    assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
    let health = run.healthcheck.as_ref().expect("a health check");
    assert_eq!(health.test, ["CMD-SHELL", "/app/bin/app || exit 1"]);
    assert_eq!((health.interval, health.retries), (5_000_000_000, 2));
    assert!(run.labels["b c"].starts_with("d /usr/local"));
    assert_eq!(
        image
            .config
            .history
            .iter()
            .filter(|entry| !entry.empty_layer)
            .count(),
        3
    );
    assert_eq!(image.config.rootfs.diff_ids.len(), image.layers.len());
    assert_eq!(bench.ran(), 1, "the unused stage is not built");
}

#[test]
fn commands_see_arguments_and_variables() {
    let bench = Bench::with_base();
    let mut request = bench.request(
        "FROM base:1\nARG A=default\nARG B\nARG C=${A}-c\nENV A=env\nRUN echo \"$A,$B,$C,$D,$HTTP_PROXY\"\n",
    );
    for (name, value) in [
        ("B", "b"),
        ("D", "d"),
        ("HTTP_PROXY", "http://proxy.example"),
    ] {
        request.args.insert(name.to_owned(), value.to_owned());
    }
    let image = bench.try_request(&request).expect("it builds");
    assert_eq!(bench.output(), ["env,b,default-c,,http://proxy.example"]);
    assert_eq!(
        bench.warnings(),
        ["build argument D is given, but no ARG declares it"]
    );
    let text = format!("{:?}", image.config);
    assert!(
        !text.contains("proxy.example"),
        "a proxy is no part of the image: {text}"
    );
}

#[test]
fn shells_scripts_and_documents() {
    let bench = Bench::with_base();
    bench.build(
        "FROM base:1\nRUN <<EOF\nset -e\necho one $X\necho two\nEOF\n\
         RUN <<'S'\n#!/bin/cat\nhello\nS\n\
         RUN cat <<A - <<\"B\" && echo end\nx\nA\n$y\nB\n\
         SHELL [\"/bin/sh\", \"-uc\"]\nRUN echo $-\nRUN [\"/bin/echo\", \"$HOME\"]\n",
    );
    assert_eq!(
        bench.output(),
        [
            "one",
            "two",
            "#!/bin/cat",
            "hello",
            "$y",
            "end",
            "uc",
            "$HOME"
        ]
    );
}

#[test]
fn users_and_folders_apply() {
    let bench = Bench::with_base();
    let image = bench.build(
        "FROM base:1\nWORKDIR /w\nRUN touch a\nUSER 1000:1001\nRUN id -u; id -g; touch /tmp/b 2>&1 || true\n\
         USER root\nRUN [\"/bin/touch\", \"c\"]",
    );
    assert_eq!(bench.output()[..2], ["1000", "1001"]);
    let tree = bench.tree(&image);
    assert!(
        tree.iter().any(|line| line.starts_with("w/a 644 0:0")),
        "{tree:?}"
    );
    assert!(
        tree.iter().any(|line| line.starts_with("w/c 644 0:0")),
        "{tree:?}"
    );
}

#[test]
fn removed_files_are_gone() {
    let bench = Bench::with_base();
    let image = bench.build("FROM base:1\nRUN touch /x && mkdir /d && touch /d/y\nRUN rm -r /x /d");
    let tree = bench.tree(&image);
    assert!(
        !tree
            .iter()
            .any(|line| line.starts_with("x ") || line.starts_with("d")),
        "{tree:?}"
    );
}

#[test]
fn mounts_serve_the_step_and_leave_nothing() {
    let bench = Bench::with_base();
    bench
        .file("conf/app.conf", "setting")
        .file("conf/hidden", "h")
        .file(".dockerignore", "conf/hidden");
    let dockerfile = |step: &str| {
        format!(
            "FROM base:1 AS tool\nRUN echo tool > /tool\nFROM base:1\nARG DIR=/root/.cache/x\n\
             RUN --mount=type=cache,target=$DIR,id=c --mount=type=tmpfs,target=/mnt/t \
             --mount=target=/src,source=conf --mount=from=tool,source=/tool,target=/t/tool \
             ls /src; cat /src/app.conf; cat /t/tool; touch /mnt/t/x; echo {step} >> $DIR/log; \
             cat $DIR/log; touch /made"
        )
    };
    let image = bench.build(&dockerfile("1"));
    assert_eq!(bench.output(), ["app.conf", "settingtool", "1"]);
    assert_eq!(bench.top_layer(&image), ["etc", "made", "root"]);
    let image = bench.build(&dockerfile("2"));
    assert_eq!(bench.output(), ["app.conf", "settingtool", "1", "2"]);
    assert_eq!(bench.top_layer(&image), ["etc", "made", "root"]);
    // What a mount shows is part of the key.
    let ran = bench.ran();
    bench.build(&dockerfile("2"));
    assert_eq!(bench.ran(), ran);
    bench.file("conf/hidden", "changed").build(&dockerfile("2"));
    assert_eq!(bench.ran(), ran);
    bench
        .file("conf/app.conf", "changed")
        .build(&dockerfile("2"));
    assert_eq!(bench.ran(), ran + 1);
}

#[test]
fn the_network_can_be_taken_away() {
    let bench = Bench::with_base();
    bench.build("FROM base:1\nRUN --network=none ls /\nRUN true");
    let last = bench
        .runner
        .last
        .lock()
        .expect("no panic")
        .clone()
        .expect("a step");
    assert!(last.network);
    bench.build("FROM base:1\nRUN --network=none ls /tmp");
    let last = bench
        .runner
        .last
        .lock()
        .expect("no panic")
        .clone()
        .expect("a step");
    assert!(!last.network);
}

#[test]
fn the_hosts_ca_is_seen_by_the_step_only() {
    let bench = Bench::with_base();
    let bundle = bench.dir.path().join("ca.pem");
    fs::write(&bundle, "PEM").expect("a file");
    let dockerfile = "FROM base:1\nENV CURL_CA_BUNDLE=/mine\nRUN cat $SSL_CERT_FILE; echo $CURL_CA_BUNDLE; cat $APT_CONFIG; touch /x";
    let mut request = bench.request(dockerfile);
    request.host_ca = Some(bundle);
    let image = bench.try_request(&request).expect("it builds");
    assert_eq!(
        bench.output(),
        ["PEM/mine", "Acquire::https::CaInfo \"/dev/havre-ca.crt\";"]
    );
    assert_eq!(bench.top_layer(&image), ["etc", "x"]);
    let text = format!("{:?}", image.config);
    assert!(
        !text.contains("havre-ca") && !text.contains("SSL_CERT_FILE="),
        "{text}"
    );
    let last = bench
        .runner
        .last
        .lock()
        .expect("no panic")
        .clone()
        .expect("a step");
    assert!(last.mounts.iter().all(|mount| match mount {
        StepMount::Bind {
            target, read_only, ..
        } => target.starts_with("/dev/") && *read_only,
        StepMount::Tmpfs { .. } | StepMount::Secret { .. } => false,
    }));
    // The same result serves builds without it.
    let again = bench.build(dockerfile);
    assert_eq!(again.manifest_digest, image.manifest_digest);
    assert_eq!(bench.ran(), 1);
}

#[test]
fn commands_are_inherited_or_reset() {
    let bench = Bench::new();
    let mut config = ImageConfig::for_this_machine();
    config.run.cmd = Some(vec!["old".to_owned()]);
    config.run.env = vec!["PATH=/bin".to_owned(), "KEEP=1".to_owned()];
    bench.make_base(config);
    let cmd = |dockerfile: &str| bench.build(dockerfile).config.run.cmd;
    assert_eq!(cmd("FROM base:1\nENV X=1"), Some(vec!["old".to_owned()]));
    assert_eq!(cmd("FROM base:1\nENTRYPOINT [\"e\"]"), None);
    assert_eq!(
        cmd("FROM base:1\nCMD [\"n\"]\nENTRYPOINT [\"e\"]"),
        Some(vec!["n".to_owned()])
    );
    let image = bench.build("FROM base:1\nENV PATH=/opt:$PATH");
    assert_eq!(image.config.run.env, ["PATH=/opt:/bin", "KEEP=1"]);
}

#[test]
fn triggers_fire_in_the_next_build() {
    let bench = Bench::with_base();
    bench.file("app.txt", "app");
    let mut request = bench.request(
        "FROM base:1\nONBUILD COPY app.txt /app\nONBUILD RUN echo built > /log\nONBUILD ENV T=1",
    );
    request.tags = vec!["parent:1".parse().expect("a name")];
    let parent = bench.try_request(&request).expect("it builds");
    assert_eq!(parent.config.run.on_build.len(), 3);
    let child = bench.build("FROM parent:1\nRUN cat /log");
    assert_eq!(bench.output(), ["built"]);
    assert_eq!(bench.text(&child, "app"), "app");
    assert!(child.config.run.on_build.is_empty());
    assert!(child.config.run.env.contains(&"T=1".to_owned()));
    // A stage hands its triggers on as an image does.
    bench.build("FROM base:1 AS a\nONBUILD RUN echo fired\nFROM a\nRUN echo then");
    assert_eq!(bench.output(), ["fired", "then"]);
}

#[test]
fn names_and_labels_of_the_request_are_set() {
    let bench = Bench::with_base();
    let mut request = bench.request("FROM base:1 AS first\nENV X=1\nFROM base:1");
    request.target = Some("first".to_owned());
    request.labels.insert("by".to_owned(), "me".to_owned());
    request.tags.push("other:2".parse().expect("a name"));
    let image = bench.try_request(&request).expect("it builds");
    assert_eq!(image.config.run.labels["by"], "me");
    assert!(image.config.run.env.contains(&"X=1".to_owned()));
    let other = "other:2".parse().expect("a name");
    let other = bench
        .images
        .resolve(&other)
        .expect("the store works")
        .expect("it is named");
    assert_eq!(other.manifest_digest, image.manifest_digest);
    // Without one it is there all the same.
    let known = bench.images.list().expect("the store works").len();
    request.tags.clear();
    request.labels.insert("by".to_owned(), "you".to_owned());
    let nameless = bench.try_request(&request).expect("it builds");
    assert!(bench.images.image(nameless.manifest_digest).is_ok());
    assert_eq!(bench.images.list().expect("it works").len(), known);
}

#[test]
fn times_can_be_fixed() {
    let bench = Bench::with_base();
    let mut request = bench.request("FROM base:1\nRUN touch /x\nENV A=1");
    request
        .args
        .insert("SOURCE_DATE_EPOCH".to_owned(), "0".to_owned());
    let image = bench.try_request(&request).expect("it builds");
    assert_eq!(
        image.config.created.as_deref(),
        Some("1970-01-01T00:00:00Z")
    );
    assert!(bench.warnings().is_empty());
}
