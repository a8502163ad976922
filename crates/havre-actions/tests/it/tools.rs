//! What sets up languages, with fake tools in folders of the job, and a real Python.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::fake::Fake;
use crate::job::Job;
use crate::web;

crate::tests![
    node_comes_from_the_tool_cache_then_the_machine,
    node_is_fetched_with_its_checksum,
    node_is_wanted_by_a_file,
    a_registry_has_its_npmrc,
    packages_are_cached_under_the_hash_of_the_lock_file,
    python_of_the_machine_gets_an_environment_where_others_manage_it,
    python_is_taken_as_it_is_where_it_is_free,
    python_is_fetched_with_its_checksum,
    go_is_found_or_fetched,
    java_is_found_by_what_its_release_says,
    pnpm_is_installed_by_npm,
];

const NODE: &str = "actions/setup-node";
const PYTHON: &str = "actions/setup-python";
const NOWHERE: &str = "http://127.0.0.1:1";

/// A job with nothing in its PATH but what the test puts there.
fn job() -> Job {
    let mut job = Job::new();
    fs::create_dir_all(job.at("bin")).unwrap();
    job.set("PATH", job.at("bin").to_str().unwrap());
    job
}

/// A program that is a script.
fn fake(job: &Job, path: &str, script: &str) {
    let path = job.write(path, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    }
}

/// An archive of one script, in one folder.
fn archive(path: &str, script: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let script = format!("#!/bin/sh\n{script}\n");
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(script.len().try_into().unwrap());
    builder
        .append_data(&mut header, path, script.as_bytes())
        .unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

fn sha256(content: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(content))
}

fn node_comes_from_the_tool_cache_then_the_machine() {
    let job = job();
    fake(&job, "bin/node", "echo v18.20.4");
    for (version, complete) in [("20.1.0", true), ("20.3.0", true), ("20.9.0", false)] {
        fake(
            &job,
            &format!("tools/node/{version}/{}/bin/node", arch()),
            "echo it",
        );
        if complete {
            job.write(&format!("tools/node/{version}/{}.complete", arch()), "");
        }
    }
    let done = job.main(NODE, &[("node-version", "20")]).well();
    assert_eq!(done.output("node-version"), "v20.3.0");
    let bin = job.at(&format!("tools/node/20.3.0/{}/bin", arch()));
    assert_eq!(done.path, [bin.to_str().unwrap()]);
    assert!(done.log.contains("::add-matcher::"), "{}", done.log);
    let done = job.main(NODE, &[("node-version", ">=18 <20")]).well();
    assert_eq!(
        (done.output("node-version"), done.path.len()),
        ("v18.20.4", 0)
    );
    assert_eq!(
        job.main(NODE, &[]).well().output("node-version"),
        "v18.20.4"
    );
    let done = job.main(NODE, &[("node-version", "22"), ("mirror", NOWHERE)]);
    let done = done.badly("no node that is `22`: there is 18.20.4 in");
    done.badly("20.3.0 in the tool cache, and none can be fetched");
    job.main(NODE, &[("node-version", "new")])
        .badly("is no version of Node.js");
    job.main(NODE, &[("node-version", "20"), ("architecture", "x86")])
        .badly("the machine's own architecture");
}

/// A mirror with versions of Node.js; the checksum of the last one is wrong.
fn mirror() -> String {
    let mut files = BTreeMap::new();
    let mut list = Vec::new();
    for (version, lts) in [
        ("v22.1.0", "\"Jod\""),
        ("v23.0.0", "false"),
        ("v24.0.0", "\"Krypton\""),
    ] {
        let name = format!("node-{version}-linux-{}.tar.gz", arch());
        let content = archive(
            &format!("node-{version}/bin/node"),
            &format!("echo {version}"),
        );
        let sum = if version == "v24.0.0" {
            "0".repeat(64)
        } else {
            sha256(&content)
        };
        files.insert(
            format!("/{version}/SHASUMS256.txt"),
            format!("{}  other\n{sum}  {name}\n", "1".repeat(64)).into_bytes(),
        );
        files.insert(format!("/{version}/{name}"), content);
        list.push(format!(
            r#"{{"version":"{version}","lts":{lts},"files":[]}}"#
        ));
    }
    files.insert(
        "/index.json".to_owned(),
        format!("[{}]", list.join(",")).into_bytes(),
    );
    web::serve(files)
}

fn node_is_fetched_with_its_checksum() {
    let job = job();
    let mirror = mirror();
    let main = |version: &str, more: (&str, &str)| {
        job.main(
            NODE,
            &[("node-version", version), ("mirror", &mirror), more],
        )
    };
    let done = main("lts/jod", ("", "")).well();
    assert_eq!(done.output("node-version"), "v22.1.0");
    assert!(done.log.contains("Fetching node 22.1.0"), "{}", done.log);
    assert_eq!(
        fs::read_dir(job.at("tools/node/22.1.0")).unwrap().count(),
        2,
        "the folder and its mark"
    );
    let done = main("22", ("", "")).well();
    assert!(!done.log.contains("Fetching"), "{}", done.log);
    // What there is would do, but is not the newest.
    let done = main(">=22 <24", ("check-latest", "true")).well();
    assert_eq!(done.output("node-version"), "v23.0.0");
    main("latest", ("", "")).badly("is not what its list of checksums says");
    assert!(!job.at("tools/node/24.0.0").exists());
    main("26", ("", "")).badly("has no such version");
}

fn node_is_wanted_by_a_file() {
    let job = job();
    fake(&job, "bin/node", "echo v18.20.4");
    job.write("work/shop/.nvmrc", "v18.20.4\n");
    job.main(NODE, &[("node-version-file", ".nvmrc")]).well();
    job.write("work/shop/package.json", r#"{"engines":{"node":"^19"}}"#);
    job.main(
        NODE,
        &[("node-version-file", "package.json"), ("mirror", NOWHERE)],
    )
    .badly("no node that is `^19`");
    job.main(NODE, &[("node-version-file", "gone")])
        .badly("cannot read gone");
}

fn a_registry_has_its_npmrc() {
    let job = job();
    fake(&job, "bin/node", "echo v18.20.4");
    let done = job
        .main(
            NODE,
            &[
                ("registry-url", "https://npm.pkg.github.com"),
                ("scope", "@Acme"),
            ],
        )
        .well();
    let file = job.at("temp/.npmrc");
    assert_eq!(done.env["NPM_CONFIG_USERCONFIG"], file.to_str().unwrap());
    assert!(done.env.contains_key("NODE_AUTH_TOKEN"));
    let expected = "//npm.pkg.github.com/:_authToken=${NODE_AUTH_TOKEN}\n@acme:registry=https://npm.pkg.github.com/\n";
    assert_eq!(fs::read_to_string(file).unwrap(), expected);
}

fn packages_are_cached_under_the_hash_of_the_lock_file() {
    let mut job = job();
    let service = Fake::of(&mut job);
    fake(&job, "bin/node", "echo v18.20.4");
    fake(&job, "bin/npm", "echo 'npm warn' >&2; echo $HOME/.npm");
    job.main(NODE, &[("cache", "npm")])
        .badly("none of package-lock.json");
    job.main(NODE, &[("cache", "pip")])
        .badly("`cache: pip` is not one of npm, yarn, pnpm");
    job.write("work/shop/package-lock.json", "{}");
    let done = job.main(NODE, &[("cache", "npm")]).well();
    assert_eq!(done.output("cache-hit"), "false");
    job.write("home/.npm/a", "one");
    job.post(NODE, &[("cache", "npm")], &done).well();
    fs::remove_dir_all(job.at("home/.npm")).unwrap();
    let done = job.main(NODE, &[("cache", "npm")]).well();
    assert_eq!(done.output("cache-hit"), "true");
    assert_eq!(job.read("home/.npm/a"), "one");
    let done = job.post(NODE, &[], &done).well();
    assert!(done.log.contains("not saved again"), "{}", done.log);
    // Of another lock file it is another one.
    job.write("work/shop/package-lock.json", "{ }");
    assert_eq!(
        job.main(NODE, &[("cache", "npm")])
            .well()
            .output("cache-hit"),
        "false"
    );
    // By itself only where package.json names npm.
    service.calls();
    job.main(NODE, &[]).well();
    assert_eq!(service.calls(), Vec::<String>::new());
    job.write(
        "work/shop/package.json",
        r#"{"packageManager":"npm@10.1.0"}"#,
    );
    job.main(NODE, &[("package-manager-cache", "false")]).well();
    assert_eq!(service.calls(), Vec::<String>::new());
    job.main(NODE, &[]).well();
    assert_eq!(service.calls(), ["GetCacheEntryDownloadURL"]);
}

/// The machine's Python and its version.
fn real_python() -> Option<(String, String)> {
    let question = "import sys; print(sys.executable); print('%d.%d.%d' % sys.version_info[:3])";
    let output = Command::new("python3")
        .args(["-c", question])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (program, version) = text.trim().split_once('\n')?;
    Some((program.to_owned(), version.to_owned()))
}

fn python_of_the_machine_gets_an_environment_where_others_manage_it() {
    let Some((program, version)) = real_python() else {
        println!("skipped: needs python3");
        return;
    };
    let job = job();
    let script = format!(
        "if [ \"$1\" = -c ]; then printf '{version}\\nfinal\\n%s\\nmanaged\\n' \"$0\"; else exec {program} \"$@\"; fi"
    );
    fake(&job, "bin/python3", &script);
    let done = job.main(PYTHON, &[("python-version", "3.x")]).well();
    assert_eq!(done.output("python-version"), version);
    let bin = job.at(&format!("temp/python-{version}/bin"));
    assert_eq!(done.path, [bin.to_str().unwrap()]);
    assert_eq!(
        done.output("python-path"),
        bin.join("python").to_str().unwrap()
    );
    assert_eq!(
        done.env["pythonLocation"],
        bin.parent().unwrap().to_str().unwrap()
    );
    let pip = Command::new(bin.join("pip"))
        .arg("--version")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&pip.stdout).contains(bin.parent().unwrap().to_str().unwrap()));
    let done = job.main(PYTHON, &[("update-environment", "false")]).well();
    assert!(done.path.is_empty() && done.env.is_empty());
}

fn python_is_taken_as_it_is_where_it_is_free() {
    let mut job = job();
    let script = "printf '3.12.4\\nfinal\\n%s\\nfree\\n' \"$0\"";
    fake(&job, "bin/python3.12", script);
    fake(&job, "bin/python", script);
    fake(
        &job,
        "bin/python3.13",
        "printf '3.13.0\\ncandidate\\n%s\\nfree\\n' \"$0\"",
    );
    let done = job.main(PYTHON, &[("python-version", "3.12")]).well();
    assert_eq!(done.path, [job.at("bin").to_str().unwrap()]);
    assert_eq!(done.output("python-version"), "3.12.4");
    assert_eq!(
        job.main(PYTHON, &[("python-version", "3.13-dev")])
            .well()
            .output("python-version"),
        "3.13.0-candidate"
    );
    job.write("work/shop/.python-version", "3.12\n");
    assert_eq!(
        job.main(PYTHON, &[]).well().output("python-version"),
        "3.12.4"
    );
    job.set("HAVRE_PYTHON_RELEASES", NOWHERE);
    job.main(PYTHON, &[("python-version", "3.9")])
        .badly("no Python that is `3.9`: there is");
    job.main(PYTHON, &[("python-version", "pypy3.10")])
        .badly("is not set up here");
    job.main(PYTHON, &[("python-version", "3.9\n3.10")])
        .badly("use a matrix");
}

fn python_is_fetched_with_its_checksum() {
    let mut job = job();
    let name = format!(
        "cpython-3.10.2+20260101-{}-unknown-linux-gnu-install_only.tar.gz",
        std::env::consts::ARCH
    );
    let content = archive("python/bin/python3", "echo it");
    let sums = format!("{}  {name}\n", sha256(&content));
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    files.insert("/r/SHA256SUMS".to_owned(), sums.into_bytes());
    files.insert(format!("/r/{}", name.replace('+', "%2B")), content);
    let assets = web::serve(files);
    let release = format!(r#"{{"version":1,"tag":"20260101","asset_url_prefix":"{assets}/r"}}"#);
    let releases = web::serve([("/latest.json".to_owned(), release.into_bytes())].into());
    job.set("HAVRE_PYTHON_RELEASES", format!("{releases}/latest.json"));
    let done = job.main(PYTHON, &[("python-version", "3.10")]).well();
    assert_eq!(done.output("python-version"), "3.10.2");
    assert_eq!(
        done.path,
        [job.at(&format!("tools/Python/3.10.2/{}/bin", arch()))
            .to_str()
            .unwrap()]
    );
}

fn go_is_found_or_fetched() {
    let job = job();
    fake(
        &job,
        "bin/go",
        "case \"$1\" in version) echo go version go1.22.1 linux/amd64;; env) echo $HOME/$2;; esac",
    );
    let done = job
        .main("actions/setup-go", &[("go-version", "1.22")])
        .well();
    assert_eq!(done.output("go-version"), "1.22.1");
    assert_eq!(done.path, [job.at("home/GOPATH/bin").to_str().unwrap()]);
    assert!(done.log.contains("There is no go.sum"), "{}", done.log);
    job.write("work/shop/go.mod", "module x\ngo 1.21\n");
    let base = ("go-download-base-url", NOWHERE);
    job.main("actions/setup-go", &[("go-version-file", "go.mod"), base])
        .badly("no go that is `1.21`");

    let content = archive("go/bin/go", "echo it");
    let platform = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let list = format!(
        r#"[{{"version":"go1.21.9","stable":true,"files":[{{"filename":"go.tar.gz","os":"linux","arch":"{platform}","sha256":"{}","kind":"archive"}}]}}]"#,
        sha256(&content)
    );
    let files = [
        ("/?mode=json&include=all".to_owned(), list.into_bytes()),
        ("/go.tar.gz".to_owned(), content),
    ];
    let base = web::serve(files.into());
    let inputs = [
        ("go-version-file", "go.mod"),
        ("go-download-base-url", base.as_str()),
    ];
    let done = job.main("actions/setup-go", &inputs).well();
    assert_eq!(done.output("go-version"), "1.21.9");
    assert_eq!(
        done.path[0],
        job.at(&format!("tools/go/1.21.9/{}/bin", arch()))
            .to_str()
            .unwrap()
    );
}

fn java_is_found_by_what_its_release_says() {
    let mut job = job();
    let home = |version: &str, place: &str| {
        job.write(
            &format!("{place}/release"),
            &format!("IMPLEMENTOR=\"Acme\"\nJAVA_VERSION=\"{version}\"\n"),
        );
        job.write(&format!("{place}/bin/javac"), "");
    };
    home("99.0.2", "jdk99");
    home(
        "1.8.0_392",
        &format!("tools/Java_Temurin-Hotspot_jdk/8.0.392/{}", arch()),
    );
    job.write(
        &format!("tools/Java_Temurin-Hotspot_jdk/8.0.392/{}.complete", arch()),
        "",
    );
    job.set("JAVA_HOME", job.at("jdk99").to_str().unwrap());
    let java = "actions/setup-java";
    let done = job
        .main(
            java,
            &[("distribution", "temurin"), ("java-version", "8\n99")],
        )
        .well();
    assert_eq!(
        (done.output("version"), done.output("distribution")),
        ("99.0.2", "Acme")
    );
    let jdk = job.at("jdk99").canonicalize().unwrap();
    assert_eq!(done.env["JAVA_HOME"], jdk.to_str().unwrap());
    assert!(
        done.env
            .contains_key(&format!("JAVA_HOME_8_{}", arch().to_uppercase()))
    );
    assert_eq!(done.env["MAVEN_ARGS"], "-ntp");
    assert_eq!(done.path, [jdk.join("bin").to_str().unwrap()]);
    let done = job
        .main(java, &[("java-version", "8"), ("set-default", "false")])
        .well();
    assert_eq!((done.output("version"), done.path.len()), ("8.0.392", 0));
    job.main(java, &[("java-version", "98")])
        .badly("no Java that is `98`");
    job.main(java, &[]).badly("say which Java is wanted");
    job.main(java, &[("java-version", "8"), ("server-id", "x")])
        .badly("settings.xml in a step");
}

fn pnpm_is_installed_by_npm() {
    let job = job();
    let pnpm = "pnpm/action-setup";
    job.main(pnpm, &[]).badly("say which pnpm is wanted");
    job.write(
        "work/shop/package.json",
        r#"{"packageManager":"pnpm@10.1.0+sha512.abc"}"#,
    );
    job.main(pnpm, &[]).badly("there is no npm");
    job.main(pnpm, &[("version", "9")]).badly("remove one");
    let script = "[ \"$1 $2\" = 'install --prefix' ] || exit 1\nfor last; do :; done\n\
        /bin/mkdir -p $3/node_modules/.bin\n\
        printf '#!/bin/sh\\n[ \"$1\" = install ] && echo installing || echo '${last#pnpm@} > $3/node_modules/.bin/pnpm\n\
        /bin/chmod +x $3/node_modules/.bin/pnpm";
    fake(&job, "bin/npm", script);
    let done = job.main(pnpm, &[("run_install", "true")]).well();
    let bin = job.at("home/setup-pnpm/node_modules/.bin");
    assert_eq!(done.output("bin_dest"), bin.to_str().unwrap());
    assert_eq!(done.path, [bin.to_str().unwrap()]);
    assert!(
        done.log.contains("pnpm 10.1.0 in") && done.log.contains("installing"),
        "{}",
        done.log
    );
    fake(&job, "bin/pnpm", "echo 10.1.0");
    assert_eq!(job.main(pnpm, &[]).well().path.len(), 0);
    job.main(pnpm, &[("run_install", "- args: [x]")])
        .badly("in a step of its own");
}
