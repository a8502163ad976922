//! gRPC services as containers, with the client and the server of grpcio (`cargo xtask test` fetches
//! it).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machine::{Machine, on_machine_under_load};

const SERVER: &str = include_str!("grpc-server.py");
const CLIENT: &str = include_str!("grpc-client.py");

/// The environment that `cargo xtask test` makes.
fn grpc() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = workspace.join("target/peers/grpcio-1.85.3");
    if !folder.join("bin/python").is_file() {
        println!("skipped: needs grpcio, which `cargo xtask test` fetches");
        return None;
    }
    Some(fs::canonicalize(folder).unwrap())
}

/// A project with such a service of this release, run by the machine's own Python.
fn write(machine: &Machine, grpc: &Path, release: &str) {
    let python = grpc.join("bin/python");
    let base = Command::new(&python)
        .args(["-c", "import sys; print(sys.base_prefix, end='')"])
        .output()
        .unwrap();
    let base = String::from_utf8(base.stdout).unwrap();
    let folders = ["/usr", "/lib", "/lib64", &base, grpc.to_str().unwrap()];
    let mut mounts = String::new();
    for folder in folders.iter().filter(|folder| Path::new(folder).exists()) {
        // The machine's may be a link.
        let source = fs::canonicalize(folder).unwrap();
        if *folder == "/usr" || !Path::new(folder).starts_with("/usr") {
            writeln!(mounts, "      - '{}:{folder}:ro'", source.display()).unwrap();
        }
    }
    let python = python.display();
    let compose = format!(
        "\
name: shop
services:
  rpc:
    build: .
    init: true
    expose: [50051]
    environment: {{RELEASE: {release}}}
    command: ['{python}', /server.py]
    deploy: {{replicas: 2}}
    volumes:
{mounts}"
    );
    machine.write("compose.yaml", &compose);
    machine.write("server.py", SERVER);
    machine.write("Dockerfile", "FROM base:1\nCOPY server.py /\n");
    let route = "{path: /, service: rpc, port: 50051, protocol: h2c}";
    let havre = format!("domain: shop.localhost\nroutes: [{route}]\nrollout: {{bake: 3s}}\n");
    machine.write("havre.yaml", &havre);
}

#[test]
fn a_rollout_costs_no_call() {
    if grpc().is_none() {
        return;
    }
    on_machine_under_load(|machine| {
        let Some(grpc) = grpc() else { return };
        machine.shop("none");
        write(machine, &grpc, "one");
        machine.ok(&["up"]);
        machine.write("client.py", CLIENT);
        machine.write("ca.pem", &machine.ok(&["ca", "export"]).out);
        let mut client = Command::new(grpc.join("bin/python"))
            .args(["client.py", "ca.pem"])
            .current_dir(machine.project())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for release in ["two", "three"] {
            write(machine, &grpc, release);
            machine.ok(&["up"]);
        }
        drop(client.stdin.take());
        let said = client.wait_with_output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        println!("{said}");
        let times = |release: &str| {
            let line = said.lines().find(|line| line.ends_with(release));
            let count = line.and_then(|line| line.split(' ').next()?.parse().ok());
            count.unwrap_or(0)
        };
        assert!(!said.contains("failed"), "{said}");
        for release in ["one", "two", "three"] {
            assert!(times(release) > 20, "{release} answered too little: {said}");
        }
    });
}
