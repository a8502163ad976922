//! What a build is given beside its context: secrets, further contexts, settings of its steps.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use havre_image::builder::{
    BuildError, BuildRequest, DockerfileSource, NamedContext, Reach, Secret,
};

use super::support::{Bench, report};

const VALUE: &str = "hunter2-and-more";

fn with_secret(bench: &Bench, dockerfile: &str, value: &str) -> BuildRequest {
    let mut request = bench.request(dockerfile);
    let secret = Secret::new(value.as_bytes());
    request.secrets.insert("token".to_owned(), secret);
    request
}

/// Files below a folder that contain the text.
fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let found = std::process::Command::new("grep")
        .args(["-rlas", "-e", text])
        .arg(dir)
        .output()
        .expect("grep");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    found.lines().map(str::to_owned).collect()
}

#[test]
fn a_secret_reaches_its_step_and_nothing_else() {
    let bench = Bench::with_base();
    let request = with_secret(
        &bench,
        r#"FROM base:1
RUN --mount=type=secret,id=token cat /run/secrets/token; ls -ln /run/secrets
RUN --mount=type=secret,id=token,target=/etc/deep/key,mode=0440,uid=7,gid=8 cat /etc/deep/key; ls -ln /etc/deep
RUN --mount=type=secret,id=token,env=TOKEN echo "env $TOKEN"; ls /run/secrets 2>&1 || true
RUN --mount=type=secret,target=/root/token,env=BOTH echo "both $BOTH $(cat /root/token)"
RUN --mount=type=secret,id=other ls /run/secrets/other 2>&1; echo none
RUN echo "after $TOKEN"; ls /run /etc/deep 2>&1; touch /done
"#,
        VALUE,
    );
    let image = bench
        .try_request(&request)
        .unwrap_or_else(|error| panic!("{}", report(&error)));
    let output = bench.output().join("\n");
    assert_eq!(output.matches(VALUE).count(), 5, "{output}");
    for (mode, owner) in [
        ("-r--------", " 0        0  "),
        ("-r--r-----", " 7        8  "),
    ] {
        let found = output
            .lines()
            .any(|it| it.contains(mode) && it.contains(owner));
        assert!(found, "{mode}{owner}: {output}");
    }
    assert!(
        output.contains(&format!("both {VALUE} {VALUE}")),
        "{output}"
    );
    assert!(output.contains("after \n"), "{output}");
    for folder in ["/run/secrets", "/run", "/etc/deep"] {
        let gone = format!("ls: {folder}: No such file or directory");
        assert!(output.contains(&gone), "{folder}: {output}");
    }
    assert_eq!(bench.top_layer(&image), ["done", "etc"]);
    assert!(!format!("{image:?}{request:?}").contains(VALUE));
    assert_eq!(files_with(bench.dir.path(), VALUE), [""; 0]);
    // What the search would have found.
    bench.file("leak", VALUE);
    assert_eq!(files_with(bench.dir.path(), VALUE).len(), 1);
}

#[test]
fn another_value_of_a_secret_is_no_reason_to_run_a_step_again() {
    let bench = Bench::with_base();
    let dockerfile =
        "FROM base:1\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token > /n\n";
    let first = bench
        .try_request(&with_secret(&bench, dockerfile, "one"))
        .expect("it builds");
    let second = bench
        .try_request(&with_secret(&bench, dockerfile, "twelve"))
        .expect("it builds");
    assert_eq!(bench.ran(), 1);
    assert_eq!(first.manifest_digest, second.manifest_digest);
}

#[test]
fn a_secret_that_cannot_be_given_is_an_error_where_it_is_needed() {
    let bench = Bench::with_base();
    let error = |dockerfile: &str, value: &[u8]| {
        let mut request = bench.request(dockerfile);
        let secret = Secret::new(value);
        request.secrets.insert("token".to_owned(), secret);
        bench.try_request(&request).expect_err("it cannot be built")
    };
    let missing = error(
        "FROM base:1\nRUN --mount=type=secret,id=key,required=true x\n",
        b"x",
    );
    assert_eq!(
        missing.to_string(),
        "inline Dockerfile:2: secret `key` is required, and the build is not given it"
    );
    assert!(matches!(missing, BuildError::Secret { .. }));
    assert!(missing.hint().expect("a hint").contains("secrets"));
    let binary = error(
        "FROM base:1\nRUN --mount=type=secret,id=token,env=T x\n",
        b"\xff\xfe",
    );
    assert!(binary.to_string().contains("is no text"), "{binary}");
    let nameless = error("FROM base:1\nRUN --mount=type=secret,mode=0400 x\n", b"x");
    let text = nameless.to_string();
    assert!(text.contains("a secret needs id= or target="), "{text}");
    assert_eq!(bench.ran(), 0);
}

#[test]
fn further_contexts_are_folders_and_images() {
    let bench = Bench::with_base();
    let outside = bench.dir.path().join("outside");
    fs::create_dir_all(outside.join("docs")).expect("a folder");
    fs::write(outside.join("docs/read"), "one").expect("a file");
    fs::write(outside.join("docs/skip"), "x").expect("a file");
    fs::write(outside.join(".dockerignore"), "**/skip\n").expect("a file");
    std::os::unix::fs::chown(outside.join("docs/read"), Some(1000), Some(1000)).expect("owned");
    let tool = bench.build("FROM base:1\nRUN echo tool > /tool\n");
    let mut request = bench.request(
        r#"FROM base:1 AS hidden
RUN false
FROM start AS first
COPY --from=extra docs/ /docs/
COPY --from=hidden /tool /copied
RUN --mount=from=extra,source=docs,target=/mnt cat /mnt/read
FROM first
RUN ls /docs
"#,
    );
    for (name, context) in [
        ("extra", NamedContext::Folder(outside.clone())),
        ("start", NamedContext::Image("base:1".to_owned())),
        ("HIDDEN", NamedContext::Stored(tool.manifest_digest)),
    ] {
        request.contexts.insert(name.to_owned(), context);
    }
    let before = bench.ran();
    let image = bench
        .try_request(&request)
        .unwrap_or_else(|error| panic!("{}", report(&error)));
    assert_eq!(bench.output(), ["one", "read"]);
    assert_eq!(bench.text(&image, "copied"), "tool\n");
    let tree = bench.tree(&image).join("\n");
    assert!(tree.contains("docs/read 644 0:0 \"one\""), "{tree}");
    assert_eq!(bench.ran(), before + 2);

    bench.try_request(&request).expect("it builds");
    assert_eq!(bench.ran(), before + 2, "all is there already");
    fs::write(outside.join("docs/read"), "two").expect("a file");
    bench.try_request(&request).expect("it builds");
    assert_eq!(bench.output(), ["two", "read"]);

    let folder = bench.try_build("FROM extra\n");
    assert!(
        folder.is_err(),
        "without the context it is an image nobody has"
    );
    request.dockerfile = DockerfileSource::Inline("FROM extra\n".to_owned());
    let error = bench
        .try_request(&request)
        .expect_err("a folder is no image");
    assert!(
        error
            .to_string()
            .contains("take its files with COPY --from=extra"),
        "{error}"
    );
}

#[test]
fn steps_get_what_the_build_says() {
    let bench = Bench::with_base();
    let dockerfile = "FROM base:1\nRUN echo one\nRUN --network=default echo two\n";
    let mut request = bench.request(dockerfile);
    request.steps.offline = true;
    request.steps.shm_size_bytes = Some(1 << 20);
    request.steps.ulimits.insert("nofile".to_owned(), (10, 20));
    let host = ("db.example".to_owned(), vec!["192.0.2.1".to_owned()]);
    request.steps.hosts.extend([host]);
    bench.try_request(&request).expect("it builds");
    let last = bench
        .runner
        .last
        .lock()
        .expect("no panic")
        .clone()
        .expect("a step");
    assert!(!last.network);
    assert_eq!(last.shm_size_bytes, Some(1 << 20));
    assert_eq!(last.ulimits["nofile"], (10, 20));
    assert_eq!(last.hosts["db.example"], ["192.0.2.1"]);
    assert_eq!(bench.ran(), 2);
    // Neither limits nor memory change what a step makes; other names may.
    request.steps.shm_size_bytes = None;
    request.steps.ulimits.clear();
    bench.try_request(&request).expect("it builds");
    assert_eq!(bench.ran(), 2);
    request.steps.hosts.clear();
    bench.try_request(&request).expect("it builds");
    assert_eq!(bench.ran(), 4);
}

#[test]
fn what_a_link_has_put_in_the_place_of_what_may_be_read_is_not() {
    let bench = Bench::with_base();
    bench.file("a", "mine");
    let (own, outside) = (
        fs::canonicalize(&bench.context).expect("a context"),
        bench.dir.path().join("outside"),
    );
    fs::create_dir(&outside).expect("a folder");
    let secret = outside.join("secret");
    fs::write(&secret, "FROM base:1\n").expect("a file");
    let mut request = bench.request("FROM base:1\nCOPY . /all\nCOPY --from=extra . /extra\n");
    request.reach = Reach::new(move |real| match real.starts_with(&own) {
        true => Ok(()),
        false => Err(io::Error::other(format!("it is {}", real.display()))),
    });
    let place = |name: &str| bench.context.join(name);
    let with_extra = |path: PathBuf| {
        let mut request = request.clone();
        let extra = NamedContext::Folder(path);
        request.contexts.insert("extra".to_owned(), extra);
        request
    };
    bench
        .try_request(&with_extra(bench.context.clone()))
        .unwrap_or_else(|error| panic!("{}", report(&error)));
    let refused = |request: &BuildRequest, real: &Path| {
        let error = bench.try_request(request).expect_err("a refusal");
        let said = report(&error);
        assert!(
            said.contains(&format!("it is {}", real.display())),
            "{said}"
        );
    };

    symlink(&outside, place("extra")).expect("a link");
    refused(&with_extra(place("extra")), &outside);
    symlink(&secret, place("Dockerfile")).expect("a link");
    let mut by_file = with_extra(bench.context.clone());
    by_file.dockerfile = DockerfileSource::Path("Dockerfile".into());
    refused(&by_file, &secret);
    symlink(&secret, place(".dockerignore")).expect("a link");
    refused(&with_extra(bench.context.clone()), &secret);
    fs::remove_dir_all(&bench.context).expect("removed");
    symlink(&outside, &bench.context).expect("a link");
    refused(&with_extra(bench.context.clone()), &outside);
}
