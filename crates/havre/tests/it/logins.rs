//! Logins by an issuer of identities, and what somebody who is no admin deploys: through the real edge.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::machine::{Machine, on_machine};
use crate::program::Ran;

// This machine by its name, so that its issuer may be here without TLS.
const HOST: &str = "havre.localhost";
const URL: &str = "https://havre.localhost";

/// A FAKE issuer, in a process of its own; it ends with it.
struct Issuer {
    process: Child,
    port: String,
}

impl Issuer {
    fn start(machine: &Machine) -> Self {
        let folder = machine.root();
        fs::create_dir_all(&folder).unwrap();
        let key = folder.join("issuer.pem");
        let made = Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048")
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let script = folder.join("issuer.py");
        fs::write(&script, include_str!("data/issuer.py")).unwrap();
        let mut process = Command::new("python3")
            .arg(script)
            .arg(key)
            .arg(URL)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        said.read_line(&mut port).unwrap();
        Self {
            process,
            port: port.trim().to_owned(),
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

struct Laptop<'m> {
    machine: &'m Machine,
    config: PathBuf,
}

impl<'m> Laptop<'m> {
    /// With the context `prod`: a machine whose API is at [`HOST`], and which believes the issuer.
    fn new(machine: &'m Machine, issuer: &Issuer) -> Self {
        let etc = machine.root().join("etc");
        fs::create_dir_all(&etc).unwrap();
        let settings = format!(
            "api: {{host: {HOST}}}\noidc:\n  - name: company\n    issuer: http://127.0.0.1:{}\n    \
             client_id: havre-cli\n    rules:\n      - claims: {{sub: anna}}\n        role: deployer\n        \
             environments: [shop/production]\n",
            issuer.port
        );
        fs::write(etc.join("machine.yaml"), settings).unwrap();
        // Names of a mount namespace that ends with the test.
        let hosts = machine.root().join("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost {HOST}\n")).unwrap();
        let mount = Command::new("mount")
            .arg("--bind")
            .arg(&hosts)
            .arg("/etc/hosts")
            .status();
        assert!(mount.unwrap().success());
        machine.shop_up();
        let ca = machine.root().join("ca.pem").display().to_string();
        machine.ok(&["ca", "export", "-o", &ca]);
        let config = machine.root().join("config");
        let laptop = Self { machine, config };
        let added = laptop.run(&["context", "add", "prod", URL, "--ca-file", &ca, "--use"]);
        assert_eq!(added.code, 0, "{added:?}");
        laptop
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command_elsewhere(args);
        command.env("XDG_CONFIG_HOME", &self.config);
        for name in ["HAVRE_TOKEN", "HAVRE_CONTEXT", "HAVRE_ROOT"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    fn forget(&self) {
        fs::remove_file(self.config.join("havre/tokens/prod")).unwrap();
    }

    fn end(self) {
        let umount = Command::new("umount").arg("/etc/hosts").status().unwrap();
        assert!(umount.success());
    }
}

#[test]
fn people_and_jobs_log_in_by_an_issuer_and_deploy() {
    on_machine(|machine| {
        let issuer = Issuer::start(machine);
        let laptop = Laptop::new(machine, &issuer);
        let nobody = laptop.run(&["status"]);
        assert_eq!(nobody.code, 9, "nobody is logged in: {nobody:?}");

        // A job.
        let mut job = laptop.command(&["login", "--oidc"]);
        let url = format!("http://127.0.0.1:{}/job?run=1", issuer.port);
        job.env("ACTIONS_ID_TOKEN_REQUEST_URL", url)
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-runner");
        let job: Ran = job.output().unwrap().into();
        assert_eq!(job.code, 0, "{job:?}");
        assert!(job.err.contains("deployer of shop/production"), "{job:?}");
        machine.page("two");
        let up = laptop.run(&["up"]);
        assert_eq!(up.code, 0, "{up:?}");
        assert!(up.err.contains("sending"), "{up:?}");
        machine.until_answers("two");
        let again = laptop.run(&["up"]);
        assert!(again.err.contains("nothing changed"), "{again:?}");
        // Neither a command in a replica, nor the server's own disk.
        assert_eq!(laptop.run(&["exec", "web", "true"]).code, 9);
        machine.web("    volumes: ['/srv:/srv:ro']\n");
        let refused = laptop.run(&["up"]);
        assert_eq!(refused.code, 9, "{refused:?}");
        assert!(
            refused
                .err
                .contains("from an admin of the whole machine alone"),
            "{refused:?}"
        );
        laptop.forget();

        // By a code.
        let device = laptop.run(&["login", "--oidc", "--device"]);
        assert_eq!(device.code, 0, "{device:?}");
        assert!(device.err.contains("type ABCD-EFGH"), "{device:?}");
        assert_eq!(laptop.run(&["status"]).code, 0);
        laptop.forget();

        // In a browser, which is curl here.
        let mut login = laptop
            .command(&["login", "--oidc"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(login.stderr.take().unwrap()).lines();
        let open = said.next().unwrap().unwrap();
        let url = open.strip_prefix("open ").expect("an address");
        let (callback, _) = url
            .split_once("redirect_uri=")
            .map(|(_, rest)| rest.split_once('&').unwrap())
            .unwrap();
        let callback = callback.replace("%3A", ":").replace("%2F", "/");
        let curl = |url: &str| {
            let output = Command::new("curl")
                .args([
                    "--silent",
                    "--location",
                    "--noproxy",
                    "*",
                    "--max-time",
                    "20",
                    url,
                ])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        // Another page's code is none.
        let forged = curl(&format!("{callback}?code=x&state=y"));
        assert!(forged.contains("Nothing is here"), "{forged}");
        let page = curl(url);
        assert!(page.contains("You are logged in"), "{page}");
        assert!(login.wait().unwrap().success());
        assert_eq!(laptop.run(&["status"]).code, 0);

        // What is no identity changes nothing.
        let file = machine.root().join("token");
        fs::write(&file, "no.identity.atall").unwrap();
        let file = file.display().to_string();
        let refused = laptop.run(&["login", "--id-token-file", &file]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert_eq!(laptop.run(&["status"]).code, 0);
        laptop.end();
        machine.ok(&["down"]);
    });
}
