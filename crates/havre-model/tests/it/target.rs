//! What an environment's target cannot do is refused where it is written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use havre_model::{
    Capabilities, EnvironmentName, Lack, LoadFailure, LoadOptions, Loaded, load, target_keys,
};

use crate::cases;

fn lack(key: &str, values: &[&str], reason: &str) -> Lack {
    Lack {
        key: key.to_owned(),
        values: values.iter().map(ToString::to_string).collect(),
        reason: reason.to_owned(),
        hint: format!("do without {key}"),
    }
}

/// What a FAKE target of several machines lacks.
fn fleet() -> Capabilities {
    let lacks = vec![
        lack("services.*.pid", &["host"], "it has many machines"),
        lack(
            "services.*.network_mode",
            &["service:*"],
            "replicas are anywhere",
        ),
        lack(
            "services.*.ports[].protocol",
            &["udp"],
            "its balancer has TCP only",
        ),
        lack("services.*.cap_add", &["SYS_ADMIN"], "it is not trusted"),
        lack("services.*.depends_on", &[], "nothing waits there"),
        lack(
            "services.*.deploy.mode",
            &["global"],
            "it has one machine for each",
        ),
        lack("services.*.privileged", &[], "nothing is"),
        lack("services.*.tty", &["true"], "nobody looks"),
        lack(
            "services.*.networks.*.aliases",
            &[],
            "a service has one name",
        ),
        lack("services.*.container_name", &[], "a service has one name"),
        lack("networks.*.internal", &[], "networks have a way out"),
        lack("volumes.*.external", &[], "it makes volumes"),
        lack(
            "havre.yaml: rollout.strategy",
            &["canary"],
            "it moves all at once",
        ),
        lack("havre.yaml: rollout.bake", &[], "nobody watches"),
        lack(
            "havre.yaml: services.*.liveness",
            &[],
            "one probe is enough",
        ),
    ];
    Capabilities::new("Fleet", lacks).unwrap()
}

fn read(
    files: &[(&str, &str)],
    environment: &str,
    target: Capabilities,
) -> Result<Loaded, LoadFailure> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    load(&LoadOptions {
        directory: folder.path().to_owned(),
        project_name: Some("case".into()),
        environment: Some(EnvironmentName::new(environment)),
        target,
        ..LoadOptions::default()
    })
}

/// Place and message of each refusal, and nothing else is wrong. Nothing is on this machine.
fn refused(files: &[(&str, &str)], environment: &str) -> Vec<String> {
    let here = read(files, environment, Capabilities::default());
    if let Err(failure) = here {
        panic!("{failure}");
    }
    let failure = match read(files, environment, fleet()) {
        Ok(_) => return Vec::new(),
        Err(failure) => failure,
    };
    let told = failure.errors.iter().map(|error| {
        assert_eq!(error.code, "target/unsupported", "{error}");
        let hint = error.hint.as_deref().unwrap();
        assert!(hint.starts_with("do without "), "{hint}");
        let at = error.location.as_ref().unwrap();
        let (file, message) = (at.file.display(), &error.message);
        format!("{file}:{}:{} {message}", at.line, at.column)
    });
    told.collect()
}

const SHOP: &str = "\
x-common: &common
  privileged: true
  tty: yes
services:
  web:
    image: web:1
    pid: host
    ports: ['80:80', '53:53/udp']
    cap_add: [NET_ADMIN, CAP_SYS_ADMIN]
    networks:
      back: {aliases: [shop]}
      front:
  db:
    <<: *common
    image: db:1
    networks: [back]
  side:
    image: side:1
    network_mode: service:web
    privileged: false
  off:
    image: off:1
    profiles: [never]
    pid: host
networks:
  front:
  back: {internal: true}
  unused: {internal: true}
";

const ALLOWED: &str = "\
services:
  web: {allow: [host-pid, capabilities]}
  db: {allow: privileged}
";

#[test]
fn what_is_lacking_is_refused_where_it_is_written() {
    let files = [("compose.yaml", SHOP), ("havre.yaml", ALLOWED)];
    assert_eq!(
        refused(&files, "production"),
        [
            "compose.yaml:2:3 `privileged` of service `db` is not possible on Fleet: nothing is",
            "compose.yaml:3:8 `tty: yes` of service `db` is not possible on Fleet: nobody looks",
            "compose.yaml:7:10 `pid: host` of service `web` is not possible on Fleet: it has many machines",
            "compose.yaml:8:22 `ports[].protocol: udp` of service `web` is not possible on Fleet: its balancer has TCP only",
            "compose.yaml:9:26 `cap_add: CAP_SYS_ADMIN` of service `web` is not possible on Fleet: it is not trusted",
            "compose.yaml:11:14 `networks.back.aliases` of service `web` is not possible on Fleet: a service has one name",
            "compose.yaml:19:19 `network_mode: service:web` of service `side` is not possible on Fleet: replicas are anywhere",
            "compose.yaml:27:10 `internal` of network `back` is not possible on Fleet: networks have a way out",
        ]
    );
}

#[test]
fn the_place_is_where_the_value_comes_from() {
    let base =
        "services:\n  base:\n    image: a:1\n    depends_on: [db]\n    deploy: {mode: global}\n";
    let compose = "\
services:
  web:
    extends: {file: base.yaml, service: base}
    tty: true
  db: {image: db:1}
";
    let over = "services:\n  web:\n    tty: false\n  db:\n    volumes: ['data:/data']\n\
                volumes:\n  data:\n    external: true\n";
    let files = [
        ("base.yaml", base),
        ("compose.yaml", compose),
        ("compose.override.yaml", over),
    ];
    assert_eq!(
        refused(&files, "production"),
        [
            "base.yaml:4:5 `depends_on` of service `web` is not possible on Fleet: nothing waits there",
            "base.yaml:5:20 `deploy.mode: global` of service `web` is not possible on Fleet: it has one machine for each",
            "compose.override.yaml:8:5 `external` of volume `data` is not possible on Fleet: it makes volumes",
        ]
    );
}

#[test]
fn an_environment_is_refused_for_what_holds_in_it() {
    let compose = "services: {web: {image: 'a:1', expose: [80]}}\n";
    let settings = "\
rollout: {strategy: canary, steps: [5%]}
services: {web: {liveness: {test: x}}}
environments:
  staging:
    rollout: {strategy: blue-green, bake: 1m}
  testing:
    rollout: {bake: 2m}
    services: {web: {allow: devices}}
";
    let files = [("compose.yaml", compose), ("havre.yaml", settings)];
    let canary =
        "havre.yaml:1:21 `rollout.strategy: canary` is not possible on Fleet: it moves all at once";
    let liveness =
        "havre.yaml:2:18 `liveness` of service `web` is not possible on Fleet: one probe is enough";
    let bake = |place: &str| {
        format!("havre.yaml:{place} `rollout.bake` is not possible on Fleet: nobody watches")
    };
    assert_eq!(refused(&files, "production"), [canary, liveness]);
    assert_eq!(
        refused(&files, "staging"),
        [liveness.to_owned(), bake("5:37")]
    );
    assert_eq!(
        refused(&files, "testing"),
        [canary.to_owned(), liveness.to_owned(), bake("7:15")]
    );
}

#[test]
fn a_project_without_its_files_is_refused_as_well() {
    let files = [("compose.yaml", SHOP), ("havre.yaml", ALLOWED)];
    let project = read(&files, "production", Capabilities::default())
        .unwrap()
        .project;
    assert_eq!(Capabilities::default().refuse(&project), []);
    let refused = fleet().refuse(&project);
    let told: Vec<&str> = refused.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "`privileged` of service `db` is not possible on Fleet: nothing is",
            "`tty: true` of service `db` is not possible on Fleet: nobody looks",
            "`network_mode: service:web` of service `side` is not possible on Fleet: replicas are anywhere",
            "`ports[].protocol: udp` of service `web` is not possible on Fleet: its balancer has TCP only",
            "`networks.*.aliases` of service `web` is not possible on Fleet: a service has one name",
            "`cap_add: SYS_ADMIN` of service `web` is not possible on Fleet: it is not trusted",
            "`pid: host` of service `web` is not possible on Fleet: it has many machines",
            "`internal` of network `back` is not possible on Fleet: networks have a way out",
        ]
    );
    assert_eq!(refused[0].hint, "do without services.*.privileged");
}

/// A daemon that refused what nobody has written would be wrong: in each case, a target that lacks all keys
/// but the written ones can run the project.
#[test]
fn no_project_is_refused_for_what_its_files_do_not_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let all = nowhere(&BTreeSet::new());
    let (mut looked, mut seen, mut wrong) = (0, BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(&root).unwrap() {
        let folder = entry.unwrap().path().canonicalize().unwrap();
        let options = cases::options(&folder);
        let Ok(here) = load(&options) else { continue };
        let target = all.clone();
        let Err(there) = load(&LoadOptions { target, ..options }) else {
            panic!("{} asks for nothing", folder.display());
        };
        let written: BTreeSet<String> = there
            .errors
            .iter()
            .filter_map(|error| error.message.rsplit_once("Nowhere: "))
            .map(|(_, key)| key.to_owned())
            .collect();
        assert!(
            !all.refuse(&here.project).is_empty(),
            "{}",
            folder.display()
        );
        for refused in nowhere(&written).refuse(&here.project) {
            wrong.push(format!("{}: {refused}", folder.display()));
        }
        looked += 1;
        seen.extend(written);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(looked > 80, "only {looked} cases");
    assert!(
        seen.len() > 150,
        "only {} keys are written: {seen:?}",
        seen.len()
    );
}

/// A FAKE target that can do nothing but what these keys ask for; each lack has its key as the reason.
fn nowhere(but: &BTreeSet<String>) -> Capabilities {
    let keys = target_keys().into_iter();
    let lacks = keys.filter(|key| !but.contains(key));
    let lacks = lacks.map(|key| lack(&key, &[], &key)).collect();
    Capabilities::new("Nowhere", lacks).unwrap()
}
