//! What boxes trust beside what the machine does: the authority that signs the machine's own names.

use std::io;
use std::path::Path;

use super::{GroundError, fresh};

/// Where programs look for authorities: all in one file.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Where browsers do, which know no such file: Chromium's policies, by their folders.
const POLICIES: [&str; 2] = ["etc/chromium/policies", "etc/opt/chrome/policies"];
/// Most bytes of either.
const MOST: u64 = 8 << 20;

/// Adds a certificate, in PEM, to what is trusted below `root`. One that is not there yet is none.
pub fn add(root: &Path, certificate: &Path) -> Result<(), GroundError> {
    let Some(pem) = read(certificate)? else {
        return Ok(());
    };
    let bundle = root.join(BUNDLE);
    // Without one, programs bring their own, to which nothing can be added.
    if let Some(all) = read(&bundle)? {
        fresh::write(&bundle, &with(&all, &pem), 0o644)?;
    }
    for folder in POLICIES {
        let policy = root.join(folder).join("managed/havre.json");
        fresh::write(&policy, &policy_of(&pem), 0o644)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>, GroundError> {
    match havre_base::read_small(path, MOST) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(GroundError::file("read", path)(error)),
    }
}

/// A certificate behind others. Pure.
fn with(all: &str, pem: &str) -> String {
    format!("{}\n{}\n", all.trim_end(), pem.trim_end())
}

/// The policy by which Chromium trusts a certificate. Pure.
fn policy_of(pem: &str) -> String {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    let der: String = lines.map(str::trim).collect();
    format!("{{\"CACertificates\": [\"{der}\"]}}\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\nAg==\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_certificate_is_added_to_what_is_trusted_once_it_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, own) = (folder.path().join("root"), folder.path().join("ca.pem"));
        add(&root, &own).expect("nothing to add");
        assert!(!root.exists());
        fs::write(&own, PEM).expect("a certificate");
        add(&root, &own).expect("added");
        assert!(!root.join(BUNDLE).exists(), "nobody would read it");
        fs::create_dir_all(root.join(BUNDLE).parent().expect("a folder")).expect("a folder");
        fs::write(root.join(BUNDLE), "others\n\n").expect("a bundle");
        add(&root, &own).expect("added");
        let bundle = fs::read_to_string(root.join(BUNDLE)).expect("a bundle");
        assert_eq!(bundle, format!("others\n{PEM}"));
        let policy = root.join("etc/chromium/policies/managed/havre.json");
        let policy = fs::read_to_string(policy).expect("a policy");
        assert_eq!(policy, "{\"CACertificates\": [\"MIIBAg==\"]}\n");
    }
}
