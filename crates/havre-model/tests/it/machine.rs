//! What a service may have of the machine is said in havre.yaml and nowhere else.

use std::fs;
use std::path::Path;

use havre_model::{Allow, LoadFailure, LoadOptions, Loaded, ServiceName, load};

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
        ("SYS_MODULE", true),
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
