//! Networks that environments share.

use havre_api::{
    EnvironmentId, ErrorCode, Grant, NetworkCreateRequest, NetworkRemoveRequest, Role,
};
use havre_model::ProjectName;

use crate::fake::Stage;
use crate::shared_networks::calls::{create, dry_run, list, remove};

fn named(name: &str) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: name.to_owned(),
        internal: false,
    }
}

fn gone(name: &str) -> NetworkRemoveRequest {
    NetworkRemoveRequest {
        name: name.to_owned(),
    }
}

/// A project on the machine's network `front`.
fn on_front(name: &str) -> String {
    format!(
        "name: {name}\nservices: {{web: {{image: 'web:1', networks: [front]}}}}\n\
         networks: {{front: {{external: true}}}}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_network_is_made_once_and_removed_once() {
    let stage = Stage::new();
    let made = create(&stage.daemon, named("front")).await.unwrap();
    assert_eq!((made.name.as_str(), made.members.len()), ("front", 0));
    let again = create(&stage.daemon, named("front")).await.unwrap_err();
    assert_eq!(again.message, "there is a network front already");
    remove(&stage.daemon, gone("front")).await.unwrap();
    let again = remove(&stage.daemon, gone("front")).await.unwrap_err();
    assert_eq!(
        (again.code, again.message.as_str()),
        (ErrorCode::NotFound, "no network front")
    );
    assert_eq!(list(&stage.daemon).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_environments_are_on_stays() {
    let stage = Stage::new();
    create(&stage.daemon, named("front")).await.unwrap();
    stage.up(&on_front("shop")).await.done();
    let plan = stage.plan(&on_front("other")).await.unwrap();
    assert_eq!(
        plan.others,
        ["network front is shared with shop/production"]
    );
    let shown = async |grant: &str| {
        let grant = Grant {
            role: Role::Deployer,
            environments: vec![grant.parse().unwrap()],
        };
        let handle = stage.daemon.environments().await.remove(0);
        let release = handle.status().releases.values().next().unwrap().clone();
        let id = EnvironmentId {
            project: ProjectName::new("other"),
            ..handle.id.clone()
        };
        dry_run(&stage.daemon, &grant, &id, &release).await.unwrap()
    };
    assert_eq!(shown("*").await, plan.others);
    assert_eq!(
        shown("other/*").await,
        ["network front is shared with environments that you do not see"]
    );
    stage.up(&on_front("other")).await.done();
    let networks = list(&stage.daemon).await.unwrap();
    let members = networks[0]
        .members
        .iter()
        .map(|one| one.environment.to_string());
    assert_eq!(
        Vec::from_iter(members),
        ["other/production", "shop/production"]
    );
    let service = &networks[0].members[1].services[0];
    assert_eq!(service.full_name, "web.shop.havre");
    let error = remove(&stage.daemon, gone("front")).await.unwrap_err();
    assert_eq!(
        error.message,
        "network front is in use by other/production, shop/production"
    );
    stage.down(false).await.done();
    let error = remove(&stage.daemon, gone("front")).await.unwrap_err();
    assert_eq!(error.message, "network front is in use by other/production");
}

#[tokio::test(start_paused = true)]
async fn who_is_on_a_network_counts_even_where_nothing_else_is_known_of_him() {
    let stage = Stage::new();
    create(&stage.daemon, named("front")).await.unwrap();
    stage.stray("front@shared", "lost.production");
    let error = remove(&stage.daemon, gone("front")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert_eq!(error.message, "network front is in use by lost.production");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_havre_yaml_shares_is_made_by_up() {
    let stage = Stage::new();
    let text = "name: shop\nservices: {web: {image: 'web:1', networks: [front]}}\n\
                networks: {front: }\n\n---\nnetworks: {front: {shared: true}}\n";
    let plan = stage.plan(text).await.unwrap();
    assert_eq!(
        plan.others,
        ["network front is made, for other environments to join"]
    );
    assert_eq!(list(&stage.daemon).await.unwrap().len(), 0);
    stage.up(text).await.done();
    assert_eq!(list(&stage.daemon).await.unwrap().len(), 1);
}
