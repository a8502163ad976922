//! Secrets: masked in output, delivered in memory, renewed while the container runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use havre_engine::{
    Confidential, ContainerSpec, HealthProbe, RestartRule, SecretSpec, SharedFilter, State,
};
use havre_redact::Filter;

use crate::harness::{Sandbox, Test, command, logged, wait_until};

pub const TESTS: &[(&str, Test)] = &[
    ("secrets_are_files_in_memory", |p| Box::pin(files(p))),
    ("secrets_elsewhere", |p| Box::pin(elsewhere(p))),
    ("secrets_beside_a_mount", |p| Box::pin(beside_a_mount(p))),
    ("secrets_are_masked_in_output", |p| Box::pin(masked(p))),
    ("secrets_are_masked_on_a_terminal", |p| {
        Box::pin(masked_on_a_terminal(p))
    }),
    ("secrets_are_masked_in_probes", |p| {
        Box::pin(masked_in_probes(p))
    }),
    ("secrets_are_renewed", |p| Box::pin(renewed(p))),
    ("secrets_in_variables", |p| Box::pin(variables(p))),
    ("secrets_that_are_missing", |p| Box::pin(missing(p))),
    ("secrets_behind_links_of_the_container", |p| {
        Box::pin(behind_links(p))
    }),
    ("secrets_in_a_folder_that_the_container_changes", |p| {
        Box::pin(changed_folder(p))
    }),
];

const VALUE: &str = "correct horse battery staple";

pub fn secret(name: &str, target: &str, user: &str, mode: u32) -> SecretSpec {
    SecretSpec {
        name: name.to_owned(),
        target: target.to_owned(),
        user: user.to_owned(),
        group: user.to_owned(),
        mode,
    }
}

pub fn given(files: &[(&str, &str)]) -> Confidential {
    let files = files
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec().into()));
    Confidential {
        files: files.collect(),
        ..Confidential::default()
    }
}

fn masking(values: &[&str]) -> Confidential {
    let filter = Filter::new(values.iter().map(|value| ("name", value.as_bytes()))).0;
    Confidential {
        filter: Some(SharedFilter::new(&filter).expect("memory")),
        ..Confidential::default()
    }
}

async fn start(place: &Sandbox, spec: &ContainerSpec, given: Confidential) {
    place
        .engine()
        .create_with(spec, given)
        .await
        .expect("created");
}

/// Whether a text is in a file of the test: nothing of a secret may be on disk.
fn on_disk(place: &Sandbox, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![place.dir.path().to_owned(), place.run.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                if String::from_utf8_lossy(&bytes).contains(text) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    found
}

async fn files(place: &Sandbox) {
    let script = "cd /run/secrets; ls -A | tr '\\n' ' '; echo; \
        for f in db app.key deep/er; do stat -L -c '%a %u:%g' $f; wc -c < $f; done; \
        (echo x > db) 2>/dev/null && echo written; rm db 2>/dev/null && echo removed; \
        touch /run/secrets/new 2>/dev/null && echo made; echo done; exit 3";
    let mut spec = place.spec("c1", script);
    spec.restart = RestartRule::OnFailure {
        max_retries: Some(1),
    };
    spec.secrets = vec![
        secret("db", "/run/secrets/db", "0", 0o444),
        secret("key", "/run/secrets/app.key", "app", 0o640),
        secret("deep", "/run/secrets/deep/er", "33", 0o666),
    ];
    // Groups are looked up by their own names.
    let given = given(&[("db", VALUE), ("key", "k3y\n"), ("deep", "")]);
    start(place, &spec, given).await;
    place.engine().wait(&spec.id).await.expect("an end");
    // Once by the first start and once by the shim's own.
    let expected =
        "..1 ..data app.key db deep \n444 0:0\n28\n440 1000:1001\n4\n444 33:33\n0\ndone\n";
    assert_eq!(crate::harness::logs(&spec).await, expected.repeat(2));
    assert_eq!(on_disk(place, VALUE), [""; 0]);
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(
        !mounts.contains("/run/secrets"),
        "the host sees the secrets"
    );
}

async fn elsewhere(place: &Sandbox) {
    let script = "cat /etc/app/key /var/run/x; (echo y > /etc/app/key) 2>/dev/null; ls -A /run; exec sleep 1000";
    let mut spec = place.spec("c1", script);
    spec.secrets = vec![
        secret("a", "/etc/app/key", "0", 0o444),
        secret("b", "/var/run/x", "0", 0o444),
    ];
    start(place, &spec, given(&[("a", "one\n"), ("b", "two\n")])).await;
    logged(&spec, "one\ntwo\nx\n").await;
    // What is mounted by itself stays what it was.
    place
        .engine()
        .entrust(&spec.id, &given(&[("a", "new\n"), ("b", "new\n")]))
        .await
        .expect("taken");
    assert_eq!(
        place.exec(&spec, command(&["cat", "/etc/app/key"])).await,
        (0, "one\n".to_owned())
    );
}

async fn beside_a_mount(place: &Sandbox) {
    let own = place.dir.path().join("own");
    fs::create_dir_all(&own).expect("a folder");
    fs::write(own.join("mine"), "mine\n").expect("a file");
    let mut spec = place.spec("c1", "cat /run/secrets/mine /run/secrets/db");
    spec.mounts = vec![havre_engine::MountSpec::Bind {
        source: own,
        target: "/run/secrets".to_owned(),
        read_only: false,
        subpath: None,
    }];
    spec.secrets = vec![secret("db", "/run/secrets/db", "0", 0o444)];
    start(place, &spec, given(&[("db", VALUE)])).await;
    place.engine().wait(&spec.id).await.expect("an end");
    assert_eq!(
        crate::harness::logs(&spec).await,
        format!("mine\n{VALUE}\n")
    );
    assert_eq!(
        fs::read(place.dir.path().join("own/db")).expect("the point"),
        b""
    );
}

async fn masked(place: &Sandbox) {
    // Spelled by shifted letters, since the script itself is on disk.
    let script = "plain() { tr A-Za-z N-ZA-Mn-za-m; }; \
        (printf 'n pbeerpg ube'; sleep 0.2; printf 'fr onggrel fgncyr o\\n') | plain; \
        echo L29lpzIwqPObo3WmMFOvLKE0MKW5VUA0LKOfMD== | plain >&2; \
        echo first; sleep 0.3; echo open; exec sleep 1000";
    let spec = place.spec("c1", script);
    start(place, &spec, masking(&[VALUE, "first\nsecond-line"])).await;
    let output = logged(&spec, "open\n").await;
    assert!(
        output.contains("a *** b\n") && output.contains("***"),
        "{output}"
    );
    assert!(output.contains("first\nopen"), "{output}");
    assert_eq!(on_disk(place, "horse"), [""; 0]);
    assert_eq!(on_disk(place, "Y29ycmVjdCBob3JzZSB"), [""; 0]);
    // Another daemon brings other values.
    let engine = place.another_engine();
    crate::harness::reconciled(&engine).await;
    engine
        .entrust(&spec.id, &masking(&["another-value"]))
        .await
        .expect("taken");
    let say = "echo another-value and correct horse battery staple > /proc/1/fd/1";
    place.exec(&spec, command(&["sh", "-c", say])).await;
    logged(&spec, "*** and correct horse battery staple\n").await;
    engine.shutdown().await;
}

async fn masked_on_a_terminal(place: &Sandbox) {
    let mut spec = place.spec("c1", "printf 'pass correct'; sleep 1; printf ' ubefr onggrel fgncyr> ' | tr a-z n-za-m; exec sleep 1000");
    spec.tty = true;
    start(place, &spec, masking(&["horse battery staple"])).await;
    logged(&spec, "pass correct").await;
    // A prompt is seen without the end of its line.
    logged(&spec, " ***> ").await;
    assert_eq!(on_disk(place, "horse battery staple"), [""; 0]);
}

async fn masked_in_probes(place: &Sandbox) {
    let mut spec = place.spec("c1", "exec sleep 1000");
    spec.health = Some(HealthProbe {
        argv: vec!["echo".to_owned(), format!("password is {VALUE}")],
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(10),
        retries: 1,
        start_period: Duration::ZERO,
        start_interval: Duration::from_millis(50),
    });
    start(place, &spec, masking(&[VALUE])).await;
    let probed = |o: &havre_engine::Observed| o.health.as_ref().is_some_and(|h| h.last.is_some());
    let observed = place.until(&spec, "probed", probed).await;
    let last = observed
        .health
        .and_then(|health| health.last)
        .expect("a probe");
    assert_eq!(last.output, "password is ***\n");
}

async fn renewed(place: &Sandbox) {
    let mut spec = place.spec("c1", "while :; do cat /run/secrets/db; usleep 10000; done");
    spec.secrets = vec![
        secret("db", "/run/secrets/db", "app", 0o440),
        secret("other", "/run/secrets/other", "0", 0o444),
    ];
    start(
        place,
        &spec,
        given(&[("db", "version 1\n"), ("other", "1")]),
    )
    .await;
    logged(&spec, "version 1").await;
    let engine = place.another_engine();
    crate::harness::reconciled(&engine).await;
    for version in 2..6 {
        let value = format!("version {version}\n");
        let given = given(&[("db", &value), ("other", &value)]);
        engine.entrust(&spec.id, &given).await.expect("taken");
        // In place when it is said to be.
        let seen = place
            .exec(
                &spec,
                command(&["cat", "/run/secrets/db", "/run/secrets/other"]),
            )
            .await;
        assert_eq!(seen, (0, value.repeat(2)));
        logged(&spec, &value).await;
    }
    let (_, state) = place
        .exec(
            &spec,
            command(&["stat", "-L", "-c", "%a %u:%g", "/run/secrets/db"]),
        )
        .await;
    assert_eq!(state, "440 1000:1001\n");
    let (_, names) = place
        .exec(&spec, command(&["ls", "-A", "/run/secrets"]))
        .await;
    assert_eq!(names, "..4\n..5\n..data\ndb\nother\n");
    // One is missing: nothing changes.
    let error = engine
        .entrust(&spec.id, &given(&[("db", "version 9\n")]))
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("other"), "{error}");
    let seen = place
        .exec(&spec, command(&["cat", "/run/secrets/db"]))
        .await;
    assert_eq!(seen, (0, "version 5\n".to_owned()));
    // A process that is started again gets the newest.
    engine
        .restart(&spec.id, Confidential::default())
        .await
        .expect("restarted");
    let seen = place
        .exec(&spec, command(&["cat", "/run/secrets/db"]))
        .await;
    assert_eq!(seen, (0, "version 5\n".to_owned()));
    let output = crate::harness::logs(&spec).await;
    assert!(
        !output.contains("cat:"),
        "there was a moment without: {output}"
    );
    engine.shutdown().await;
}

async fn variables(place: &Sandbox) {
    let mut spec = place.spec("c1", "echo \"$TOKEN\" | tr a-z A-Z; exec sleep 1000");
    spec.env
        .insert("TOKEN".to_owned(), "from the spec".to_owned());
    let token = Confidential {
        env: BTreeMap::from([("TOKEN".to_owned(), VALUE.to_owned().into())]),
        ..Confidential::default()
    };
    start(place, &spec, token).await;
    logged(&spec, &VALUE.to_uppercase()).await;
    let seen = place
        .exec(&spec, command(&["sh", "-c", "echo $TOKEN"]))
        .await;
    assert_eq!(seen, (0, format!("{VALUE}\n")));
    assert_eq!(on_disk(place, VALUE), [""; 0]);
    let known = place.engine().spec(&spec.id).await.expect("known");
    assert!(!format!("{known:?}").contains(VALUE));
    // Neither the shim nor anything else that it started shows it.
    let observed = place.engine().get(&spec.id).await.expect("known");
    let pid = match observed.state {
        State::Running { pid, .. } => pid,
        other => panic!("{other:?}"),
    };
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if name != pid.to_string() && String::from_utf8_lossy(&environ).contains(VALUE) {
            panic!(
                "process {name} has it: {:?}",
                fs::read_to_string(entry.path().join("comm"))
            );
        }
    }
}

async fn missing(place: &Sandbox) {
    let mut spec = place.spec("c1", "true");
    spec.secrets = vec![secret("db", "/run/secrets/db", "0", 0o444)];
    let error = place.engine().create(&spec).await.expect_err("no content");
    assert!(error.to_string().contains("secret db"), "{error}");
    let mut spec = place.spec("c2", "true");
    spec.secrets = vec![secret("db", "/run/secrets/db", "nobody-here", 0o444)];
    let error = place
        .engine()
        .create_with(&spec, given(&[("db", "x")]))
        .await
        .expect_err("no user");
    assert!(error.to_string().contains("nobody-here"), "{error}");
    for target in [
        "/run/secrets/..data",
        "/run/secrets/a/../b",
        "/run/secrets/",
        "/proc/x",
        "relative",
    ] {
        let mut spec = place.spec("c3", "true");
        spec.secrets = vec![secret("db", target, "0", 0o444)];
        let error = place
            .engine()
            .create_with(&spec, given(&[("db", "x")]))
            .await
            .expect_err(target);
        assert!(
            format!("{error:?}").contains("Invalid"),
            "{target}: {error:?}"
        );
    }
}

/// Links of an image where secrets go lead nowhere but into the container.
async fn behind_links(place: &Sandbox) {
    let host = place.dir.path().join("host");
    fs::create_dir_all(&host).expect("a folder");
    for (n, target) in ["/run/secrets/db", "/etc/app/db"].into_iter().enumerate() {
        let mut spec = place.spec(
            &format!("c{n}"),
            "cat $TARGET; find / -xdev -name db 2>/dev/null",
        );
        spec.env.insert("TARGET".to_owned(), target.to_owned());
        let upper = spec.rootfs.upper.as_ref().expect("writable").upper.clone();
        let folder = Path::new(target)
            .parent()
            .expect("a folder")
            .strip_prefix("/")
            .expect("absolute");
        fs::create_dir_all(upper.join(folder).parent().expect("a folder")).expect("a folder");
        std::os::unix::fs::symlink(&host, upper.join(folder)).expect("a link");
        spec.secrets = vec![secret("db", target, "0", 0o444)];
        start(place, &spec, given(&[("db", VALUE)])).await;
        place.engine().wait(&spec.id).await.expect("an end");
        let output = crate::harness::logs(&spec).await;
        assert!(output.starts_with(VALUE), "{output}");
        assert_eq!(fs::read_dir(&host).expect("a folder").count(), 0);
    }
}

/// A container that may mount makes its folder writable, and puts links where the next version goes.
async fn changed_folder(place: &Sandbox) {
    let host = place.dir.path().join("host");
    fs::create_dir_all(&host).expect("a folder");
    let script = "cd /run/secrets; mount -o remount,rw,bind /run/secrets && echo writable; \
        ln -s $HOST ..2; ln -s $HOST ..next; rm ..data; ln -s $HOST ..data; \
        echo ready; exec sleep 1000";
    let mut spec = place.spec("c1", script);
    spec.security.privileged = true;
    spec.env
        .insert("HOST".to_owned(), host.display().to_string());
    spec.secrets = vec![secret("db", "/run/secrets/db", "0", 0o444)];
    start(place, &spec, given(&[("db", "one")])).await;
    let output = logged(&spec, "ready").await;
    assert!(
        output.contains("writable"),
        "the test does not try what it means to: {output}"
    );
    // It has only itself to blame: an error, and nothing of the host is read or written.
    for _ in 0..3 {
        if let Err(error) = place
            .engine()
            .entrust(&spec.id, &given(&[("db", VALUE)]))
            .await
        {
            assert!(
                error.to_string().contains("cannot take new secrets"),
                "{error}"
            );
        }
    }
    assert_eq!(fs::read_dir(&host).expect("a folder").count(), 0);
    assert_eq!(on_disk(place, VALUE), [""; 0]);
    wait_until("still there", || place.run_dir(&spec).exists()).await;
}
