//! What does not work: whom it holds up, what is said of it, and how it goes on.

use std::time::Duration;

use havre_acme::method::Method;
use havre_acme::problem::Stage;
use havre_acme::{Condition, ExternalAccount, Moment, ServiceError};
use havre_testing::pebble::Options;

use crate::edge::FakeEdge;
use crate::world::{FakeSeal, World, authority, name, options, pebble, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_holds_up_its_own_name_only() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    let edge = &world.edge;
    edge.lie_about(Some("bad.havre.dev"));
    let running = world.start(&["bad.havre.dev", "good.havre.dev"]);
    until("the good one", || edge.served("good.havre.dev").pop()).await;
    let view = until("the failure", || {
        let view = running.view("bad.havre.dev");
        view.last.is_some().then_some(view)
    })
    .await;
    assert_eq!((view.condition, view.failures), (Condition::Failing, 1));
    assert!(view.next_attempt.is_some(), "{view:?}");
    let last = view.last.unwrap();
    assert_eq!(
        (last.stage, last.method),
        (Stage::Validation, Some(Method::Http))
    );
    assert!(last.problem.is("unauthorized"), "{last:?}");
    let said = &last.problem.detail;
    assert!(said.contains("what an application says"), "{said}");
    assert!(edge.shows_nothing());

    // Port 443 has its turn when a person asks once more.
    running.service.renew(&name("bad.havre.dev")).unwrap();
    until("a certificate", || edge.served("bad.havre.dev").pop()).await;
    assert_eq!(edge.shown().last(), Some(&"tls"));
    let view = running.view("bad.havre.dev");
    assert_eq!((view.last, view.failures), (None, 0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_down_is_left_alone_until_it_is_back() {
    let edge = FakeEdge::start();
    let Some(mut ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    ca.stop();
    let running = world.start(&["a.havre.dev", "b.havre.dev"]);
    let view = until("the failure", || {
        let view = running.view("a.havre.dev");
        view.last.is_some().then_some(view)
    })
    .await;
    let last = view.last.unwrap();
    assert_eq!(last.stage, Stage::Directory);
    assert!(
        last.problem.detail.contains("cannot reach localhost:"),
        "{last:?}"
    );
    assert_eq!(view.failures, 0, "nothing against the name");
    assert_eq!(view.waits.len(), 1);
    let back = Options {
        port: ca.port(),
        ..options(&world.edge)
    };
    let Some(back) = pebble(back) else { return };
    // Its certificate is another one: the file is read with the next daemon.
    running.stop().await;
    let mut world = world;
    world.settings.authorities = vec![authority("ca", &back)];
    let running = world.start(&["a.havre.dev", "b.havre.dev"]);
    until("both", || {
        let [a, b] = ["a.havre.dev", "b.havre.dev"].map(|it| world.edge.served(it).pop());
        a.and(b)
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_asked_where_the_first_one_cannot() {
    let edge = FakeEdge::start();
    let Some(second) = pebble(options(&edge)) else {
        return;
    };
    let blocked = vec!["a.havre.dev".to_owned()];
    let Some(first) = pebble(Options {
        blocked,
        ..options(&edge)
    }) else {
        return;
    };
    let both = vec![authority("first", &first), authority("second", &second)];
    let world = World::new(edge, both);
    let running = world.start(&["a.havre.dev", "b.havre.dev"]);
    let shown = until("a certificate", || running.view("a.havre.dev").certificate).await;
    assert_eq!(
        shown.source,
        havre_acme::record::Source::Authority("second".to_owned())
    );
    let shown = until("the other", || running.view("b.havre.dev").certificate).await;
    assert_eq!(
        shown.source,
        havre_acme::record::Source::Authority("first".to_owned())
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_account_is_needed_and_given() {
    let edge = FakeEdge::start();
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let external = Some(("kid-1".to_owned(), key.to_owned()));
    let options = Options {
        external_account: external,
        ..options(&edge)
    };
    let Some(ca) = pebble(options) else { return };
    let mut world = World::new(edge, vec![authority("ca", &ca)]);
    let running = world.start(&["a.havre.dev"]);
    let last = until("a refusal", || running.view("a.havre.dev").last).await;
    assert_eq!(last.stage, Stage::Account);
    assert!(last.problem.is("externalAccountRequired"), "{last:?}");
    running.stop().await;

    let key_file = world.folder.path().join("eab");
    std::fs::write(&key_file, key).unwrap();
    world.settings.authorities[0].external_account = Some(ExternalAccount {
        key_id: "kid-1".to_owned(),
        key_file,
    });
    let running = world.start(&["a.havre.dev"]);
    until("a certificate", || world.edge.served("a.havre.dev").pop()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_cannot_be_opened_is_not_replaced() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let mut world = World::new(edge, vec![authority("ca", &ca)]);
    let running = world.start(&["a.havre.dev"]);
    until("a certificate", || world.edge.served("a.havre.dev").pop()).await;
    running.stop().await;
    world.seal = FakeSeal(2);
    let running = world.start(&["b.havre.dev"]);
    assert_eq!(running.loaded.sealed.len(), 1);
    let last = until("a refusal", || running.view("b.havre.dev").last).await;
    assert_eq!(last.stage, Stage::Account);
    assert!(last.problem.detail.contains("cannot be opened"), "{last:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_names_that_are_wanted_are_ordered() {
    let world = World::new(FakeEdge::start(), Vec::new());
    let running = world.start(&["a.havre.dev"]);
    let refused = running.service.renew(&name("a.havre.dev"));
    assert!(matches!(refused, Err(ServiceError::NoAuthority)));
    running.stop().await;
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    let running = world.start(&[]);
    let refused = running.service.renew(&name("a.havre.dev"));
    assert!(matches!(refused, Err(ServiceError::Unwanted(_))));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_authority_has_said_outlives_the_daemon_and_a_persons_wish() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    world.start(&[]).stop().await;
    let until = Moment::now().after(Duration::from_secs(3600));
    world.change(&format!(
        r#"INSERT INTO acme_waits VALUES ('ca', '{{"failures":1,"until":{},"told":true}}')"#,
        until.0
    ));
    let running = world.start(&["a.havre.dev"]);
    let refused = running.service.renew(&name("a.havre.dev"));
    assert!(
        matches!(&refused, Err(ServiceError::Forbidden { until: told, .. }) if *told == until),
        "{refused:?}"
    );
    let view = running.view("a.havre.dev");
    assert_eq!(view.waits, [("ca".to_owned(), until)]);
    assert!(world.edge.shown().is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_broke_off_with_its_daemon_is_not_begun_again_at_once() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    world.edge.be_slow(true);
    let running = world.start(&["a.havre.dev"]);
    until("an order", || world.edge.is_awaited().then_some(())).await;
    running.stop().await;
    world.edge.be_slow(false);
    let running = world.start(&["a.havre.dev"]);
    let view = running.view("a.havre.dev");
    let next = view.next_attempt.expect("a pause");
    assert!(
        Moment::now().until(next) > Duration::from_secs(60),
        "{view:?}"
    );
    assert_eq!((view.condition, view.failures), (Condition::Waiting, 0));
    running.service.renew(&name("a.havre.dev")).unwrap();
    until("a certificate", || world.edge.served("a.havre.dev").pop()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_is_not_the_authoritys_fault() {
    let edge = FakeEdge::start();
    let Some(ca) = pebble(options(&edge)) else {
        return;
    };
    let world = World::new(edge, vec![authority("ca", &ca)]);
    world.start(&[]).stop().await;
    world.refuse("acme_certificates", "a.havre.dev");
    let running = world.start(&["a.havre.dev", "b.havre.dev"]);
    let last = until("a failure", || running.view("a.havre.dev").last).await;
    assert_eq!(last.stage, Stage::Keep, "{last:?}");
    assert_eq!(
        world.edge.served("a.havre.dev").len(),
        1,
        "it serves all the same"
    );
    assert_eq!(running.view("a.havre.dev").waits, []);
    until("the other name", || running.view("b.havre.dev").certificate).await;
    running.stop().await;
}
