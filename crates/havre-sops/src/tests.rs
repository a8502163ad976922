//! Against the real `sops` and `age`, both ways. A FAKE takes age's place: it hands a file to the `age` program.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::*;

/// Where `cargo xtask test` puts it, or in the path.
const PEER: &str = "target/peers/sops-3.11.0/bin/sops";

struct Scene {
    folder: PathBuf,
    sops: PathBuf,
    recipient: String,
}

/// What the kernel has.
struct Random(fs::File);

impl Entropy for Random {
    type Error = std::io::Error;

    fn fill(&mut self, bytes: &mut [u8]) -> std::io::Result<()> {
        std::io::Read::read_exact(&mut self.0, bytes)
    }
}

impl Scene {
    #[allow(clippy::disallowed_macros, reason = "its output is for a person")]
    fn new(name: &str) -> Option<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let peer = workspace.join(PEER);
        let sops = match peer.is_file() {
            true => peer,
            false => PathBuf::from("sops"),
        };
        let runs = |program: &Path| Command::new(program).arg("--version").output().is_ok();
        if !runs(&sops) || !runs(Path::new("age")) {
            println!("skipped: needs sops, which `cargo xtask test` fetches, and age");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("havre-sops-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let made = Command::new("age-keygen")
            .arg("-o")
            .arg(folder.join("key"))
            .output()
            .unwrap();
        let said = String::from_utf8(made.stderr).unwrap();
        let recipient = said.trim().strip_prefix("Public key: ").unwrap().to_owned();
        Some(Self {
            folder,
            sops,
            recipient,
        })
    }

    fn sops(&self, args: &[&str], name: &str) -> String {
        let output = Command::new(&self.sops)
            .args(args)
            .arg(self.folder.join(name))
            .env("SOPS_AGE_KEY_FILE", self.folder.join("key"))
            .current_dir(&self.folder)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `sops` makes of a file.
    fn encrypted(&self, name: &str, text: &str, more: &[&str]) -> String {
        fs::write(self.folder.join(name), text).unwrap();
        let args = [&["encrypt", "--age", &self.recipient], more].concat();
        self.sops(&args, name)
    }

    fn age(&self, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let mut age = Command::new("age")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir(&self.folder)
            .spawn()
            .unwrap();
        age.stdin.take().unwrap().write_all(input).unwrap();
        let output = age.wait_with_output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    fn decrypt(&self, text: &str, format: Format) -> Result<Vec<(String, String)>, SopsError> {
        let unwrap = |file: &[u8]| self.age(&["-d", "-i", "key"], file).map(Zeroizing::new);
        let items = decrypt(text, format, unwrap)?.items.into_iter();
        Ok(items
            .map(|one| (one.path.join("/"), one.value.to_string()))
            .collect())
    }

    fn encrypt(&self, values: &[(&str, &str)], format: Format) -> String {
        let mut random = Random(fs::File::open("/dev/urandom").unwrap());
        let wrap = |key: &[u8]| {
            Ok(vec![Sealed {
                recipient: self.recipient.clone(),
                file: self.age(&["-r", &self.recipient], key).unwrap(),
            }])
        };
        encrypt(values, format, "2026-11-30T00:00:00Z", &mut random, wrap).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

const YAML: &str = "\
# a comment
db:
    password: \"p: w\\nline2 ü\"
    port: 5432
    ratio: 1.50
    big: 100000000000000000000
    flag: true
    nothing: null
    empty: \"\"
    # another
    list: [a, 2, {x: y, z: no}]
\"a:b\": colon
hex: 0x1f
plain_unencrypted: visible
number_unencrypted: 12
truth_unencrypted: true
";

#[test]
fn what_sops_encrypts_is_read() {
    let Some(scene) = Scene::new("read") else {
        return;
    };
    let found = scene
        .decrypt(&scene.encrypted("a.yaml", YAML, &[]), Format::Yaml)
        .unwrap();
    let expected = [
        ("db/password", "p: w\nline2 ü"),
        ("db/port", "5432"),
        ("db/ratio", "1.5"),
        ("db/big", "100000000000000000000"),
        ("db/flag", "True"),
        ("db/empty", ""),
        ("db/list/0", "a"),
        ("db/list/1", "2"),
        ("db/list/2/x", "y"),
        ("db/list/2/z", "no"),
        ("a:b", "colon"),
        ("hex", "31"),
        ("plain_unencrypted", "visible"),
        ("number_unencrypted", "12"),
        ("truth_unencrypted", "True"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found, expected);

    let json =
        r#"{"a": {"b": 1, "c": 1.25e3, "d": [true, null, "x"]}, "z_unencrypted": 7, "ü": "é\n"}"#;
    let found = scene
        .decrypt(&scene.encrypted("a.json", json, &[]), Format::Json)
        .unwrap();
    let expected = [
        ("a/b", "1"),
        ("a/c", "1250"),
        ("a/d/0", "True"),
        ("a/d/2", "x"),
        ("z_unencrypted", "7"),
        ("ü", "é\n"),
    ];
    assert_eq!(
        found,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );

    let dotenv = "A=1\n# comment\nB=\"quo ted\"\nC=two\\nlines\nD=\nE=a=b\n";
    let found = scene
        .decrypt(&scene.encrypted("a.env", dotenv, &[]), Format::Dotenv)
        .unwrap();
    let expected = [
        ("A", "1"),
        ("B", "\"quo ted\""),
        ("C", "two\nlines"),
        ("D", ""),
        ("E", "a=b"),
    ];
    assert_eq!(
        found,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );

    // Some are left in clear, by a rule of the file.
    let some = scene.encrypted("b.yaml", YAML, &["--encrypted-regex", "^password$"]);
    assert!(some.contains("port: 5432"));
    assert_eq!(
        scene.decrypt(&some, Format::Yaml).unwrap()[0].1,
        "p: w\nline2 ü"
    );
}

#[test]
fn what_is_written_sops_decrypts() {
    let Some(scene) = Scene::new("write") else {
        return;
    };
    let values = [
        ("DATABASE_URL", "postgres://app:hunter2@db/shop"),
        ("EMPTY", ""),
        ("quoted", "\"'\\ #: ünïcode"),
        ("lines", "-----BEGIN\nabc\n-----END\n"),
        ("true", "true"),
        ("12", "007"),
    ];
    for (format, name) in [(Format::Yaml, "out.yaml"), (Format::Json, "out.json")] {
        let text = scene.encrypt(&[&values[..], &[("db/pass: word", "x")]].concat(), format);
        assert_eq!(is_encrypted(&text, format), Ok(true));
        fs::write(scene.folder.join(name), &text).unwrap();
        let plain = scene.sops(&["decrypt", "--output-type", "json"], name);
        let plain: serde_json::Value = serde_json::from_str(&plain).unwrap();
        for (name, value) in values {
            assert_eq!(plain[name], value, "{name}");
        }
        assert_eq!(plain["db/pass: word"], "x");
        let again = scene.decrypt(&text, format).unwrap();
        assert_eq!(again.len(), values.len() + 1);
    }
    let text = scene.encrypt(&values, Format::Dotenv);
    fs::write(scene.folder.join("out.env"), &text).unwrap();
    let plain = scene.sops(&["decrypt"], "out.env");
    assert!(
        plain.contains("DATABASE_URL=postgres://app:hunter2@db/shop\n"),
        "{plain}"
    );
    assert!(
        plain.contains("lines=-----BEGIN\\nabc\\n-----END\\n\n"),
        "{plain}"
    );
    assert_eq!(
        scene.decrypt(&text, Format::Dotenv).unwrap().len(),
        values.len()
    );
}

#[test]
fn what_was_edited_moved_or_left_out_is_refused() {
    let Some(scene) = Scene::new("edited") else {
        return;
    };
    let text = scene.encrypted(
        "a.yaml",
        "a: one\nb: two\nc: three\nd_unencrypted: x\n",
        &[],
    );
    let line = |name: &str| {
        let start = format!("{name}: ");
        text.lines()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap()
            .to_owned()
    };
    let refused = |text: &str| scene.decrypt(text, Format::Yaml).unwrap_err();
    let moved = text.replacen(&line("a"), &line("b"), 1);
    assert_eq!(refused(&moved), SopsError::Value { path: "a".into() });
    let without: String = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("b:"))
        .collect();
    assert_eq!(refused(&without), SopsError::Mac);
    assert_eq!(
        refused(&text.replace("d_unencrypted: x", "d_unencrypted: y")),
        SopsError::Mac
    );
    assert_eq!(
        refused(&text.replace("lastmodified: \"2", "lastmodified: \"1")),
        SopsError::Mac
    );
    let (one, two) = (text.lines().next().unwrap(), text.lines().nth(1).unwrap());
    let swapped = text.replacen(&format!("{one}\n{two}\n"), &format!("{two}\n{one}\n"), 1);
    assert_eq!(refused(&swapped), SopsError::Mac);
    let other = Scene::new("other").unwrap();
    assert_eq!(other.decrypt(&text, Format::Yaml), Err(SopsError::NoKey));
}

#[test]
fn what_sops_wrote_and_cannot_be_read_is_not_taken_for_clear() {
    let value = "ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]";
    for text in [
        format!("A={value}\nsops_mac={value}\n"),
        // Without what SOPS reads, or all of it.
        format!("A={value}\nB={value}\nno line of it\n"),
        format!("A={value}\nA={value}\n"),
        format!("A=b\nno line of it\nsops_mac={value}\n"),
        "A=b\nno line of it\r\nsops_version=3.9.0\r\n".to_owned(),
    ] {
        assert_eq!(is_encrypted(&text, Format::Dotenv), Ok(true), "{text}");
    }
    for text in ["A=b\nC='d\ne'\nexport F=g\n", "sops_home=/opt/sops", ""] {
        assert_eq!(is_encrypted(text, Format::Dotenv), Ok(false), "{text}");
    }
    for (text, format) in [("a: [b", Format::Yaml), ("{", Format::Json)] {
        assert!(is_encrypted(text, format).is_err(), "{text}");
    }
    assert_eq!(is_encrypted("a: b", Format::Yaml), Ok(false));
}

#[test]
fn what_is_no_file_of_sops_is_refused_and_not_repeated() {
    let never = |_: &[u8]| -> Option<Zeroizing<Vec<u8>>> { unreachable!("there is no key") };
    let refused = |text: &str, format| decrypt(text, format, never).unwrap_err();
    assert_eq!(refused("a: b", Format::Yaml), SopsError::NotSops);
    assert_eq!(refused("{\"a\": \"b\"}", Format::Json), SopsError::NotSops);
    assert_eq!(refused("A=b", Format::Dotenv), SopsError::NotSops);
    let pgp = "a: b\nsops:\n  pgp: [{fp: x}]\n  mac: x\n  lastmodified: x\n";
    let others = vec!["pgp"];
    assert_eq!(refused(pgp, Format::Yaml), SopsError::NotForAge { others });
    let split = "sops: {key_groups: [{age: []}]}";
    assert_eq!(refused(split, Format::Yaml), SopsError::KeyGroups);
    for (text, format) in [
        ("a: [hunter2", Format::Yaml),
        ("a: &x hunter2\nb: *x", Format::Yaml),
        ("a: hunter2\n---\nb: c", Format::Yaml),
        ("", Format::Yaml),
        ("{\"a\": \"hunter2", Format::Json),
        ("hunter2", Format::Dotenv),
    ] {
        let error = refused(text, format);
        assert!(matches!(error, SopsError::Syntax { .. }), "{text}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let deep = "[".repeat(5000);
    assert!(matches!(
        refused(&deep, Format::Yaml),
        SopsError::Syntax { .. }
    ));
    assert!(matches!(
        refused(&deep, Format::Json),
        SopsError::Syntax { .. }
    ));
    assert_eq!(
        refused(&"#".repeat(MAX_FILE_BYTES + 1), Format::Yaml),
        SopsError::TooLarge
    );
}
