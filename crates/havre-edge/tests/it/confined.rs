//! What the process that faces strangers cannot do.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::edge::{ACCESS_LOG, Edge, RUN, STATE};
use crate::http1::Connection;
use crate::origin::Origin;

/// Its user, which no passwd entry names.
const USER: u32 = 60_943;

fn serves(edge: &Edge, address: SocketAddr) {
    let ca = &edge.authority.pem;
    let mut client = Connection::tls(address, "app.test", ca).expect("TLS");
    assert_eq!(client.get("app.test", "/").text(), "a");
}

pub fn every_thread_has_given_up_what_it_does_not_need() {
    let edge = Edge::start();
    let threads = fs::read_dir(format!("/proc/{}/task", edge.pid())).expect("its threads");
    let mut names = Vec::new();
    for thread in threads {
        let path = thread.expect("a thread").path();
        let status = fs::read_to_string(path.join("status")).expect("its status");
        for line in [
            format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}"),
            format!("Gid:\t{USER}\t{USER}\t{USER}\t{USER}"),
            "Groups:\t ".to_owned(),
            "CapInh:\t0000000000000000".to_owned(),
            // CAP_NET_BIND_SERVICE.
            "CapPrm:\t0000000000000400".to_owned(),
            "CapEff:\t0000000000000400".to_owned(),
            "CapBnd:\t0000000000000000".to_owned(),
            "CapAmb:\t0000000000000000".to_owned(),
            "NoNewPrivs:\t1".to_owned(),
            "Seccomp:\t2".to_owned(),
        ] {
            assert!(status.lines().any(|it| it == line), "{line} in:\n{status}");
        }
        names.push(status.lines().next().unwrap_or_default().to_owned());
    }
    assert!(
        names.iter().any(|name| name.ends_with("edge-0")),
        "{names:?}"
    );
}

pub fn it_sees_its_folders_and_nothing_else() {
    let mut edge = Edge::start();
    fs::write(edge.path("state.db"), "secrets").expect("a file of the daemon's");
    edge.push();
    // As the process sees it.
    let root = PathBuf::from(format!("/proc/{}/root", edge.pid()));
    let seen = |path: &Path| root.join(path.strip_prefix("/").expect("an absolute path"));
    for hidden in [
        &edge.path("state.db"),
        Path::new("/etc"),
        Path::new("/proc"),
    ] {
        let error = fs::metadata(seen(hidden)).expect_err("it is not there");
        let kind = error.kind();
        assert_eq!(kind, std::io::ErrorKind::NotFound, "{}", hidden.display());
    }
    let mut names: Vec<_> = fs::read_dir(seen(&edge.path("")))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, [RUN, STATE]);
    // Nobody else looks into them, and its state holds the keys of certificates.
    for (name, mode) in [(RUN, 0o700), (STATE, 0o700), ("state/edge.json", 0o600)] {
        let metadata = fs::metadata(edge.path(name)).expect(name);
        let found = (metadata.uid(), metadata.permissions().mode() & 0o777);
        assert_eq!(found, (USER, mode), "{name}");
    }
    assert_eq!(
        fs::metadata(edge.path(ACCESS_LOG)).expect("a log").uid(),
        USER
    );
    let state = fs::read_to_string(edge.path("state/edge.json")).expect("its state");
    assert!(
        state.contains("PRIVATE KEY"),
        "the keys come with the state"
    );
}

pub fn a_privileged_port_can_be_opened_later() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    // An address of this test's own, so that nobody else has the port.
    let [_, _, high, low] = edge.pid().to_be_bytes();
    let address = SocketAddr::from(([127, 77, high, low], 443));
    edge.state.https.push(address);
    edge.push();
    assert_eq!(edge.status.problems, [""; 0]);
    serves(&edge, address);
    edge.kill();
    edge.launch(&[]);
    serves(&edge, address);
}

/// As after an upgrade from a version whose edge was root's and had no folders of its own.
pub fn it_takes_over_from_an_edge_that_runs_as_root() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    let (former, name) = (edge.path("former"), "edge-handover.sock");
    fs::create_dir(&former).expect("a folder");
    fs::set_permissions(&former, fs::Permissions::from_mode(0o700)).expect("for root only");
    fs::rename(edge.path(RUN).join(name), former.join(name)).expect("where it was formerly");
    std::os::unix::fs::chown(former.join(name), Some(0), Some(0)).expect("root's");
    fs::remove_file(edge.path("run/edge.lock")).expect("nobody had one there");
    let port = edge.https();
    let former = former.display().to_string();
    let old = edge.take_over_with(&["--formerly", &former, "--takeover", "5"]);
    assert_eq!(edge.https(), port, "the very same sockets");
    serves(&edge, port);
    // It had been told to, and idle as it is may have ended already.
    edge.wait_for_predecessor(old);
    serves(&edge, port);
    // And the next one from this one.
    let old = edge.take_over(5);
    serves(&edge, port);
    edge.wait_for_predecessor(old);
}
