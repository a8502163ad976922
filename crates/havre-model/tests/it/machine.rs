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
