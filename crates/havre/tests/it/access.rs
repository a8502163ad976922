//! Access from elsewhere: the API over HTTPS, through the real edge, with tokens.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use havre_testing::wait_until;

use crate::machine::{Background, Machine, SOON, on_machine, program_file};
use crate::program::Ran;
use crate::workflow::Issuer;

const HOST: &str = "havre.example.org";
pub const URL: &str = "https://havre.example.org";

/// The shop, up on a machine whose API is at [`HOST`], and what a laptop knows of it.
pub struct Elsewhere<'m> {
    machine: &'m Machine,
    ca: PathBuf,
    /// Of whoever is elsewhere.
    pub config: PathBuf,
}

impl<'m> Elsewhere<'m> {
    pub fn new(machine: &'m Machine) -> Self {
        Self::with(machine, "")
    }

    /// With more in the machine's configuration.
    fn with(machine: &'m Machine, more: &str) -> Self {
        let etc = machine.root().join("etc");
        fs::create_dir_all(&etc).unwrap();
        let settings = format!("api: {{host: {HOST}}}\n{more}");
        fs::write(etc.join("machine.yaml"), settings).unwrap();
        // Names of a mount namespace that ends with the test.
        let hosts = machine.root().join("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost {HOST}\n")).unwrap();
        let mount = |args: &[&str]| Command::new("mount").args(args).status().unwrap();
        let hosts = hosts.display().to_string();
        assert!(mount(&["--bind", &hosts, "/etc/hosts"]).success());
        machine.shop_up();
        let ca = machine.root().join("ca.pem");
        machine.ok(&["ca", "export", "-o", &ca.display().to_string()]);
        let config = machine.root().join("config");
        let elsewhere = Self {
            machine,
            ca,
            config,
        };
        let ca = elsewhere.ca.display().to_string();
        let add = ["context", "add", "prod", URL, "--ca-file", &ca];
        let added = elsewhere.command("", &add).output().unwrap();
        assert!(added.status.success(), "{added:?}");
        elsewhere
    }

    pub fn command(&self, token: &str, args: &[&str]) -> Command {
        let mut command = self.machine.command_elsewhere(args);
        command
            .env("XDG_CONFIG_HOME", &self.config)
            .env("HAVRE_TOKEN", token);
        command
    }

    fn run(&self, token: &str, args: &[&str]) -> Ran {
        let args = [&["-c", "prod"], args].concat();
        self.command(token, &args).output().unwrap().into()
    }

    fn start(&self, token: &str, name: &str, args: &[&str]) -> Background {
        let args = [&["-c", "prod"], args].concat();
        self.machine.start_command(name, self.command(token, &args))
    }

    pub fn token(&self, name: &str, role: &str, place: &str) -> String {
        let args = ["token", "create", name, "--role", role, "--env", place];
        self.machine.ok(&args).out.trim().to_owned()
    }

    /// What the edge answers to a request as curl sends it: status, head and body; 0 where it does not even
    /// answer by TLS.
    fn curl(&self, args: &[&str]) -> (u16, String) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "20"])
            .args(["--noproxy", "*", "--cacert"])
            .arg(&self.ca)
            .args(["-X", "POST"])
            .args(if args.contains(&"-d") {
                &[][..]
            } else {
                &["-d", "{}"]
            })
            .args(args)
            .output()
            .expect("curl");
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("alert access denied") {
            return (0, said.into_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.split_ascii_whitespace().nth(1);
        let status = status.and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("{output:?}")), text)
    }

    pub fn end(self) {
        let umount = Command::new("umount").arg("/etc/hosts").status().unwrap();
        assert!(umount.success());
    }
}

#[test]
fn a_token_works_from_elsewhere_and_for_what_it_says() {
    on_machine(|machine| {
        let there = Elsewhere::new(machine);
        let deployer = there.token("ci", "deployer", "production");
        let status = there.run(&deployer, &["status", "--json"]);
        assert_eq!(status.code, 0, "{status:?}");
        assert_eq!(status.json()[0]["id"]["project"], "shop");
        let restarted = there.run(&deployer, &["restart", "web"]);
        assert_eq!(restarted.code, 0, "{restarted:?}");
        let releases = machine.ok(&["releases"]).out;
        assert!(releases.contains("token ci"), "{releases}");
        for refused in [
            &["exec", "web", "true"][..],
            &["token", "ls"],
            &["image", "ls"],
        ] {
            let ran = there.run(&deployer, refused);
            assert_eq!(ran.code, 9, "{refused:?}: {ran:?}");
            assert!(ran.err.contains("needs the role"), "{refused:?}: {ran:?}");
        }
        // Of another environment not even that it is there.
        let stranger = there.token("other", "admin", "blog/*");
        let status = there.run(&stranger, &["status", "--json"]);
        assert_eq!(status.json(), serde_json::json!([]), "{status:?}");
        let logs = there.run(&stranger, &["logs"]);
        assert_eq!(logs.code, 9, "{logs:?}");

        // A command both ways, through the edge.
        let admin = there.token("ops", "admin", "shop/*");
        let script = "cat; echo oops >&2; exit 7";
        let args = ["-c", "prod", "exec", "-i", "web", "sh", "-c", script];
        let mut command = there.command(&admin, &args);
        let input = machine.project().join("input");
        let sent = "x".repeat(200_000);
        fs::write(&input, &sent).unwrap();
        command.stdin(Stdio::from(fs::File::open(&input).unwrap()));
        let ran: Ran = command.output().unwrap().into();
        assert_eq!((ran.code, &ran.err[..]), (7, "oops\n"), "{}", ran.err);
        assert!(ran.out == sent, "{} bytes", ran.out.len());

        // What is under way ends with the token.
        let follower = there.start(&admin, "logs", &["logs", "-f"]);
        machine.ok(&["scale", "web=1"]);
        let sleep = "echo $$ > /tmp/pid; exec sleep 1000";
        let sleeper = there.start(&admin, "exec", &["exec", "web", "sh", "-c", sleep]);
        let look = ["exec", "web", "sh", "-c", "kill -0 $(cat /tmp/pid)"];
        let asleep = || machine.run(&look).code == 0;
        wait_until("the command runs", SOON, asleep);
        machine.ok(&["token", "revoke", "ops"]);
        for mut one in [follower, sleeper] {
            let code = one.ends();
            assert_eq!(code, 9, "{}", one.talk());
            assert!(one.talk().contains("revoked"), "{}", one.talk());
        }
        wait_until("the command is gone", SOON, || !asleep());
        let late = there.run(&admin, &["status"]);
        assert_eq!(late.code, 9, "{late:?}");
        there.end();
    });
}

/// Another environment's build is neither had nor replaced by whoever deploys beside it.
#[test]
fn a_deployer_has_the_images_of_his_environments_only() {
    on_machine(|machine| {
        let there = Elsewhere::new(machine);
        let images = || {
            let listed = machine.ok(&["image", "ls", "--json"]).json();
            let all = listed.as_array().expect("images").clone();
            let names = all
                .into_iter()
                .map(|one| (one["references"].clone(), one["digest"].clone()));
            names
                .filter(|(names, _)| names != &serde_json::json!([]))
                .collect::<Vec<_>>()
        };
        let before = images();
        let token = there.token("ci", "deployer", "blog/*");
        machine.write("havre.yaml", "");
        let inline = |image: &str, from: &str| {
            format!("{{{image}build: {{context: ., dockerfile_inline: \"FROM {from}\"}}}}")
        };
        for (service, why) in [
            (
                "{image: shop-web}".to_owned(),
                "built for another environment",
            ),
            (inline("", "shop-web"), "built for another environment"),
            (
                inline("image: shop-web, ", "base:1"),
                "built for another environment",
            ),
            (
                inline("image: 'base:1', ", "base:1"),
                "imported on this machine",
            ),
        ] {
            let text = format!("name: blog\nservices:\n  web: {service}\n");
            machine.write("compose.yaml", &text);
            for command in ["plan", "up"] {
                let ran = there.run(&token, &[command]);
                assert_eq!(ran.code, 9, "{text}{ran:?}");
                assert!(ran.err.contains(why), "{text}{ran:?}");
                assert!(ran.err.contains("deployer of blog/*"), "{text}{ran:?}");
                assert!(!ran.err.contains("shop/production"), "{text}{ran:?}");
            }
        }
        assert_eq!(images(), before);
        let own = "{build: {context: ., dockerfile_inline: \"FROM base:1\\nENV OWN=1\"}, command: [sleep, '9999'], init: true}";
        machine.write(
            "compose.yaml",
            &format!("name: blog\nservices:\n  web: {own}\n"),
        );
        for _ in 0..2 {
            let ran = there.run(&token, &["up"]);
            assert_eq!(ran.code, 0, "{ran:?}");
        }
        assert_eq!(images().len(), before.len() + 1);
        assert_eq!(there.run(&token, &["down"]).code, 0);
        // The machine ends with its own project.
        machine.web("");
        there.end();
    });
}

#[test]
fn a_workflow_works_with_what_its_issuer_says_of_it() {
    on_machine(|machine| {
        let issuer = Issuer::start();
        let there = Elsewhere::with(
            machine,
            &format!(
                "oidc:\n  - name: actions\n    issuer: {}\n    rules:\n      - claims: {{repository: acme/shop, \
                 ref: refs/heads/main}}\n        role: deployer\n        environments: [shop/production]\n",
                issuer.url
            ),
        );
        let offers = there.curl(&[&format!("{URL}/v1/login")]).1;
        assert!(
            offers.contains(&format!(r#""issuer":"{}""#, issuer.url)),
            "{offers}"
        );
        let exchange = |identity: &str| {
            let body = serde_json::json!({ "token": identity }).to_string();
            there.curl(&["-d", &body, &format!("{URL}/v1/login/oidc")])
        };
        let identity = issuer.token("1", "main");
        let (status, text) = exchange(&identity);
        assert_eq!(status, 200, "{text}");
        let (_, body) = text.split_once("\r\n\r\n").expect("a body");
        let issued: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let token = issued["token"].as_str().expect("a token");
        let restarted = there.run(token, &["restart", "web"]);
        assert_eq!(restarted.code, 0, "{restarted:?}");
        let releases = machine.ok(&["releases"]).out;
        assert!(releases.contains("actions:acme/shop@refs"), "{releases}");
        let refused = there.run(token, &["token", "ls"]);
        assert_eq!(refused.code, 9, "{refused:?}");
        let (status, text) = exchange(&identity);
        assert_eq!(status, 401, "{text}");
        assert!(text.contains("taken once"), "{text}");
        let (status, text) = exchange(&issuer.token("2", "dev"));
        assert_eq!(status, 403, "{text}");
        assert!(text.contains("acme/shop@refs/heads/dev"), "{text}");
        let listed = machine.ok(&["token", "ls"]).out;
        assert!(listed.contains("actions:"), "{listed}");
        let admin = format!("Authorization: Bearer {}", there.token("ops", "admin", "*"));
        let log = format!("{URL}/v1/audit/log");
        let (_, trail) = there.curl(&["-H", &admin, "-d", r#"{"limit": 100}"#, &log]);
        assert!(
            trail.contains("actions:acme/shop@refs/heads/main, deployer"),
            "{trail}"
        );
        assert!(
            !trail.contains(token) && !trail.contains(&identity),
            "{trail}"
        );
        there.end();
    });
}

#[test]
fn who_is_not_meant_is_refused_at_the_door() {
    on_machine(|machine| {
        let there = Elsewhere::new(machine);
        let viewer = there.token("eyes", "viewer", "*");
        let info = format!("{URL}/v1/whoami");
        let bearer = format!("Authorization: Bearer {viewer}");
        for version in ["--http1.1", "--http2"] {
            let (status, text) = there.curl(&[version, "-H", &bearer, &info]);
            assert_eq!(status, 200, "{text}");
            assert!(text.contains(r#""name":"token eyes""#), "{text}");
            assert!(
                text.to_ascii_lowercase()
                    .contains("cache-control: no-store"),
                "{text}"
            );
        }
        // Neither a cookie nor what a client says of itself.
        let cookie = format!("Cookie: token={viewer}; Authorization={viewer}");
        for claim in [
            &cookie[..],
            "X-Real-IP: 127.0.0.1",
            "Authorization: Basic cm9vdDpyb290",
        ] {
            let (status, text) = there.curl(&["-H", claim, &info]);
            assert_eq!(status, 401, "{text}");
            assert!(
                text.to_ascii_lowercase()
                    .contains("www-authenticate: bearer"),
                "{text}"
            );
            assert!(text.contains(r#""code":"unauthenticated""#), "{text}");
        }
        // A page of somebody else's, and a name that leads here by somebody else's DNS.
        let (status, text) = there.curl(&["-H", &bearer, "-H", "Origin: https://evil.test", &info]);
        assert_eq!(status, 403, "{text}");
        let (status, text) = there.curl(&["-k", "-H", "Host: evil.test", "-H", &bearer, &info]);
        assert_ne!(status, 200, "{text}");
        let rebound = ["--resolve", "evil.test:443:127.0.0.1", "-k", "-H", &bearer];
        let (status, text) = there.curl(&[&rebound[..], &["https://evil.test/v1/whoami"]].concat());
        assert_ne!(status, 200, "{text}");
        // On an application's domain there is no API.
        let shop = ["--resolve", "shop.localhost:443:127.0.0.1", "-H", &bearer];
        let (status, text) =
            there.curl(&[&shop[..], &["https://shop.localhost/v1/whoami"]].concat());
        assert_ne!(status, 200, "{text}");

        // Guessing ends, and is told.
        let wrong = format!("Authorization: Bearer havre_{}", "x".repeat(49));
        let statuses: Vec<u16> = (0..15)
            .map(|_| there.curl(&["-H", &wrong, &info]).0)
            .collect();
        assert!(statuses.contains(&429), "{statuses:?}");
        let told = machine.ok(&["daemon", "status"]).out;
        assert!(told.contains("without a token that holds"), "{told}");
        assert!(told.contains("from 127.0.0.1"), "{told}");
        let log = fs::read_to_string(machine.root().join("lib/daemon.log")).unwrap();
        assert!(log.contains("a call was refused"), "{log}");
        assert!(!log.contains(&viewer) && !log.contains("xxxxxxxx"), "{log}");
        there.end();
    });
}

#[test]
fn a_member_of_the_group_needs_no_sudo_and_may_what_it_is_entered_with() {
    on_machine(|machine| {
        let tables = [
            (
                "/etc/passwd",
                "anna:x:4242:4242::/:/bin/sh\nbob:x:4243:4243::/:/bin/sh\n",
            ),
            ("/etc/group", "havre:x:4244:anna\n"),
        ];
        fs::create_dir_all(machine.root()).unwrap();
        for (path, more) in tables {
            let own = machine.root().join(path.trim_start_matches("/etc/"));
            fs::write(&own, fs::read_to_string(path).unwrap() + more).unwrap();
            let mount = Command::new("mount")
                .arg("--bind")
                .arg(&own)
                .arg(path)
                .status();
            assert!(mount.unwrap().success());
        }
        machine.shop_up();
        let run_as = |user: u32, groups: &str, args: &[&str]| -> Ran {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={user}"))
                .arg(format!("--groups={groups}"))
                .args(["/proc/self/fd/0", "--root"])
                .arg(machine.root())
                .args(args)
                .current_dir(machine.project())
                .stdin(Stdio::from(program_file()));
            command.output().unwrap().into()
        };
        let anna = |args: &[&str]| run_as(4242, "4244", args);
        let status = anna(&["status"]);
        assert_eq!(status.code, 0, "{status:?}");
        let restarted = anna(&["restart", "web"]);
        assert_eq!(restarted.code, 0, "{restarted:?}");
        let releases = machine.ok(&["releases"]).out;
        assert!(releases.contains("anna"), "{releases}");
        // One who is not in it, and one whose session still is.
        let bob = run_as(4243, "4243", &["status"]);
        assert_eq!(bob.code, 8, "{bob:?}");
        let bob = run_as(4243, "4244", &["status"]);
        assert_eq!(bob.code, 9, "{bob:?}");
        assert!(bob.err.contains("usermod"), "{bob:?}");
        // Nothing else of the run folder is shown to the group.
        let locked = Command::new("setpriv")
            .args(["--reuid=4242", "--regid=4242", "--groups=4244", "cat"])
            .arg(machine.root().join("run/daemon.lock"))
            .output();
        assert!(!locked.unwrap().status.success());

        machine.ok(&["user", "add", "anna", "--role", "viewer", "--env", "shop/*"]);
        let status = anna(&["status"]);
        assert_eq!(status.code, 0, "{status:?}");
        let scaled = anna(&["scale", "web=2"]);
        assert_eq!(scaled.code, 9, "{scaled:?}");
        assert!(
            scaled.err.contains("anna is viewer of shop/*"),
            "{scaled:?}"
        );
        assert_eq!(machine.json(&["user", "ls"])[0]["name"], "anna");
        // She could do everything then, by the group alone.
        let kept = machine.run(&["user", "rm", "anna"]);
        assert_eq!(kept.code, 7, "{kept:?}");
        assert!(kept.err.contains("gpasswd"), "{kept:?}");
        let company = ["--issuer", "company", "--subject", "1"];
        let mut other = vec!["user", "add", "anna", "--role", "viewer", "--env", "shop/*"];
        other.extend(company);
        let kept = machine.run(&other);
        assert_eq!(kept.code, 7, "{kept:?}");
        let scaled = anna(&["scale", "web=2"]);
        assert_eq!(scaled.code, 9, "{scaled:?}");
        let groups = machine.root().join("group");
        let text = fs::read_to_string(&groups).unwrap();
        fs::write(&groups, text.replace("havre:x:4244:anna", "havre:x:4244:")).unwrap();
        machine.ok(&["user", "rm", "anna"]);
        let status = anna(&["status"]);
        assert_eq!(status.code, 9, "{status:?}");
        for (path, _) in tables {
            assert!(Command::new("umount").arg(path).status().unwrap().success());
        }
    });
}
