//! What works: each way to a certificate, and its renewal.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use havre_acme::plan::By;
use havre_acme::record::Source;
use havre_acme::{Condition, Moment, Pair};
use havre_testing::pebble::Options;
use serde_json::json;

use crate::edge::FakeEdge;
use crate::world::{World, authority, name, options, pebble, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_name_gets_a_certificate_that_the_next_daemon_finds() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    let running = world.start(&["a.havre.dev"]);
    let edge = &world.edge;
    until("a certificate", || edge.served("a.havre.dev").pop()).await;
    // Its authority is asked at once when it wants it replaced.
    let view = until("renewal information", || {
        let view = running.view("a.havre.dev");
        view.certificate.as_ref()?.ari.as_ref()?;
        Some(view)
    })
    .await;
    assert_eq!(view.condition, Condition::Serves);
    assert_eq!(view.due.unwrap().by, By::Authority);
    let shown = view.certificate.unwrap();
    assert_eq!(shown.source, Source::Authority("ca".to_owned()));
    assert!(shown.issuer.unwrap().contains("Pebble"));
    assert!(edge.shows_nothing());
    assert_eq!(edge.shown(), ["http"]);
    running.stop().await;

    let disk = world.on_disk();
    assert!(!contains(&disk, b"PRIVATE KEY"), "keys are sealed");
    assert!(!contains(&disk, b"key_pkcs8"), "accounts are sealed");

    let log = ca.log();
    let again = world.start(&["a.havre.dev", "b.havre.dev"]);
    assert_eq!(again.loaded.pairs.len(), 1);
    assert!(again.loaded.pairs[0].1.key.contains("PRIVATE KEY"));
    until("the second name", || edge.served("b.havre.dev").pop()).await;
    assert_eq!(edge.served("a.havre.dev").len(), 1, "nothing was ordered");
    let more = ca.log().replace(&log, "");
    assert!(
        !more.contains("new-acct") && !more.contains("There are now 2 accounts"),
        "{more}"
    );
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_moved_has_the_certificate_replaced_once() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    let edge = &world.edge;
    let running = world.start(&["a.havre.dev"]);
    let first = until("a certificate", || edge.served("a.havre.dev").pop()).await;
    until("renewal information", || {
        running.view("a.havre.dev").certificate?.ari
    })
    .await;
    // As after a revocation: the window has passed.
    ca.set_window(&first, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    running.stop().await;
    // The next look is due, and the certificate is no longer young.
    world.change("UPDATE acme_certificates SET next_look = 0, since = since - 7200");
    let running = world.start(&["a.havre.dev"]);
    until("a second one", || {
        (edge.served("a.havre.dev").len() == 2).then_some(())
    })
    .await;
    let view = until("its own renewal information", || {
        let view = running.view("a.havre.dev");
        view.certificate.as_ref()?.ari.as_ref()?;
        Some(view)
    })
    .await;
    let due = view.due.unwrap();
    assert!(
        Moment::now().until(due.at) > Duration::from_secs(30 * 24 * 3600),
        "{due:?}"
    );
    assert!(
        ca.log().contains("replaces") || ca.log().contains("ARI"),
        "{}",
        ca.log()
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_names_at_once_with_refused_nonces() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(Options {
        refused_nonces: 20,
        ..options(&edge)
    }) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    let names: Vec<String> = (0..50).map(|it| format!("n{it}.havre.dev")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let running = world.start(&names);
    until("all of them", || {
        let all = names.iter().all(|name| !world.edge.served(name).is_empty());
        all.then_some(())
    })
    .await;
    for name in names {
        assert_eq!(world.edge.served(name).len(), 1, "{name}");
    }
    assert!(world.edge.shows_nothing());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_and_addresses() {
    let edge = FakeEdge::start();
    let profiles = [("default", 90), ("shortlived", 6), ("tlsserver", 45)];
    let profiles = profiles.map(|(name, days)| (name.to_owned(), days * 24 * 3600));
    let options = Options {
        profiles: profiles.into(),
        ..options(&edge)
    };
    let Some(ca) = pebble(options) else { return };
    let mut asked = authority("ca", &ca);
    asked.profile = Some("tlsserver".to_owned());
    let world = World::new(edge, vec![asked]);
    let running = world.start(&["a.havre.dev"]);
    let days = |running: &crate::world::Running, name: &str| {
        let shown = running.view(name).certificate?;
        Some((shown.from.until(shown.until).as_secs() + 3600) / (24 * 3600))
    };
    let life = until("a certificate", || days(&running, "a.havre.dev")).await;
    assert_eq!(life, 45);
    running.stop().await;
    // Addresses have short-lived ones only.
    let mut plain = World::new(FakeEdge::start(), vec![authority("ca", &ca)]);
    plain.edge = world.edge.clone();
    let running = plain.start(&["127.0.0.1"]);
    let life = until("one for an address", || days(&running, "127.0.0.1")).await;
    assert_eq!(life, 6);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_is_proven_by_the_hook() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let mut world = World::new(edge, vec![authority("ca", &ca)]);
    let hook = world.folder.path().join("hook");
    let calls = world.folder.path().join("calls");
    let script = format!(
        r#"#!/bin/sh
echo "$1 $2" >> {calls}
case "$1" in
set) curl -sSf http://127.0.0.1:{port}/set-txt -d "{{\"host\": \"$2.\", \"value\": \"$3\"}}" ;;
remove) curl -sSf http://127.0.0.1:{port}/clear-txt -d "{{\"host\": \"$2.\"}}" ;;
esac
"#,
        calls = calls.display(),
        port = ca.names_port()
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    world.settings.dns_hook = Some(hook);
    let running = world.start(&["*.havre.dev"]);
    let chain = until("a certificate", || world.edge.served("*.havre.dev").pop()).await;
    assert!(!chain.is_empty());
    until("the record to be gone", || {
        let calls = fs::read_to_string(&calls).unwrap_or_default();
        let both = "set _acme-challenge.havre.dev\nremove _acme-challenge.havre.dev\n";
        (calls == both).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_is_proven_by_a_lasting_record_that_is_told() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    let running = world.start(&["*.havre.dev"]);
    let said = until("what to set", || {
        let last = running.view("*.havre.dev").last?;
        Some(last.problem.detail)
    })
    .await;
    let (_, record) = said.split_once("once and for all: ").expect(&said);
    let (host, value) = record.split_once(" TXT \"").expect(record);
    let value = value.trim_end_matches('"');
    assert_eq!(host, "_validation-persist.havre.dev");
    assert!(value.ends_with("; policy=wildcard"), "{value}");
    ca.names(
        "set-txt",
        &json!({"host": format!("{host}."), "value": value}),
    );
    running.service.renew(&name("*.havre.dev")).unwrap();
    until("a certificate", || world.edge.served("*.havre.dev").pop()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_of_seconds_are_renewed_before_their_end() {
    let edge = FakeEdge::start();
    let options = Options {
        profiles: vec![("default".to_owned(), 24)],
        ..options(&edge)
    };
    let Some(ca) = pebble(options) else { return };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    let running = world.start(&["a.havre.dev"]);
    until("three of them", || {
        let served = world.edge.served("a.havre.dev").len();
        if served > 0 {
            let view = running.view("a.havre.dev");
            assert_eq!(view.condition, Condition::Serves, "{view:?}");
        }
        (served == 3).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_brings_serves_and_nothing_is_ordered() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    let running = world.start(&[]);
    let pair = pair_for(&["a.havre.dev"]);
    let other = running.service.import(&[name("b.havre.dev")], &pair).await;
    let other = havre_base::one_line(&other.unwrap_err());
    assert!(
        other.contains("it is for a.havre.dev, not for b.havre.dev"),
        "{other}"
    );
    let names = [name("a.havre.dev")];
    running.service.import(&names, &pair).await.unwrap();
    assert_eq!(world.edge.served("a.havre.dev"), [pair.chain]);
    running.want(&["a.havre.dev", "c.havre.dev"]);
    until("another name", || world.edge.served("c.havre.dev").pop()).await;
    assert_eq!(world.edge.served("a.havre.dev").len(), 1);
    let shown = running.view("a.havre.dev").certificate.unwrap();
    assert_eq!(shown.source, Source::Imported);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_brings_during_an_order_stays() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    world.edge.be_slow(true);
    let running = world.start(&["a.havre.dev"]);
    until("an order", || {
        let view = running.view("a.havre.dev");
        (view.condition == Condition::Ordering).then_some(())
    })
    .await;
    let pair = pair_for(&["a.havre.dev"]);
    let names = [name("a.havre.dev")];
    running.service.import(&names, &pair).await.unwrap();
    world.edge.be_slow(false);
    until("the authority to sign", || {
        ca.log().contains("Issued certificate").then_some(())
    })
    .await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(world.edge.served("a.havre.dev"), [pair.chain.as_str()]);
    }
    let shown = running.view("a.havre.dev").certificate.unwrap();
    assert_eq!(shown.source, Source::Imported);
    running.stop().await;
}

fn pair_for(names: &[&str]) -> Pair {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let params = rcgen::CertificateParams::new(names).unwrap();
    Pair {
        chain: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_put_on_record_is_brought_for_no_name() {
    let world = World::new(FakeEdge::start(), Vec::new());
    let running = world.start(&[]);
    world.refuse("acme_certificates", "b.havre.dev");
    let names = [name("a.havre.dev"), name("b.havre.dev")];
    let pair = pair_for(&["a.havre.dev", "b.havre.dev"]);
    running.service.import(&names, &pair).await.unwrap_err();
    assert_eq!(running.service.list(Moment::now()), []);
    assert!(world.edge.served("a.havre.dev").is_empty());
    running.stop().await;
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
