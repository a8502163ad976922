//! Connections that speak git's protocol in both directions, as over SSH. The test binary is the command that runs
//! at the other end of SSH.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use crate::harness::{Served, Work, served};
use crate::pushing::noise;

pub const TESTS: &[(&str, fn())] = &[
    ("connecting::what_is_pushed_is_fetched", both),
    ("connecting::a_refused_push_is_told", refused),
];

/// `connect ADDRESS SERVICE NAME`.
pub fn client(args: &[OsString]) -> ExitCode {
    let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let [address, service, name] = args[..] else {
        return ExitCode::FAILURE;
    };
    let mut stream = TcpStream::connect(address).expect("connected");
    let head = format!(
        "POST /{}.git/connect/{service} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: git\r\n\
         authorization: Basic YW5uYTpwdXNoZXI=\r\n\r\n",
        name.trim_start_matches('/')
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("answered");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    let mut to = stream.try_clone().expect("shared");
    let sending = std::thread::spawn(move || {
        std::io::copy(&mut std::io::stdin(), &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    // What is not a line goes on at once too.
    let out = std::io::stdout().as_fd().try_clone_to_owned();
    let mut out = File::from(out.expect("shared"));
    let mut piece = vec![0; 65536];
    loop {
        match stream.read(&mut piece).expect("told") {
            0 => break,
            count => out.write_all(&piece[..count]).expect("passed on"),
        }
    }
    drop(sending);
    ExitCode::SUCCESS
}

/// A remote that is reached by the command.
fn connect(served: &Served, work: &Work) {
    let exe = std::env::current_exe().expect("this binary");
    for (key, service) in [
        ("remote.there.receivepack", "git-receive-pack"),
        ("remote.there.uploadpack", "git-upload-pack"),
    ] {
        let command = format!("{} connect {} {service}", exe.display(), served.address);
        work.git(&["config", key, &command]);
    }
    // As if the path was on another machine.
    let shell = work.path.join("ssh");
    std::fs::write(&shell, "#!/bin/sh\nshift\nexec sh -c \"$*\"\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&shell, mode).expect("its mode");
    work.git(&["config", "core.sshCommand", &shell.display().to_string()]);
    work.git(&["config", "ssh.variant", "simple"]);
    work.git(&["config", "remote.there.url", "ssh://there/shop"]);
}

fn both() {
    let served = served(|_| {});
    let work = served.work(&[("noise", &noise(3 << 20))]);
    connect(&served, &work);
    let told = work.git(&["push", "there", "main"]);
    assert!(told.contains("remote: run 1 succeeded"), "{told}");
    assert_eq!(served.main(), Some(work.head()));
    let other = served.work(&[("b", b"1")]);
    connect(&served, &other);
    other.git(&["fetch", "there", "main"]);
    assert_eq!(other.git(&["rev-parse", "FETCH_HEAD"]), work.head());
}

fn refused() {
    let served = served(|_| {});
    let work = served.work(&[("broken", b"")]);
    connect(&served, &work);
    let (ok, said) = work.run(&["push", "there", "main"]);
    assert!(!ok && said.contains("remote: ci.yml:3:7"), "{said}");
    assert_eq!(served.main(), None);
}
