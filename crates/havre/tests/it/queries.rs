//! `status`, `ps` and `version`.

use havre_api::*;
use havre_api::{Info, Plan, Replicas, Status};

use crate::fixtures::*;
use crate::program::World;

#[test]
fn status_shows_an_environment_on_one_screen() {
    let world = World::new(backend(1).call::<Status, _>(async |query| {
        assert_eq!(query.project.unwrap().as_str(), "shop");
        Ok(vec![running_environment()])
    }));
    let ran = world.run(&["status"]);
    insta::assert_snapshot!("status", ran.out);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn status_shows_what_runs_and_waits_for_whom() {
    let run = |number: u64, state: RunPhase, ended| RunSummary {
        number,
        workflow: "CI".into(),
        path: ".github/workflows/ci.yml".into(),
        title: "Change the price".into(),
        event: "push".into(),
        reference: "refs/heads/main".into(),
        commit: "a".repeat(40),
        actor: "mira".into(),
        state,
        queued: ago(310),
        ended,
    };
    let said = EnvironmentStatus {
        waiting: vec![PromotionGlance {
            promotion: PromotionId(3),
            what: "release 7 of staging".into(),
            by: "anna".into(),
            at: ago(310),
            state: PromotionState::Waiting,
            waits_for: vec!["approval: 0 of 1 approval by admins".into()],
        }],
        runs: Some(ProjectRuns {
            live: vec![run(5, RunPhase::Running, None)],
            last: Some(run(4, RunPhase::Failure, Some(ago(190)))),
        }),
        ..running_environment()
    };
    let sent = said.clone();
    let world = World::new(backend(1).call::<Status, _>(async |_| Ok(vec![sent])));
    let ran = world.run(&["status"]);
    for line in [
        "  promotion 3: release 7 of staging, asked for by anna, waits for 5 min: approval: 0 of 1 approval by admins; \
         `havre approve 3` agrees",
        "  CI #5 runs for 5 min: Change the price",
        "  CI #4 of main: failure 3 min ago",
    ] {
        assert!(ran.out.contains(line), "{line}\n{}", ran.out);
    }
    let world = World::new(backend(1).call::<Status, _>(async |_| Ok(vec![said])));
    let json = world.run(&["status", "--json"]).json();
    assert_eq!(
        json[0]["waiting"][0]["waits_for"][0],
        "approval: 0 of 1 approval by admins"
    );
    assert_eq!(json[0]["runs"]["live"][0]["number"], 5);
}

#[test]
fn plan_shows_what_would_change_and_why() {
    let planned = |name: &str, action, strategy: Option<&str>, changes: &[&str]| PlannedService {
        service: service(name),
        action,
        replicas: 2,
        strategy: strategy.map(str::to_owned),
        changes: changes.iter().map(|change| (*change).to_owned()).collect(),
    };
    let world = World::new(backend(1).call::<Plan, _>(async move |request| {
        Ok(PlanOutcome {
            environment: environment(request.project.name.as_str()),
            release: Some(ReleaseId(4)),
            changed: true,
            services: vec![
                planned("db", PlannedAction::Keep, None, &[]),
                planned(
                    "backend",
                    PlannedAction::Replace,
                    Some("start-first: nothing stands in the way"),
                    &[
                        "image: built from Dockerfile:7 on: COPY . .",
                        "environment: LOG_LEVEL changed",
                    ],
                ),
            ],
            others: vec!["routes changed".to_owned()],
        })
    }));
    let ran = world.run(&["plan"]);
    insta::assert_snapshot!("plan", ran.out);
    assert_eq!(ran.err, "shop/production: release 4 would be replaced\n");
}

#[test]
fn status_as_json_is_what_the_daemon_said() {
    let said = running_environment();
    let sent = said.clone();
    let world = World::new(backend(1).call::<Status, _>(async |_| Ok(vec![sent])));
    let ran = world.run(&["status", "--json"]);
    assert_eq!(ran.json(), serde_json::to_value([said]).unwrap());
}

#[test]
fn status_outside_a_project_shows_all() {
    let world = World::new(backend(1).call::<Status, _>(async |query| {
        assert_eq!(query, StatusQuery::default());
        Ok(Vec::new())
    }));
    std::fs::remove_file(world.folder.path().join("compose.yaml")).unwrap();
    let ran = world.run(&["status"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(ran.err, "no environment is up; `havre up` brings one up\n");
}

#[test]
fn status_tells_what_ails_the_daemon() {
    let ill = DaemonInfo {
        problems: vec!["port 443 is taken".into()],
        advice: vec!["add a slot".into()],
        ..info()
    };
    let backend = havre_testing::api::Script::default()
        .call::<Info, _>(async |_| Ok(ill))
        .call::<Status, _>(async |_| Ok(Vec::new()));
    let ran = World::new(backend).run(&["status", "-p", "shop"]);
    assert!(
        ran.err.contains("warning: port 443 is taken"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("warning: add a slot"), "{}", ran.err);
}

#[test]
fn ps_lists_replicas() {
    let world = World::new(backend(1).call::<Replicas, _>(async |query| {
        assert_eq!(query.services, [service("web")]);
        assert!(query.all);
        let crashed = ReplicaStatus {
            state: ReplicaState::Exited,
            health: None,
            last_exit: Some(killed_for_memory()),
            restarts: 5,
            address: None,
            cpu_percent: None,
            memory_bytes: None,
            ..replica("shop.production.web.0a1b.1")
        };
        Ok(vec![replica("shop.production.web.0a1b.0"), crashed])
    }));
    let ran = world.run(&["ps", "--all", "web"]);
    insta::assert_snapshot!("ps", ran.out);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn ps_names_the_environment_where_there_are_several() {
    let world = World::new(backend(1).call::<Replicas, _>(async |_| {
        let other = ReplicaStatus {
            environment: environment("blog"),
            ..replica("blog.production.web.77.0")
        };
        Ok(vec![replica("shop.production.web.0a1b.0"), other])
    }));
    let ran = world.run(&["ps"]);
    assert!(ran.out.starts_with("ENVIRONMENT"), "{}", ran.out);
    assert!(ran.out.contains("\nblog/production"), "{}", ran.out);
}

#[test]
fn version_works_without_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let ran: crate::program::Ran = crate::program::command(folder.path(), &["version"])
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("daemon does not run"), "{}", ran.out);
    let ran = World::new(backend(1)).run(&["version", "--json"]);
    assert_eq!(ran.json()["daemon"]["pid"], 4711);
}
