//! `restart`, `scale` and `down`.

use havre_api::*;
use havre_api::{Down, Restart, Scale};

use crate::fixtures::*;
use crate::program::World;

fn changed(names: &[&str]) -> ChangeOutcome {
    ChangeOutcome {
        environment: environment("shop"),
        services: names.iter().map(|name| service(name)).collect(),
        elapsed_ms: 2_500,
    }
}

#[test]
fn restart_names_services() {
    let world = World::new(backend(1).operation::<Restart, _>(async |request, _| {
        assert_eq!(request.environment, environment("shop"));
        assert_eq!(request.services, [service("web")]);
        Ok(changed(&["web"]))
    }));
    let ran = world.run(&["restart", "web"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "shop/production: restarted web (2.5 s)\n")
    );
}

#[test]
fn scale_takes_several_and_refuses_contradictions() {
    let world = World::new(backend(1).operation::<Scale, _>(async |request, _| {
        assert_eq!(request.replicas[&service("web")], 3);
        assert_eq!(request.replicas[&service("db")], 0);
        Ok(changed(&["web", "db"]))
    }));
    let ran = world.run(&["scale", "web=3", "db=0"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "shop/production: scaled web, db (2.5 s)\n")
    );
    for wrong in [&["web=1", "web=2"][..], &["web"], &["web=-1"], &["=1"], &[]] {
        let args = [&["scale"], wrong].concat();
        assert_eq!(world.run(&args).code, 2, "{wrong:?}");
    }
}

#[test]
fn down_says_what_it_kept_and_what_it_could_not_remove() {
    let outcome = DownOutcome {
        environment: environment("shop"),
        replicas: 3,
        removed_volumes: Vec::new(),
        kept_volumes: vec!["shop_data".into()],
        errors: vec!["cannot unmount /x: busy".into()],
        elapsed_ms: 800,
    };
    let sent = outcome.clone();
    let world = World::new(backend(1).operation::<Down, _>(async |request, _| {
        assert!(!request.options.volumes);
        Ok(sent)
    }));
    let ran = world.run(&["down"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!("down", ran.err);
    let well = DownOutcome {
        errors: Vec::new(),
        ..outcome
    };
    let world = World::new(backend(1).operation::<Down, _>(async |request, _| {
        assert!(request.options.volumes);
        Ok(well)
    }));
    assert_eq!(world.run(&["down", "--volumes"]).code, 0);
}

#[test]
fn what_is_busy_has_an_exit_code_of_its_own() {
    let world = World::new(backend(1).operation::<Restart, _>(async |_, _| {
        Err(ApiError::new(
            ErrorCode::Conflict,
            "shop/production is held by `up` since 10:04",
        ))
    }));
    assert_eq!(world.run(&["restart"]).code, 7);
}
