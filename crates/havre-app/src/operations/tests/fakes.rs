//! That the FAKES are strict: what operations must never ask of a target is seen.

use std::collections::BTreeMap;

use havre_model::{FoundDatabases, ServiceName};
use havre_release::{Analysis, Change, Jobs, Move, OutputQuery, Record, ReplicaId, Scale};

use crate::fake::{Stage, id, shop};

const WEB: &str = "{web: {image: 'web:1'}}";

#[track_caller]
fn is_seen(stage: &Stage, what: &str) {
    let violations = stage.violations();
    assert!(
        violations.iter().any(|one| one.contains(what)),
        "{what}: {violations:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_without_the_right_to_it_is_seen() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    let environment = stage.daemon.environment(&stage.id()).await.unwrap();
    let numbers = BTreeMap::from([(ServiceName::new("wbe"), 2)]);
    environment.apply(Change::Scale(numbers)).await.unwrap();
    let violations = stage.violations();
    assert_eq!(violations.len(), 2, "{violations:#?}");
    assert!(
        violations[0].contains("while it is held by None"),
        "{violations:#?}"
    );
    assert_eq!(violations[1], "wbe is scaled, which does not serve");
}

#[tokio::test(start_paused = true)]
async fn what_replicas_never_were_is_seen() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    let environment = stage.daemon.environment(&stage.id()).await.unwrap();
    let nobody = ReplicaId("shop.production.nobody.0".to_owned());
    drop(environment.target.output(&nobody, &OutputQuery::default()));
    is_seen(
        &stage,
        "output of shop.production.nobody.0, which shop/production never had",
    );
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_opened_twice_is_seen() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    let end = || Box::pin(std::future::pending());
    drop(stage.daemon.targets.open(&stage.id(), None, end()));
    is_seen(&stage, "shop/production is opened twice");
    // That nothing is stored of it is not true, and would end all that runs.
    drop(stage.daemon.targets.open(&id("other"), Some("{}"), end()));
    is_seen(
        &stage,
        "other/production is opened with Some(\"{}\"), but None is stored",
    );
}

#[tokio::test(start_paused = true)]
async fn a_move_that_nobody_asked_for_to_images_that_nobody_holds_is_seen() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    let status = stage.status(&stage.id()).await;
    let mut release = status.releases[&1].clone();
    release.hosts = vec!["other.localhost".to_owned()];
    let lease = "environment:shop/production";
    stage.daemon.platform.images.release(lease).unwrap();
    let moved = Move {
        release,
        record: Record::default(),
        scale: Scale::Kept,
        jobs: Jobs::Run,
        analysis: Analysis::Enabled,
        databases: FoundDatabases::default(),
    };
    let environment = stage.daemon.environment(&stage.id()).await.unwrap();
    environment
        .apply(Change::RollOut(Box::new(moved)))
        .await
        .unwrap();
    let violations = stage.violations().join("\n");
    for seen in [
        "while it is held by None",
        "the record does not begin",
        "up moves by (Kept, Run, Enabled)",
        "nobody holds the image sha256:",
    ] {
        assert!(violations.contains(seen), "{seen}: {violations}");
    }
}
