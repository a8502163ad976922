//! Certificates of a real authority: fifty names at once through daemon and edge, all renewed under load,
//! and a year on paper.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use havre_acme::simulation::{self, Scenario};
use havre_testing::load::{self, LoadPlan, LoadReport};
use havre_testing::pebble::{Options, Pebble};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::figures::{mention, print_figure};
use super::installation::Installation;
use crate::peers;
use crate::shell::{read, say, succeed};

const NAMES: usize = 50;
/// Hosts that are under load meanwhile, and requests a second to each.
const LOADED: usize = 5;
const RATE: f64 = 40.0;
const PATIENCE: Duration = Duration::from_secs(300);

/// What the service says to everybody; perl is in the base image.
const SERVER: &str = r#"use IO::Socket::INET; $SIG{CHLD} = "IGNORE"; my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 128, ReuseAddr => 1) or die; while (my $c = $s->accept) { next if fork; $c->autoflush(1); while (defined(my $l = <$c>)) { if ($l =~ /^\r?\n$/) { print $c "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"; } } exit; }"#;

pub fn measure(place: &Installation) -> Result<Value> {
    peers::pebble()?.context("this bench needs pebble")?;
    let instance = &place.instance;
    let options = Options {
        http_port: instance.http,
        tls_port: instance.https,
        ..Options::default()
    };
    let pebble = Pebble::start(options).context("pebble was fetched and is not there")?;
    configure(place, &pebble)?;
    instance.ensure_base_image()?;
    let hosts: Vec<String> = (0..NAMES).map(|it| format!("n{it}.havre.dev")).collect();
    write_project(place, &hosts)?;

    let begun = Instant::now();
    succeed(&mut place.havre(&["up"]))?;
    let up = begun.elapsed();
    wait_for(place, "certificates for all", |all| {
        count(all, is_issued) == NAMES
    })?;
    let first = begun.elapsed();
    say(&format!(
        "{NAMES} certificates were issued; now all are renewed under load"
    ));

    let root = pebble.root();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let end = CancellationToken::new();
    let plan = |host: &String| {
        let mut plan = LoadPlan::new(&format!("https://{host}:{}", instance.https), RATE);
        plan.resolve = Some(SocketAddr::from(([127, 0, 0, 1], instance.https)));
        plan.ca_pem = Some(root.clone());
        plan
    };
    let loads: Vec<_> = hosts
        .iter()
        .take(LOADED)
        .map(|host| runtime.spawn(load::run(plan(host), end.clone())))
        .collect();
    let begun = Instant::now();
    let before = serials(place)?;
    for host in &hosts {
        succeed(&mut place.havre(&["cert", "renew", host]))?;
    }
    wait_for(place, "all to be renewed", |all| {
        count(all, is_issued) == NAMES && count(all, is_asked_for) == 0
    })?;
    let renewed = begun.elapsed();
    end.cancel();
    let mut requests = 0;
    let mut failed = 0;
    for load in loads {
        let report: LoadReport = runtime.block_on(load).context("the load ended early")??;
        for failure in &report.first_failures {
            say(&format!("failed: {failure}"));
        }
        requests += report.requests;
        failed += report.failed;
    }
    let after = serials(place)?;
    let kept = before.iter().filter(|one| after.contains(one)).count();
    ensure!(kept == 0, "{kept} certificates are still the first ones");
    let ordered = u64::try_from(NAMES * 2)?;

    let year = year();
    mention("until `up` was done", up.as_secs_f64(), " s");
    mention("until all had a certificate", first.as_secs_f64(), " s");
    mention("until all had another one", renewed.as_secs_f64(), " s");
    mention("requests meanwhile", requests as f64, "");
    print_figure("of which failed", failed as f64, "", 0.0);
    mention("certificates in a year on paper", year.issued as f64, "");
    print_figure("needless orders in it", year.needless as f64, "", 0.0);
    print_figure(
        "names without a certificate in it",
        year.lapsed as f64,
        "",
        0.0,
    );
    ensure!(year.lapsed == 0, "a name was left without a certificate");
    Ok(json!({
        "bench": "acme",
        "names": NAMES,
        "issued": ordered,
        "requests": requests,
        "failed": failed,
        "needless": year.needless,
        "lapsed": year.lapsed,
        "year_issued": year.issued,
        "first_seconds": first.as_secs_f64(),
        "renewed_seconds": renewed.as_secs_f64(),
    }))
}

/// Fifty names of 90 days for a year, with an outage of the authority, a long stop of the daemon, and a day
/// on which the authority wants every other certificate replaced.
fn year() -> simulation::Outcome {
    simulation::run(&Scenario {
        names: NAMES,
        days: 365,
        life: Duration::from_secs(90 * 24 * 3600),
        ari: true,
        outages: vec![61.0..64.0],
        stops: vec![150.0..165.0],
        recall: Some(200.0),
        failing: Some(20),
        seed: 12,
    })
}

fn configure(place: &Installation, pebble: &Pebble) -> Result<()> {
    let folder = place.instance.root.join("etc");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("machine.yaml");
    let text = format!(
        "acme:\n  email: bench@havre.dev\n  authorities:\n    - name: pebble\n      directory: {}\n      ca_file: {}\n",
        pebble.directory(),
        pebble.ca_file().display()
    );
    fs::write(&path, text)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn write_project(place: &Installation, hosts: &[String]) -> Result<()> {
    fs::create_dir_all(&place.project)?;
    let command = serde_json::to_string(&["perl", "-e", SERVER])?.replace('$', "$$");
    let compose = format!(
        "name: certificates\nservices:\n  web:\n    image: debian:bookworm-slim\n    command: {command}\n    \
         expose: [80]\n    stop_grace_period: 1s\n"
    );
    let havre = format!(
        "domains: [{}]\nroutes:\n  - {{path: /, service: web, port: 80}}\n",
        hosts.join(", ")
    );
    for (name, text) in [("compose.yaml", compose), ("havre.yaml", havre)] {
        let path = place.project.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn listed(place: &Installation) -> Result<Vec<Value>> {
    let text = read(&mut place.havre(&["cert", "ls", "--json"]))?;
    serde_json::from_str(&text).context("`havre cert ls --json` is not a list")
}

fn wait_for(place: &Installation, what: &str, done: impl Fn(&[Value]) -> bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let all = listed(place)?;
        if done(&all) {
            return Ok(());
        }
        let failures = all.iter().map(|one| &one["last_failure"]);
        let failures: Vec<_> = failures.filter(|one| !one.is_null()).take(3).collect();
        ensure!(
            begun.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain for {what}: {failures:?}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn count(all: &[Value], which: fn(&Value) -> bool) -> usize {
    all.iter().filter(|one| which(one)).count()
}

fn is_issued(one: &Value) -> bool {
    one["state"] == "serving" && one["source"]["kind"] == "authority"
}

fn is_asked_for(one: &Value) -> bool {
    one["renewal"]["by"] == "person"
}

fn serials(place: &Installation) -> Result<Vec<String>> {
    let all = listed(place)?;
    let serials = all.iter().filter_map(|one| one["serial"].as_str());
    let serials: Vec<String> = serials.map(ToOwned::to_owned).collect();
    ensure!(
        serials.len() == NAMES,
        "{} serial numbers are known",
        serials.len()
    );
    Ok(serials)
}
