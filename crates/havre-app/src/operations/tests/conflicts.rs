//! What only one environment can have: `plan` says it, `up` refuses it, and nothing of it is done.

use std::net::TcpListener;

use havre_api::ErrorCode;

use crate::fake::{Stage, shop};

/// The first project runs, and the second wants what it has.
async fn is_refused(stage: &Stage, first: &str, second: &str, sentence: &str) {
    stage.up(first).await.done();
    let (changes, leases) = (stage.changes(), stage.leases());
    let plan = stage.plan(second).await.unwrap();
    let finding = format!("`up` will be refused: {sentence}");
    assert!(
        plan.others.iter().any(|one| one.starts_with(&finding)),
        "{plan:#?}"
    );
    let up = stage.up(second).await;
    up.refused(ErrorCode::Conflict, sentence);
    assert_eq!((stage.changes(), stage.leases()), (changes, leases));
    assert_eq!(stage.stored().len(), 1);
    // It is there as soon as the first is gone.
    stage.down(true).await.done();
    stage.up(second).await.done();
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_another_environment() {
    let stage = Stage::new();
    let project = |name: &str| {
        format!(
            "name: {name}\nservices: {{db: {{image: 'db:1', volumes: ['data:/data']}}}}\n\
             volumes: {{data: {{name: common}}}}\n"
        )
    };
    let sentence = "volume `common`, which `db` mounts, belongs to shop/production";
    is_refused(&stage, &project("shop"), &project("other"), sentence).await;
}

#[tokio::test(start_paused = true)]
async fn an_address_of_another_environment() {
    let stage = Stage::new();
    let project = |name: &str| {
        format!(
            "name: {name}\nservices: {{web: {{image: 'web:1', ports: ['8080']}}}}\n\
             \n---\ndomain: shop.example.org\n"
        )
    };
    let sentence = "shop/production answers at shop.example.org/ already";
    is_refused(&stage, &project("shop"), &project("other"), sentence).await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_with_another_database() {
    let stage = Stage::new();
    let folder = stage.folder().join("pg");
    std::fs::create_dir(&folder).unwrap();
    let project = |name: &str| {
        format!(
            "name: {name}\nservices: {{db: {{image: 'postgres:17', volumes: \
             ['{}:/var/lib/postgresql/data']}}}}\n\n---\nservices: {{db: {{allow: [host-paths]}}}}\n",
            folder.display()
        )
    };
    let sentence = "`db` and `db` of shop/production would be two database servers on";
    is_refused(&stage, &project("shop"), &project("other"), sentence).await;
}

#[tokio::test(start_paused = true)]
async fn a_port_of_another_environment_or_program() {
    let stage = Stage::new();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let project = |name: &str| {
        format!(
            "name: {name}\nservices: {{db: {{image: 'postgres:17', ports: ['{port}:5432']}}}}\n"
        )
    };
    let message = format!("port {port}, which `db` publishes, is taken by");
    stage
        .up(&project("shop"))
        .await
        .refused(ErrorCode::Conflict, &message);
    assert_eq!((stage.changes().len(), stage.images_made()), (0, 0));
    drop(taken);
    stage.up(&project("shop")).await.done();
    let message = format!("{message} shop/production");
    stage
        .up(&project("other"))
        .await
        .refused(ErrorCode::Conflict, &message);
    assert_eq!(stage.changes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_begin_at_once_one_finds_the_other() {
    let stage = Stage::new();
    let project = |name: &str| {
        format!(
            "name: {name}\nservices: {{web: {{image: 'web:1', ports: ['8080']}}}}\n\
             \n---\ndomain: shop.example.org\n"
        )
    };
    let first = stage.begin_up("anna", &project("shop"));
    let second = stage.begin_up("bert", &project("other"));
    // Either may be the first to begin.
    let both = [first.end().await, second.end().await];
    let (done, refused): (Vec<_>, Vec<_>) = both.into_iter().partition(|told| told.answer.is_ok());
    assert_eq!((done.len(), refused.len()), (1, 1), "{done:?} {refused:?}");
    let message = "/production answers at shop.example.org/ already";
    refused[0].refused(ErrorCode::Conflict, message);
    assert_eq!((stage.changes().len(), stage.stored().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_what_up_would_do_and_does_nothing() {
    let stage = Stage::new();
    let plan = stage.plan(&shop("{web: {image: 'web:1'}}")).await.unwrap();
    assert_eq!((plan.release, plan.changed), (None, true));
    assert_eq!(plan.services[0].changes, ["image: web:1 is fetched"]);
    assert_eq!((stage.changes().len(), stage.images_made()), (0, 0));
    stage.up(&shop("{web: {image: 'web:1'}}")).await.done();
    let plan = stage.plan(&shop("{web: {image: 'web:1'}}")).await.unwrap();
    assert!(!plan.changed, "{plan:#?}");
    stage.scale("web", 2).await.done();
    let plan = stage.plan(&shop("{web: {image: 'web:1'}}")).await.unwrap();
    assert!(plan.changed, "{plan:#?}");
    let text = shop("{web: {image: 'web:1', environment: {A: b}}, db: {image: 'db:1'}}");
    let plan = stage.plan(&text).await.unwrap();
    let told = plan
        .services
        .iter()
        .map(|one| format!("{} {:?}", one.service, one.action));
    assert_eq!(Vec::from_iter(told), ["db Create", "web Replace"]);
    assert_eq!(stage.changes().len(), 2);
}
