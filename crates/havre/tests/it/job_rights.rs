//! What a job may know and be: variables, its own token, its identity, pull requests. Through the real git and the real
//! edge.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::git_push::prepared;
use crate::machine::{Machine, on_machine};
use crate::program::Ran;

const HOST: &str = "havre.localhost";

const WORKFLOW: &str = r#"name: CI
on:
  push: {branches: [main]}
  pull_request:
permissions: {contents: write, id-token: write}
jobs:
  know:
    if: github.event_name == 'push'
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - run: |
          test "${{ vars.LEVEL }} ${{ vars.region }}" = "low eu"
      - name: push
        run: |
          git config user.name made && git config user.email made@example.org
          git switch --quiet -c made && echo made > made.txt && git add made.txt && git commit --quiet -m made
          git push origin made
          mkdir -p .github && echo x > .github/x && git add .github/x && git commit --quiet -m more
          if git push origin made; then exit 1; fi
      - name: GitHub's API
        run: curl -s "$GITHUB_API_URL/repos/shop/shop" | grep "no API of GitHub"
      - name: identity
        run: |
          ask() { curl -s -H "Authorization: bearer $1" "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=sts.example.org"; }
          ask "${{ github.token }}" | grep "is not this job's"
          echo "IDENTITY=$(ask "$ACTIONS_ID_TOKEN_REQUEST_TOKEN" | sed 's/.*"value":"//; s/".*//')"
  staged:
    if: github.event_name == 'push'
    runs-on: ubuntu-latest
    environment: {name: staging, deployment: false, url: https://staging.example.org}
    permissions: {}
    steps:
      - run: |
          test "${{ vars.LEVEL }} ${{ vars.REGION }}" = "high eu"
          test -z "$ACTIONS_ID_TOKEN_REQUEST_URL"
          test -z "$HAVRE_ENTRY"
          if havre vars set LEVEL=forged -E staging -p shop; then exit 1; fi
  proposal:
    if: github.event_name == 'pull_request'
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - run: |
          echo "$GITHUB_HEAD_REF into $GITHUB_BASE_REF as $GITHUB_REF ${{ github.event.action }}"
          cat one.txt two.txt
          test -z "$ACTIONS_ID_TOKEN_REQUEST_URL"
          test "${{ github.event.pull_request.head.sha }}" != "$GITHUB_SHA"
          if git push origin HEAD:refs/heads/evil; then exit 1; fi
"#;

/// Whether a JWT is signed by one of the keys of a JWK Set: by openssl, which knows nothing of either.
const VERIFY: &str = r#"
import base64, json, subprocess, sys, tempfile
token, keys = sys.argv[1], json.loads(sys.argv[2])["keys"]
raw = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
head, body, signature = token.split(".")
key = next(key for key in keys if key["kid"] == json.loads(raw(head))["kid"])
der = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + b"\4" + raw(key["x"]) + raw(key["y"])
def number(part):
    part = part.lstrip(b"\0") or b"\0"
    part = (b"\0" if part[0] > 127 else b"") + part
    return b"\2" + bytes([len(part)]) + part
pair = raw(signature)
pair = number(pair[:32]) + number(pair[32:])
def file(content):
    kept = tempfile.NamedTemporaryFile(delete=False)
    kept.write(content)
    kept.close()
    return kept.name
pem = b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(der) + b"-----END PUBLIC KEY-----\n"
subprocess.run(["openssl", "dgst", "-sha256", "-verify", file(pem), "-signature",
    file(b"\x30" + bytes([len(pair)]) + pair), file(f"{head}.{body}".encode())], check=True, stdout=sys.stderr)
print(json.dumps(json.loads(raw(body))))
"#;

fn git(machine: &Machine, args: &[&str]) -> Ran {
    let mut command = Command::new("git");
    prepared(&mut command, &machine.project());
    let ran: Ran = command.args(args).output().unwrap().into();
    assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
    ran
}

fn commit(machine: &Machine, name: &str, message: &str) {
    machine.write(name, &format!("{name}\n"));
    git(machine, &["add", "--all"]);
    git(machine, &["commit", "--quiet", "-m", message]);
}

fn fetched(machine: &Machine, path: &str) -> Value {
    let ca = machine.root().join("ca.pem").display().to_string();
    if !machine.root().join("ca.pem").exists() {
        machine.ok(&["ca", "export", "-o", &ca]);
    }
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
        .args(["--noproxy", "*", "--cacert", &ca])
        .args(["--resolve", &format!("{HOST}:443:127.0.0.1")])
        .arg(format!("https://{HOST}{path}"));
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.json()
}

fn verified(token: &str, keys: &Value) -> Ran {
    let mut command = Command::new("python3");
    command.args(["-c", VERIFY, token, &keys.to_string()]);
    command.output().unwrap().into()
}

fn log(machine: &Machine, number: &str) -> String {
    machine.ok(&["ci", "logs", number, "-p", "shop"]).out
}

#[test]
fn a_job_knows_and_is_what_its_workflow_says_and_a_pull_request_less() {
    on_machine(|machine| {
        machine.write("README.md", "A shop.\n");
        let etc = machine.root().join("etc");
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("machine.yaml"), format!("api: {{host: {HOST}}}\n")).unwrap();
        machine.start_daemon();
        let set = ["vars", "set", "level=low", "REGION=eu", "-p", "shop"];
        machine.ok(&set);
        machine.ok(&["vars", "set", "LEVEL=high", "-p", "shop", "-E", "staging"]);
        let listed = machine.json(&["vars", "ls", "-p", "shop", "-E", "staging"]);
        assert_eq!(listed[0]["value"], "high", "{listed}");
        assert_eq!(listed[1]["value"], "eu", "{listed}");
        let audit = machine.ok(&["audit", "log", "--action", "vars"]).out;
        assert!(audit.contains("level") && !audit.contains("low"), "{audit}");

        let folder = machine.project().join(".github/workflows");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ci.yml"), WORKFLOW).unwrap();
        git(machine, &["init", "--quiet", "--initial-branch=main"]);
        let mut remote = machine.command(&["git", "remote", "--add", "-p", "shop"]);
        prepared(&mut remote, &machine.project());
        let added: Ran = remote.output().unwrap().into();
        assert_eq!(added.code, 0, "{added:?}");
        commit(machine, "one.txt", "one");
        let pushed = git(machine, &["push", "havre", "main"]);
        assert!(pushed.err.contains("CI #1: success"), "{pushed:?}");
        let told = log(machine, "1");
        assert!(told.contains("a job's push starts nothing"), "{told}");
        assert!(told.contains("a job may not push what changes"), "{told}");
        let branches = git(machine, &["ls-remote", "havre"]).out;
        assert!(branches.contains("refs/heads/made"), "{branches}");
        let shown = machine.ok(&["ci", "show", "1", "-p", "shop"]).out;
        assert!(shown.contains("https://staging.example.org"), "{shown}");

        // What the job is believed by others.
        let found = fetched(machine, "/.well-known/openid-configuration");
        assert_eq!(found["issuer"], format!("https://{HOST}"), "{found}");
        let keys = fetched(machine, "/.well-known/jwks");
        let token = told.rsplit("IDENTITY=").next().unwrap_or_default();
        let token = token.lines().next().unwrap_or_default().trim();
        let claims = verified(token, &keys);
        assert_eq!(claims.code, 0, "{claims:?}");
        let claims = claims.json();
        for (name, value) in [
            ("iss", "https://havre.localhost"),
            ("aud", "sts.example.org"),
            ("sub", "repo:shop/shop:ref:refs/heads/main"),
            (
                "job_workflow_ref",
                "shop/shop/.github/workflows/ci.yml@refs/heads/main",
            ),
            ("event_name", "push"),
        ] {
            assert_eq!(claims[name], value, "{claims}");
        }
        machine.ok(&["ci", "identity", "--rotate"]);
        let keys = fetched(machine, "/.well-known/jwks");
        assert_ne!(
            verified(token, &keys).code,
            0,
            "a key that went signs still"
        );

        // A branch is to go into main, which went on meanwhile.
        git(machine, &["switch", "--quiet", "-c", "feature"]);
        commit(machine, "two.txt", "two");
        git(machine, &["switch", "--quiet", "main"]);
        commit(machine, "three.txt", "[skip ci] three");
        git(machine, &["push", "havre", "main"]);
        let pushed = git(machine, &["push", "havre", "feature"]);
        let place = "runs for pull request 1 (feature into main)";
        assert!(pushed.err.contains(place), "{pushed:?}");
        assert!(pushed.err.contains("CI #2: success"), "{pushed:?}");
        let told = log(machine, "2");
        let said = "feature into main as refs/pull/1/merge opened";
        assert!(told.contains(said), "{told}");
        let branches = git(machine, &["ls-remote", "havre"]).out;
        assert!(!branches.contains("refs/heads/evil"), "{branches}");

        // What cannot be merged does not run, and says so.
        git(machine, &["switch", "--quiet", "feature"]);
        commit(machine, "three.txt", "another three");
        machine.write("three.txt", "quite another\n");
        git(machine, &["commit", "--quiet", "-am", "three once more"]);
        let pushed = git(machine, &["push", "havre", "feature"]);
        assert!(
            pushed.err.contains("cannot be merged into main"),
            "{pushed:?}"
        );
        let none = git(
            machine,
            &["push", "-o", "pr=none", "havre", "feature:other"],
        );
        assert!(!none.err.contains("pull request"), "{none:?}");
        let runs = machine.json(&["ci", "ls", "-p", "shop"]);
        assert_eq!(runs.as_array().map(Vec::len), Some(2), "{runs}");
        // What only had jobs has its groups until an environment was there and went.
        machine.shop_up();
    });
}
