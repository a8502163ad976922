//! What builds images, with a fake of the builder.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::thread;

use serde_json::{Value, json};

use crate::job::Job;

crate::tests![
    logging_in_lasts_until_the_end_of_the_job,
    names_of_images_come_from_the_event,
    other_platforms_are_refused,
    a_build_is_handed_to_the_builder,
    without_a_builder_it_says_so,
];

const LOGIN: &str = "docker/login-action";
const BUILD: &str = "docker/build-push-action";

fn logging_in_lasts_until_the_end_of_the_job() {
    let job = Job::new();
    job.main(LOGIN, &[("registry", "ghcr.io")])
        .badly("`username` and `password` must be given");
    job.write(
        "home/.docker/config.json",
        r#"{"auths":{"other.example":{"auth":"b3RoZXI="}},"x":1}"#,
    );
    let inputs = [
        ("registry", "ghcr.io"),
        ("username", "me"),
        ("password", "hush"),
    ];
    let done = job.main(LOGIN, &inputs).well();
    assert!(
        done.log.contains("::add-mask::hush") && done.log.contains("::add-mask::bWU6aHVzaA=="),
        "{}",
        done.log
    );
    let config = || serde_json::from_str::<Value>(&job.read("home/.docker/config.json")).unwrap();
    assert_eq!(
        config()["auths"]["ghcr.io"],
        json!({"auth": "bWU6aHVzaA=="})
    );
    let mode = fs::metadata(job.at("home/.docker/config.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    job.post(LOGIN, &[("logout", "false")], &done).well();
    assert!(config()["auths"]["ghcr.io"].is_object());
    job.post(LOGIN, &inputs, &done).well();
    assert_eq!(
        config(),
        json!({"auths": {"other.example": {"auth": "b3RoZXI="}}, "x": 1})
    );
    job.main(LOGIN, &inputs[1..]).well();
    assert!(config()["auths"]["https://index.docker.io/v1/"].is_object());
}

fn names_of_images_come_from_the_event() {
    let mut job = Job::new();
    let event = r#"{"repository":{"default_branch":"main","description":"A shop","license":{"spdx_id":"MIT"}}}"#;
    job.set(
        "GITHUB_EVENT_PATH",
        job.write("event.json", event).to_str().unwrap(),
    );
    job.set("GITHUB_REF", "refs/tags/v1.2.3");
    let inputs = [
        ("images", "ghcr.io/Acme/Shop\nname=acme/shop,enable=false"),
        ("tags", "type=semver,pattern={{version}}\ntype=sha"),
        (
            "labels",
            "org.opencontainers.image.title=Our shop\nteam=a=b",
        ),
        ("sep-annotations", ";"),
    ];
    let done = job.main("docker/metadata-action", &inputs).well();
    assert_eq!(done.output("version"), "1.2.3");
    assert_eq!(
        done.output("tags"),
        "ghcr.io/acme/shop:1.2.3\nghcr.io/acme/shop:sha-0000000\nghcr.io/acme/shop:latest"
    );
    assert_eq!(done.output("tag-names"), "1.2.3\nsha-0000000\nlatest");
    let labels: Vec<&str> = done.output("labels").lines().collect();
    assert!(
        labels[0].starts_with("org.opencontainers.image.created=2"),
        "{labels:?}"
    );
    let rest = [
        "org.opencontainers.image.description=A shop",
        "org.opencontainers.image.licenses=MIT",
        "org.opencontainers.image.revision=0000000000000000000000000000000000000000",
        "org.opencontainers.image.source=https://shop.localhost/acme/shop",
        "org.opencontainers.image.title=Our shop",
        "org.opencontainers.image.url=https://shop.localhost/acme/shop",
        "org.opencontainers.image.version=1.2.3",
        "team=a=b",
    ];
    assert_eq!(labels[1..], rest);
    assert!(
        done.output("annotations")
            .contains(";manifest:org.opencontainers.image.title=shop;")
    );
    let document: Value = serde_json::from_str(done.output("json")).unwrap();
    assert_eq!(document["labels"]["team"], "a=b");
    assert_eq!(document["tags"][0], "ghcr.io/acme/shop:1.2.3");
    assert_eq!(done.env["DOCKER_METADATA_OUTPUT_VERSION"], "1.2.3");
    job.main(
        "docker/metadata-action",
        &[("tags", "type=match,pattern=x")],
    )
    .badly("`type=match` of `tags` is not supported");
    job.main("docker/metadata-action", &[("context", "git")])
        .badly("`context` of docker/metadata-action");
}

fn other_platforms_are_refused() {
    let mut job = Job::new();
    let (own, other) = if cfg!(target_arch = "aarch64") {
        ("linux/arm64", "linux/amd64")
    } else {
        ("linux/amd64", "linux/arm64")
    };
    let done = job
        .main("docker/setup-qemu-action", &[("platforms", "all")])
        .well();
    assert!(
        done.log.contains("::notice::nothing is emulated"),
        "{}",
        done.log
    );
    assert_eq!(done.output("platforms"), own);
    job.main("docker/setup-qemu-action", &[("platforms", own)])
        .well();
    let both = format!("{own},{other}");
    job.main("docker/setup-qemu-action", &[("platforms", &both)])
        .badly("is not this machine's platform");
    job.main(BUILD, &[("platforms", &both)])
        .badly("is not this machine's platform");
    let done = job.main("docker/setup-buildx-action", &[]).well();
    assert!(
        done.log.contains("::warning::this run has no builder"),
        "{}",
        done.log
    );
    assert_eq!(
        (done.output("platforms"), done.output("status")),
        (own, "inactive")
    );
    job.set("HAVRE_BUILD_SOCKET", "/x");
    assert_eq!(
        job.main("docker/setup-buildx-action", &[])
            .well()
            .output("status"),
        "running"
    );
}

/// A builder that takes one build, and answers so.
fn builder(job: &mut Job, answers: &'static [&'static str]) -> thread::JoinHandle<Value> {
    let path = job.at("build.sock");
    fs::remove_file(&path).unwrap_or_default();
    let listener = UnixListener::bind(&path).unwrap();
    job.set("HAVRE_BUILD_SOCKET", path.to_str().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap())
            .read_line(&mut line)
            .unwrap();
        for answer in answers {
            stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
        serde_json::from_str(&line).unwrap()
    })
}

fn a_build_is_handed_to_the_builder() {
    let mut job = Job::new();
    job.write("work/shop/web/Dockerfile", "FROM scratch");
    job.write("work/shop/token", "of-file");
    job.set("NPM_TOKEN", "of-env");
    job.main(
        LOGIN,
        &[
            ("registry", "ghcr.io"),
            ("username", "me"),
            ("password", "hush"),
        ],
    )
    .well();
    let inputs = [
        ("context", "./web"),
        ("push", "true"),
        ("tags", "ghcr.io/acme/shop:1,ghcr.io/acme/shop:2"),
        ("build-args", "A=1\nB=2,3"),
        ("secrets", "one=in-clear"),
        ("secret-envs", "two=NPM_TOKEN"),
        ("secret-files", "three=token"),
        ("cache-from", "type=gha"),
    ];
    let fake = builder(
        &mut job,
        &[
            r#"{"line":"step 1"}"#,
            r#"{"built":{"image_id":"sha256:a","digest":"sha256:b"}}"#,
        ],
    );
    let done = job.main(BUILD, &inputs).well();
    let asked = fake.join().unwrap();
    assert_eq!(asked["context"], job.at("work/shop/web").to_str().unwrap());
    assert_eq!(
        asked["tags"],
        json!(["ghcr.io/acme/shop:1", "ghcr.io/acme/shop:2"])
    );
    assert_eq!(asked["build_args"], json!(["A=1", "B=2,3"]));
    assert_eq!(
        asked["secrets"],
        json!({"one": "in-clear", "two": "of-env", "three": "of-file"})
    );
    assert_eq!(asked["credentials"]["ghcr.io"]["auth"], "bWU6aHVzaA==");
    assert_eq!(
        (asked["push"].as_bool(), asked["version"].as_u64()),
        (Some(true), Some(1))
    );
    assert_eq!(
        (done.output("imageid"), done.output("digest")),
        ("sha256:a", "sha256:b")
    );
    for word in ["step 1", "::add-mask::in-clear", "::warning::`cache-from`"] {
        assert!(done.log.contains(word), "{word}: {}", done.log);
    }
    builder(&mut job, &[r#"{"failed":"line 1: unknown"}"#]);
    job.main(BUILD, &inputs)
        .badly("the image was not built: line 1: unknown");
    builder(&mut job, &[]);
    job.main(BUILD, &inputs)
        .badly("the builder ended without a word");
}

fn without_a_builder_it_says_so() {
    let job = Job::new();
    job.main(BUILD, &[])
        .badly("`actions/checkout` must come before");
    job.write("work/shop/Dockerfile", "FROM scratch");
    job.main(BUILD, &[])
        .badly("images cannot be built in a job yet");
    job.main(BUILD, &[("push", "true")])
        .badly("`push: true` needs `tags`");
    job.main(BUILD, &[("context", "https://github.com/a/b.git")])
        .badly("must be a folder");
    job.main(BUILD, &[("load", "true")])
        .badly("`load` of docker/build-push-action is not supported");
}
