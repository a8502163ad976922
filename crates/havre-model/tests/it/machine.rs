//! What a service may have of the machine is said in havre.yaml and nowhere else.

use std::fs;
use std::path::Path;

use havre_model::{Allow, LoadFailure, LoadOptions, Loaded, Mount, ServiceName, load};

/// Loads a project of these two files; an empty havre.yaml is none.
fn project(folder: &Path, compose: &str, havre: &str) -> Result<Loaded, LoadFailure> {
    fs::write(folder.join("compose.yaml"), compose).unwrap();
    match havre {
        "" => drop(fs::remove_file(folder.join("havre.yaml"))),
        havre => fs::write(folder.join("havre.yaml"), havre).unwrap(),
    }
    load(&LoadOptions {
        directory: folder.to_owned(),
        ..LoadOptions::default()
    })
}

fn codes(loaded: Result<Loaded, LoadFailure>) -> Vec<&'static str> {
    let errors = loaded.err().map(|failure| failure.errors);
    errors
        .into_iter()
        .flatten()
        .map(|error| error.code)
        .collect()
}

#[test]
fn a_link_of_the_project_counts_as_what_it_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    for (to, read_only, expected) in [
        ("/etc", "", true),
        ("/", ":ro", true),
        ("/var/log", ":ro", false),
        (".", "", false),
    ] {
        let link = folder.path().join("data");
        drop(fs::remove_file(&link));
        std::os::unix::fs::symlink(to, &link).unwrap();
        let compose = format!(
            "services: {{web: {{image: a, expose: [80], volumes: ['./data:/data{read_only}']}}}}"
        );
        let refused = codes(project(folder.path(), &compose, ""));
        assert_eq!(
            refused == ["havre/not-allowed"],
            expected,
            "{to}: {refused:?}"
        );
        let allowed = "services: {web: {allow: host-paths}}";
        assert!(
            codes(project(folder.path(), &compose, allowed)).is_empty(),
            "{to}"
        );
    }
}

#[test]
fn each_needs_its_own_word() {
    let folder = tempfile::tempdir().unwrap();
    let asks = [
        (
            Allow::Capabilities,
            "cap_add: [NET_ADMIN, SYS_PTRACE, cap_sys_admin]",
        ),
        (Allow::Devices, "devices: [/dev/null]"),
        (Allow::DockerSocket, "volumes: ['/run/docker.sock:/s']"),
        (Allow::HostIpc, "ipc: host"),
        (Allow::HostNetwork, "network_mode: host"),
        (Allow::HostPaths, "volumes: ['/etc:/host/etc']"),
        (Allow::HostPid, "pid: host"),
        (Allow::Privileged, "privileged: true"),
    ];
    assert_eq!(asks.map(|(needs, _)| needs), Allow::ALL);
    for (needs, ask) in asks {
        let compose = format!("services: {{web: {{image: a, expose: [80], {ask}}}}}");
        for given in Allow::ALL {
            let havre = format!("services: {{web: {{allow: {given}}}}}");
            let loaded = project(folder.path(), &compose, &havre);
            match given == needs {
                true => {
                    let service = &loaded.unwrap().project.services[&ServiceName::new("web")];
                    assert_eq!(service.allow, [needs].into(), "{ask}");
                }
                false if needs == Allow::DockerSocket => {
                    let service = &loaded.unwrap().project.services[&ServiceName::new("web")];
                    assert!(service.mounts.is_empty(), "left out");
                }
                false => assert_eq!(codes(loaded), ["havre/not-allowed"], "{ask} by {given}"),
            }
        }
        // Another environment's word does not count.
        let staging =
            format!("environments: {{staging: {{services: {{web: {{allow: {needs}}}}}}}}}");
        let refused = codes(project(folder.path(), &compose, &staging));
        if needs != Allow::DockerSocket {
            assert_eq!(refused, ["havre/not-allowed"], "{ask}");
        }
    }
}

/// The lines that a refusal says to write.
fn to_paste(loaded: Result<Loaded, LoadFailure>) -> String {
    let errors = loaded.err().map(|failure| failure.errors);
    let hints: Vec<String> = errors
        .into_iter()
        .flatten()
        .filter_map(|error| error.hint)
        .filter(|hint| hint.contains("services:"))
        .collect();
    assert_eq!(hints.len(), 1, "{hints:?}");
    let (_, lines) = hints[0].split_once("write in havre.yaml:\n").unwrap();
    lines.to_owned()
}

#[test]
fn one_paste_allows_all_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (asks, expected) in [
        (
            "a: {image: x, privileged: true, expose: [80]}",
            "services:\n  a: {allow: [privileged]}",
        ),
        (
            "tunnel: {image: x, expose: [80], devices: [/dev/null], cap_add: [SYS_ADMIN]}\n  \
             probe: {image: x, pid: host, volumes: ['/:/rootfs:ro', '/proc:/host/proc:ro']}\n  \
             plain: {image: x}\n  \
             other: {image: x, privileged: true, profiles: [later]}\n  \
             bus: {image: x, network_mode: host}",
            "services:\n  tunnel: {allow: [capabilities, devices]}\n  \
             probe: {allow: [host-paths, host-pid]}\n  bus: {allow: [host-network]}",
        ),
        // What may change havre.yaml, which then has an `allow`, is refused without its word.
        (
            "app: {image: x, expose: [80], volumes: ['.:/app', './data:/data']}\n  \
             reader: {image: x, volumes: ['.:/app:ro']}\n  \
             below: {image: x, volumes: ['./data:/data']}\n  \
             tunnel: {image: x, volumes: ['.:/app'], devices: [/dev/null]}",
            "services:\n  app: {allow: [host-paths]}\n  tunnel: {allow: [devices, host-paths]}",
        ),
    ] {
        let compose = format!("services:\n  {asks}\n");
        let lines = to_paste(project(folder.path(), &compose, ""));
        assert_eq!(lines, expected);
        assert!(codes(project(folder.path(), &compose, &lines)).is_empty());
        // What is allowed already stays so.
        if lines.contains("probe") {
            let some = "services: {tunnel: {allow: devices}, bus: {allow: host-network}}";
            let lines = to_paste(project(folder.path(), &compose, some));
            let expected = "services:\n  tunnel: {allow: [capabilities, devices]}\n  \
                            probe: {allow: [host-paths, host-pid]}";
            assert_eq!(lines, expected);
        }
    }
}

/// The mounts of the one service, each `target` or `target:ro`, and the codes of the warnings.
fn mounts(loaded: Result<Loaded, LoadFailure>) -> (Vec<String>, Vec<&'static str>) {
    let loaded = loaded.unwrap();
    let service = &loaded.project.services[&ServiceName::new("web")];
    let shown = service.mounts.iter().map(|mount| match mount {
        Mount::Bind {
            target, read_only, ..
        } => format!("{target}{}", if *read_only { ":ro" } else { "" }),
        other => panic!("{other:?}"),
    });
    let warnings = loaded.warnings.iter().map(|warning| warning.code);
    (shown.collect(), warnings.collect())
}

#[test]
fn what_containers_only_read_is_mounted_for_that() {
    let folder = tempfile::tempdir().unwrap();
    let compose = |source: &str, target: &str| {
        format!("services: {{web: {{image: a, expose: [80], volumes: ['{source}:{target}']}}}}")
    };
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("users")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", folder.path().join("hashes")).unwrap();
    for source in [
        "/etc/machine-id",
        "/etc/hostname",
        "/etc/passwd",
        "./users",
        "/lib/modules",
        "/sys/class/thermal",
        "/dev/disk",
        "/var/lib/docker/containers",
    ] {
        let compose = compose(source, "/x");
        let made = mounts(project(folder.path(), &compose, ""));
        assert_eq!(
            made,
            (vec!["/x:ro".to_owned()], vec!["havre/only-read"]),
            "{source}"
        );
        let allowed = "services: {web: {allow: host-paths}}";
        let made = mounts(project(folder.path(), &compose, allowed));
        assert_eq!(
            made,
            (vec!["/x".to_owned()], vec!["havre/allowed"]),
            "{source}"
        );
    }
    for source in [
        "/etc/shadow",
        "./hashes",
        "/etc/cron.d",
        "/proc",
        "/usr/local/bin",
        "/run",
    ] {
        let refused = codes(project(folder.path(), &compose(source, "/x"), ""));
        assert_eq!(refused, ["havre/not-allowed"], "{source}");
    }
}

#[test]
fn what_the_container_has_of_its_own_is_not_mounted_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let compose = |mount: &str| {
        format!("services: {{web: {{image: a, expose: [80], volumes: ['{mount}']}}}}")
    };
    for mount in [
        "/sys:/sys:ro",
        "/sys/:/sys",
        "/sys/fs/cgroup:/sys/fs/cgroup:ro",
        "/proc:/proc",
        "/dev:/dev",
    ] {
        let made = mounts(project(folder.path(), &compose(mount), ""));
        assert_eq!(made, (vec![], vec!["havre/own-instead"]), "{mount}");
    }
    for mount in ["./data:/sys", "/dev:/proc", "/srv/proc:/proc", "named:/dev"] {
        let compose = compose(mount) + "\nvolumes: {named: }";
        let refused = codes(project(folder.path(), &compose, ""));
        assert!(refused.contains(&"compose/volume"), "{mount}: {refused:?}");
    }
}

#[test]
fn shared_memory_is_the_containers_own_and_large() {
    let folder = tempfile::tempdir().unwrap();
    for (more, havre, expected) in [
        ("", "", (0, Some(1 << 30))),
        (", shm_size: 2g", "", (0, Some(2 << 30))),
        ("", "services: {web: {allow: host-ipc}}", (1, None)),
    ] {
        let compose = format!(
            "services: {{web: {{image: a, expose: [80], volumes: ['/dev/shm:/dev/shm']{more}}}}}"
        );
        let loaded = project(folder.path(), &compose, havre).unwrap();
        let web = &loaded.project.services[&ServiceName::new("web")];
        assert_eq!((web.mounts.len(), web.shm_size_bytes), expected, "{more}");
    }
    let elsewhere = "services: {web: {image: a, expose: [80], volumes: ['/dev/shm:/host/shm:ro']}}";
    let refused = codes(project(folder.path(), elsewhere, ""));
    assert_eq!(refused, ["havre/not-allowed"]);
}

#[test]
fn what_asks_for_more_than_there_is_runs_without() {
    let folder = tempfile::tempdir().unwrap();
    for asks in [
        "runtime: nvidia",
        "cap_add: [NET_ADMIN, cap_sys_module]",
        "gpus: all",
        "deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu]}]}}}",
        "volumes: [{type: bind, source: /srv, target: /x, bind: {propagation: rslave}}]",
        "volumes: ['/srv:/x:ro,slave']",
    ] {
        let compose = format!("services: {{web: {{image: a, expose: [80], {asks}}}}}");
        let loaded = project(folder.path(), &compose, "").unwrap();
        let warnings: Vec<_> = loaded.warnings.iter().map(|one| one.code).collect();
        assert_eq!(warnings, ["compose/ignored"], "{asks}");
        let added = &loaded.project.services[&ServiceName::new("web")].cap_add;
        assert!(!added.iter().any(|name| name == "SYS_MODULE"), "{asks}");
    }
    let modules = "services: {web: {image: a, expose: [80], cap_add: [SYS_MODULE]}}";
    let allowed = "services: {web: {allow: capabilities}}";
    let loaded = project(folder.path(), modules, allowed).unwrap();
    let added = &loaded.project.services[&ServiceName::new("web")].cap_add;
    assert_eq!(added, &["SYS_MODULE"]);
    // What others are to see of it would be missing.
    let shared = "services: {web: {image: a, expose: [80], volumes: ['/srv:/x:rshared']}}";
    assert_eq!(
        codes(project(folder.path(), shared, "")),
        ["compose/unsupported"]
    );
}

#[test]
fn settings_of_a_namespace_that_is_the_machines_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, setting, expected) in [
        ("network_mode: host", "net.ipv4.ip_forward", true),
        ("network_mode: host", "kernel.msgmax", false),
        ("ipc: host", "kernel.msgmax", true),
        ("ipc: host", "net.ipv4.ip_forward", false),
    ] {
        let compose = format!(
            "services: {{web: {{image: a, expose: [80], {mode}, sysctls: {{{setting}: 1}}}}}}"
        );
        let allowed = "services: {web: {allow: [host-network, host-ipc]}}";
        let refused = codes(project(folder.path(), &compose, allowed));
        assert_eq!(
            refused == ["compose/unsupported"],
            expected,
            "{mode} {setting}"
        );
    }
}

#[test]
fn capabilities_that_hand_the_machine_over_need_their_word() {
    let folder = tempfile::tempdir().unwrap();
    for (name, expected) in [
        ("ALL", true),
        ("BPF", true),
        ("cap_checkpoint_restore", true),
        ("DAC_READ_SEARCH", true),
        ("MAC_ADMIN", true),
        ("PERFMON", true),
        ("SYS_ADMIN", true),
        ("sys_rawio", true),
        ("IPC_LOCK", false),
        ("NET_ADMIN", false),
        ("SYS_NICE", false),
        ("SYS_PTRACE", false),
    ] {
        let compose = format!("services: {{web: {{image: a, expose: [80], cap_add: [{name}]}}}}");
        let refused = codes(project(folder.path(), &compose, ""));
        assert_eq!(refused == ["havre/not-allowed"], expected, "{name}");
        // Nothing is added to what has everything.
        let compose = format!(
            "services: {{web: {{image: a, expose: [80], privileged: true, cap_add: [{name}]}}}}"
        );
        let allowed = "services: {web: {allow: privileged}}";
        assert!(codes(project(folder.path(), &compose, allowed)).is_empty());
    }
}

#[test]
fn a_folder_counts_as_what_lies_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = folder.path().join("data");
    fs::create_dir(&mounted).unwrap();
    let compose = "services: {web: {image: a, expose: [80], volumes: ['./data:/data:ro']}}";
    for name in ["podman.sock", ".ssh"] {
        assert!(codes(project(folder.path(), compose, "")).is_empty());
        fs::create_dir(mounted.join(name)).unwrap();
        let refused = codes(project(folder.path(), compose, ""));
        assert_eq!(refused, ["havre/not-allowed"], "{name}");
        fs::remove_dir(mounted.join(name)).unwrap();
    }
}

#[test]
fn a_container_that_can_write_havre_yaml_is_one_that_is_allowed_anything() {
    let folder = tempfile::tempdir().unwrap();
    let said = |how: &str, havre: &str| {
        let compose = format!(
            "services: {{web: {{image: a, expose: [80], volumes: ['.:/app{how}']}}, \
             vpn: {{image: b, devices: [/dev/null]}}}}"
        );
        let compose = match havre.contains("devices") {
            true => compose,
            false => compose.replace("devices: [/dev/null]", "init: true"),
        };
        match project(folder.path(), &compose, havre) {
            Ok(loaded) => loaded.warnings,
            Err(failure) => failure.errors,
        }
        .iter()
        .map(|found| found.code)
        .filter(|code| code.starts_with("havre/"))
        .collect::<Vec<_>>()
    };
    let routes = "routes: [{service: web}]";
    let allows = "{services: {vpn: {allow: devices}}, routes: [{service: web}]}";
    assert_eq!(said("", routes), ["havre/writable-settings"]);
    assert_eq!(said(":ro", routes), [""; 0]);
    assert_eq!(said("", allows), ["havre/not-allowed"]);
    assert_eq!(said(":ro", allows), ["havre/allowed"]);
}

#[test]
fn a_pipe_in_a_files_place_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Dockerfile"), "FROM a\n").unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    fs::write(folder.path().join("app.env"), "").unwrap();
    for name in ["package.json", ".env", "app.env"] {
        let pipe = folder.path().join(name);
        drop(fs::remove_file(&pipe));
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        let compose = "services: {web: {build: ., ports: ['80'], env_file: app.env}, \
                       api: {build: ., ports: ['3000'], env_file: app.env}}";
        let refused = codes(project(folder.path(), compose, ""));
        assert_eq!(refused.is_empty(), name != "app.env", "{name}: {refused:?}");
        fs::remove_file(&pipe).unwrap();
    }
}

#[test]
fn what_is_read_of_the_machine_is_the_projects_or_nobodys_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (shadow, own) = ("/etc/shadow", "./own");
    fs::write(folder.path().join("Dockerfile"), "FROM a\n").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(shadow, &link).unwrap();
    fs::create_dir(folder.path().join(".ssh")).unwrap();
    let kept = folder.path().join(".ssh/key");
    for path in [folder.path().join(own), kept] {
        fs::write(path, "A=b").unwrap();
    }
    let secret = |path: &str| {
        format!(
            "services: {{web: {{image: a, expose: [80], secrets: [s]}}}}\n\
             secrets: {{s: {{file: {path}}}}}"
        )
    };
    let config = |path: &str| secret(path).replace("secrets", "configs");
    let build = |what: &str| format!("services: {{web: {{expose: [80], build: {{{what}}}}}}}");
    let of_build = |path: &str| {
        format!(
            "services: {{web: {{expose: [80], build: {{context: ., secrets: [s]}}}}}}\n\
             secrets: {{s: {{file: {path}}}}}"
        )
    };
    for (compose, expected) in [
        (secret(own), false),
        (secret(".ssh/key"), false),
        (secret(shadow), true),
        (secret("link"), true),
        (secret("/proc/self/environ"), true),
        (config(shadow), true),
        (config("/etc/hostname"), false),
        (of_build(own), false),
        (of_build(shadow), true),
        (build("context: ."), false),
        (build("context: /etc, dockerfile_inline: FROM a"), true),
        (
            build("context: /etc/pam.d, dockerfile_inline: FROM a"),
            false,
        ),
        (
            build("context: ., additional_contexts: {host: /etc/ssh}"),
            true,
        ),
    ] {
        let refused = codes(project(folder.path(), &compose, ""));
        assert_eq!(
            refused == ["havre/not-allowed"],
            expected,
            "{compose}: {refused:?}"
        );
        let allowed = "services: {web: {allow: host-paths}}";
        assert!(codes(project(folder.path(), &compose, allowed)).is_empty());
    }
    // What is read as text would be shown, and nobody's word opens it.
    for compose in [
        "services: {web: {image: a, expose: [80], env_file: link}}",
        "services: {web: {image: a, expose: [80], extends: {file: link, service: web}}}",
        "include: [link]\nservices: {web: {image: a, expose: [80]}}",
    ] {
        let Err(refused) = project(folder.path(), compose, "") else {
            panic!("{compose}");
        };
        let error = &refused.errors[0];
        assert_eq!(error.code, "compose/missing-file", "{compose}");
        assert!(error.message.contains("/etc/shadow"), "{}", error.message);
    }
}
