//! Debian's docker-registry as a peer.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::run;

/// `u:p`, as `htpasswd -nbB u p` prints it.
const HTPASSWD: &str = "u:$2y$05$TfHlFD7sBKKgV8qvSpowRO3DwwCRxmrLv/LJUQRh/6X485Itf8OPy\n";

/// What a registry asks of its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    None,
    Password,
    Tls,
}

/// A running registry; ends with the value.
pub struct Registry {
    child: Child,
    _dir: tempfile::TempDir,
    /// `127.0.0.1:port`.
    pub host: String,
    /// The certificate of its authority.
    pub certificate: PathBuf,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Registry {
    /// Starts a registry on a port that the kernel chooses.
    pub fn start(guard: Guard) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificate = dir.path().join("ca.pem");
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n",
            dir.path().join("data").display()
        );
        match guard {
            Guard::None => {}
            Guard::Password => {
                let file = dir.path().join("htpasswd");
                fs::write(&file, HTPASSWD).unwrap();
                let auth = format!(
                    "auth:\n  htpasswd:\n    realm: r\n    path: {}\n",
                    file.display()
                );
                config.push_str(&auth);
            }
            Guard::Tls => certify(dir.path()),
        }
        config.push_str("http:\n  addr: 127.0.0.1:0\n  secret: s\n");
        if guard == Guard::Tls {
            config.push_str(&format!(
                "  tls:\n    certificate: {0}/cert.pem\n    key: {0}/key.pem\n",
                dir.path().display()
            ));
        }
        let file = dir.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let mut child = Command::new("docker-registry")
            .args(["serve".as_ref(), file.as_os_str()])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (found, port) = mpsc::channel();
        // Reads to the end, or the registry would block on a full pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    if found.send(digits).is_err() {
                        continue;
                    }
                }
            }
        });
        let port = port.recv_timeout(Duration::from_secs(30)).unwrap();
        Self {
            child,
            _dir: dir,
            host: format!("127.0.0.1:{port}"),
            certificate,
        }
    }

    /// Puts the image of an OCI archive there.
    pub fn push(&self, archive: &Path, name: &str, args: &[&str]) {
        let source = format!("oci-archive:{}", archive.display());
        let target = format!("docker://{}/{name}", self.host);
        let mut all = vec![
            "--insecure-policy",
            "copy",
            "--dest-tls-verify=false",
            "--quiet",
        ];
        all.extend_from_slice(args);
        all.extend([source.as_str(), target.as_str()]);
        run("skopeo", &all);
    }
}

/// Writes `ca.pem` and, signed by it, `cert.pem` and `key.pem`.
fn certify(dir: &Path) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "test authority");
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    fs::write(dir.join("cert.pem"), leaf.pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}
