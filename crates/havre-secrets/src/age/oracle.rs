//! Debian's `age` as the judge, both ways.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

fn age(arguments: &[&str], input: &[u8]) -> (Vec<u8>, String) {
    let mut child = Command::new("age")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.stdout, said)
}

fn is_there() -> bool {
    let there = Command::new("age").arg("--version").output().is_ok();
    if !there {
        println!("skipped: needs age");
    }
    there
}

#[test]
fn age_reads_what_is_written_and_writes_what_is_read() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.txt");
    for plain in [&b""[..], b"x", &[7; 65_536]] {
        let identity = Identity::generate().unwrap();
        std::fs::write(&key, identity.secret_text().as_bytes()).unwrap();
        let key = key.to_str().unwrap();
        let file = encrypt(&identity.recipient(), plain).unwrap();
        let (read, said) = age(&["-d", "-i", key], &file);
        assert_eq!(read, plain, "{said}");
        // Among others, of which the first one has a stanza of another form.
        let other = Identity::generate().unwrap().recipient().to_string();
        let own = identity.recipient().to_string();
        let ssh =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        let (file, said) = age(&["-r", ssh, "-r", &other, "-r", &own], plain);
        assert_eq!(
            decrypt(&identity, &file).as_deref().map(Vec::as_slice),
            Ok(plain),
            "{said}"
        );
        let stranger = Identity::generate().unwrap();
        assert_eq!(decrypt(&stranger, &file), Err(DecryptError::NotForIt));
    }
    let identity = Identity::generate().unwrap();
    let (large, _) = age(&["-r", &identity.recipient().to_string()], &[7; 65_537]);
    assert_eq!(decrypt(&identity, &large), Err(DecryptError::TooLarge));
}

#[test]
fn no_edited_or_shortened_file_is_decrypted() {
    let identity = Identity::generate().unwrap();
    let file = encrypt(&identity.recipient(), b"plain").unwrap();
    assert_eq!(*decrypt(&identity, &file).unwrap(), b"plain");
    for at in 0..file.len() {
        let mut edited = file.clone();
        edited[at] ^= 1;
        decrypt(&identity, &edited).unwrap_err();
        decrypt(&identity, &file[..at]).unwrap_err();
    }
    assert!(encrypt(&identity.recipient(), &[0; 65_537]).is_err());
}
