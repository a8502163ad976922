//! What builds images, with a fake of the builder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::thread;

use havre_image::TarReader;
use serde_json::{Value, json};

use crate::job::Job;

crate::tests![
    logging_in_lasts_until_the_end_of_the_job,
    names_of_images_come_from_the_event,
    other_platforms_are_refused,
    a_build_is_handed_to_the_builder,
    a_build_that_fails_is_told_on_one_screen,
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

/// What a builder was asked, and the files that came along.
type Asked = (Value, BTreeMap<String, String>);

/// A strict fake of the builder: takes as many asks as there are lists of answers.
fn builder(job: &mut Job, answers: Vec<Vec<String>>) -> thread::JoinHandle<Vec<Asked>> {
    let path = job.at("images.sock");
    fs::remove_file(&path).unwrap_or_default();
    let listener = UnixListener::bind(&path).unwrap();
    job.set("HAVRE_BUILD_SOCKET", path.to_str().unwrap());
    thread::spawn(move || {
        let mut all = Vec::new();
        for answers in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let ask: Value = serde_json::from_str(&line).unwrap();
            let mut files = BTreeMap::new();
            if ask["build"].is_object() {
                let mut tar = TarReader::new(reader);
                while let Some(entry) = tar.next_entry().unwrap() {
                    let mut text = String::new();
                    (&mut tar)
                        .take(entry.size)
                        .read_to_string(&mut text)
                        .unwrap();
                    let before = files.insert(entry.display_path(), text);
                    assert_eq!(before, None, "{} came twice", entry.display_path());
                }
            }
            for answer in answers {
                stream.write_all(answer.as_bytes()).unwrap();
            }
            all.push((ask, files));
        }
        all
    })
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

const IMAGE: &str = r#"{"image":{"id":"sha256:a","digest":"sha256:b","bytes":3}}"#;

fn a_build_is_handed_to_the_builder() {
    let mut job = Job::new();
    job.write("work/shop/web/Dockerfile", "FROM scratch");
    job.write("work/shop/web/src/a.txt", "a");
    job.write("work/shop/web/left/out", "x");
    job.write("work/shop/web/.dockerignore", "left");
    job.write("work/shop/token", "of-file");
    job.set("NPM_TOKEN", "of-env");
    let login = [
        ("registry", "ghcr.io"),
        ("username", "me"),
        ("password", "hush"),
    ];
    job.main(LOGIN, &login).well();
    let inputs = [
        ("context", "{{defaultContext}}:web"),
        ("load", "true"),
        ("tags", "ghcr.io/acme/shop:1,ghcr.io/acme/shop:2"),
        ("build-args", "A=1\nB=2,3\nNPM_TOKEN\nNOT_THERE"),
        ("labels", "team=shop"),
        ("annotations", "manifest:a=b\nindex:c=d"),
        ("secrets", "one=in-clear"),
        ("secret-envs", "two=NPM_TOKEN"),
        ("secret-files", "three=token"),
        ("cache-from", "type=gha,scope=web\ntype=registry,ref=a/b"),
        ("cache-to", "type=gha,mode=max"),
        ("outputs", "type=image,name=other.example/x"),
        ("shm-size", "64m"),
        ("add-hosts", "db:10.0.0.1"),
    ];
    let fake = builder(
        &mut job,
        vec![lines(&[r##"{"line":"#1 ::error::no command"}"##, IMAGE])],
    );
    let done = job.main(BUILD, &inputs).well();
    let (asked, files) = fake.join().unwrap().remove(0);
    let build = &asked["build"];
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, [".dockerignore", "Dockerfile", "src", "src/a.txt"]);
    assert_eq!(files["src/a.txt"], "a");
    assert_eq!(
        (&build["dockerfile"], &build["text"]),
        (&json!("Dockerfile"), &Value::Null)
    );
    let tags = [
        "ghcr.io/acme/shop:1",
        "ghcr.io/acme/shop:2",
        "other.example/x",
    ];
    assert_eq!(build["tags"], json!(tags));
    assert_eq!(
        build["args"],
        json!({"A": "1", "B": "2,3", "NPM_TOKEN": "of-env"})
    );
    assert_eq!(build["annotations"], json!({"a": "b"}));
    assert_eq!(
        build["secrets"],
        json!({"one": "in-clear", "two": "of-env", "three": "of-file"})
    );
    assert_eq!(
        (&build["shm_bytes"], &build["hosts"]),
        (&json!(64 << 20), &json!({"db": ["10.0.0.1"]}))
    );
    let logins: Value = serde_json::from_str(build["logins"].as_str().unwrap()).unwrap();
    assert_eq!(logins["auths"]["ghcr.io"]["auth"], "bWU6aHVzaA==");
    assert_eq!(
        (done.output("imageid"), done.output("digest")),
        ("sha256:a", "sha256:b")
    );
    for word in [
        "\n#1 ::error::no command",
        "::add-mask::in-clear",
        "::warning::`cache-from: type=registry,ref=a/b` has no effect",
        "::warning::the annotation c is left out",
    ] {
        assert!(done.log.contains(word), "{word}: {}", done.log);
    }
    assert!(!done.log.contains("type=gha"), "{}", done.log);
}

fn a_build_that_fails_is_told_on_one_screen() {
    let mut job = Job::new();
    job.write("work/shop/docker/web", "FROM scratch");
    job.write("work/shop/web/a", "x");
    let inputs = [("context", "web"), ("file", "docker/web")];
    let failed = r#"{"failed":{"why":"RUN ended with 3","place":["docker/web",7],"instruction":"RUN npm ci","log":["npm: no"],"hint":"look"}}"#;
    let fake = builder(&mut job, vec![lines(&[failed])]);
    let done = job.main(BUILD, &inputs);
    let (asked, _) = fake.join().unwrap().remove(0);
    assert_eq!(asked["build"]["text"], "FROM scratch");
    assert_eq!(asked["build"]["logins"], r#"{"auths":{}}"#);
    let screen = "docker/web:7\n  RUN npm ci\n  | npm: no\n::error file=docker/web,line=7::the image was not built: RUN ended with 3; look";
    assert!(done.log.contains(screen), "{}", done.log);
    assert_eq!(done.code, Some(1));
    // A daemon that goes away is asked again.
    let cut = vec![r#"{"line":"on the w"#.to_owned()];
    let fake = builder(&mut job, vec![Vec::new(), cut, lines(&[IMAGE])]);
    let done = job.main(BUILD, &inputs).well();
    assert_eq!(fake.join().unwrap().len(), 3);
    assert!(
        done.log.contains("::warning::the daemon was restarted"),
        "{}",
        done.log
    );
    builder(&mut job, vec![Vec::new(); 4]);
    job.main(BUILD, &inputs)
        .badly("the builder ended without a word");
}

fn without_a_builder_it_says_so() {
    let job = Job::new();
    job.write("work/shop/Dockerfile", "FROM scratch");
    job.main(BUILD, &[]).badly("this run has no builder");
    let mut job = Job::new();
    builder(&mut job, Vec::new());
    job.main(BUILD, &[])
        .badly("`actions/checkout` must come before");
    job.write("work/shop/Dockerfile", "FROM scratch");
    for (inputs, expected) in [
        (("push", "true"), "needs a name"),
        (
            ("context", "https://github.com/a/b.git"),
            "must be a folder",
        ),
        (
            ("outputs", "type=local,dest=out"),
            "`type=local` of an output",
        ),
        (("network", "host"), "the network `host` is not supported"),
        (("cache-from", "type=tape"), "unknown type"),
        (("ssh", "default"), "`ssh` of docker/build-push-action"),
        (("tags", "Not A Name"), "the name \"Not A Name\""),
    ] {
        job.main(BUILD, &[inputs]).badly(expected);
    }
}
