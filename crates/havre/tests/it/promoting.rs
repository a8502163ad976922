//! `env`, `promote`, `approve`, `freeze`: what is asked, shown, and how it ends.

use havre_api::{
    EnvironmentFreeze, EnvironmentInfo, Environments, FreezeStatus, GateState, GateStatus,
    ImageChange, Origin, PlannedAction, PlannedService, PreviewInfo, Promote, PromotedFrom,
    PromotionApprove, PromotionId, PromotionState, PromotionStatus, Promotions, ReleaseId,
    ReleaseOrigin,
};
use havre_model::EnvironmentName;

use crate::fixtures::*;
use crate::program::World;

fn promotion(state: PromotionState) -> PromotionStatus {
    PromotionStatus {
        promotion: Some(PromotionId(3)),
        environment: environment("shop"),
        from: Some(PromotedFrom {
            environment: EnvironmentName::new("staging"),
            release: ReleaseId(7),
        }),
        job: None,
        by: "anna".into(),
        at: ago(300),
        expires: ago(0),
        state,
        reason: None,
        gates: vec![
            GateStatus {
                gate: "needs".into(),
                state: GateState::Open,
                why: None,
                until: None,
            },
            GateStatus {
                gate: "approval".into(),
                state: GateState::Waits,
                why: Some("0 of 1 approval by admins".into()),
                until: None,
            },
        ],
        approvals: Vec::new(),
        origin: Some(ReleaseOrigin {
            origin: Origin {
                commit: Some("c0ffee".into()),
                // Nothing that somebody says is another line.
                run: Some("41\n  gate: approval: holds".into()),
                ..Origin::default()
            },
            job: None,
            said_by: Some("ben".into()),
            promotion: None,
            promoted_from: None,
            approvals: Vec::new(),
            overridden: None,
        }),
        configuration: Some("as the files of release 7 of staging have it".into()),
        result: Some(ReleaseId(8)),
        images: vec![ImageChange {
            service: service("web"),
            before: Some(format!("sha256:{}", "a".repeat(64))),
            after: format!("sha256:{}", "b".repeat(64)),
        }],
        changes: vec![PlannedService {
            service: service("web"),
            action: PlannedAction::Replace,
            replicas: 1,
            strategy: None,
            changes: vec!["environment: A added".into()],
        }],
        others: Vec::new(),
        differs: vec!["web: environment: B changed".into()],
    }
}

const FILES: &str =
    "environments: {review: , staging: , production: {needs: staging, approval: true}}\n";

fn world(script: havre_testing::api::Script) -> World {
    let world = World::new(script);
    std::fs::write(world.folder.path().join("havre.yaml"), FILES).unwrap();
    world
}

#[test]
fn a_promotion_is_shown_before_anybody_agrees_and_waits() {
    let world = world(backend(1).call::<Promote, _>(async |request| {
        assert_eq!(request.project.environment.as_str(), "production");
        assert_eq!(request.from.as_str(), "staging", "what it needs");
        assert_eq!(request.release, Some(ReleaseId(7)));
        Ok(promotion(PromotionState::Waiting))
    }));
    let ran = world.run(&["promote", "7", "--to", "production"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for shown in [
        "promotion 3: release 7 of staging → shop/production",
        "commit: c0ffee",
        "as said by: ben",
        "configuration: as the files of release 7 of staging have it",
        "gate: needs: holds",
        "gate: approval: 0 of 1 approval by admins",
        "aaaaaaaaaaaa",
        "bbbbbbbbbbbb",
        "environment: A added",
        "not as in staging: web: environment: B changed",
    ] {
        assert!(ran.out.contains(shown), "{shown}: {}", ran.out);
    }
    let lines = ran.out.lines().map(str::trim);
    let mut holds = lines.filter(|line| *line == "gate: approval: holds");
    assert_eq!(holds.next(), None, "{}", ran.out);
    assert!(
        ran.err.contains("`havre approve 3` agrees with it"),
        "{}",
        ran.err
    );
}

#[test]
fn whoever_agrees_sees_what_came_of_it() {
    for (end, code, said) in [
        (
            PromotionState::RolledOut,
            0,
            "release 8 serves, by promotion 3",
        ),
        (
            PromotionState::Failed,
            5,
            "promotion 3 to shop/production failed",
        ),
        (
            PromotionState::Superseded,
            7,
            "promotion 3 to shop/production was superseded",
        ),
    ] {
        let world = world(
            backend(1)
                .call::<Promotions, _>(async |_| Ok(vec![promotion(PromotionState::Waiting)]))
                .call::<PromotionApprove, _>(async |answer| {
                    assert_eq!(answer.comment.as_deref(), Some("seen"));
                    assert_eq!(answer.environment, environment("shop"));
                    Ok(promotion(PromotionState::Approved))
                })
                .call::<Promotions, _>(async |_| Ok(vec![promotion(PromotionState::RollingOut)]))
                .call::<Promotions, _>(async move |_| Ok(vec![promotion(end)])),
        );
        let ran = world.run(&["approve", "3", "--comment", "seen"]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.err.contains(said), "{ran:?}");
    }
}

#[test]
fn environments_are_listed_with_what_waits_for_each() {
    let info = |name: &str, waiting| EnvironmentInfo {
        id: havre_api::EnvironmentId {
            environment: EnvironmentName::new(name),
            ..environment("shop")
        },
        release: Some(ReleaseId(7)),
        origin: None,
        gates: None,
        frozen: None,
        waiting,
        preview: (name == "preview-login").then(|| PreviewInfo {
            branch: "login".into(),
            until: "2099-01-02T08:00:00Z".parse().unwrap(),
            goes: None,
            why: None,
        }),
        hosts: vec![format!("{name}.example.org")],
    };
    let world = world(backend(1).call::<Environments, _>(async move |query| {
        assert_eq!(query.project.unwrap().as_str(), "shop");
        Ok(vec![
            info("staging", Vec::new()),
            info("production", vec![promotion(PromotionState::Waiting)]),
            info("preview-login", Vec::new()),
        ])
    }));
    let ran = world.run(&["env", "ls"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[1].starts_with("shop/staging"), "{}", ran.out);
    assert!(lines[2].starts_with("shop/production"), "{}", ran.out);
    assert!(
        lines[2].contains("3: release 7 of staging, 5 min ago by anna"),
        "{}",
        ran.out
    );
    assert!(
        lines[2].contains("approval: 0 of 1 approval by admins"),
        "{}",
        ran.out
    );
    let place = "https://preview-login.example.org, until 2099-01-02T08:00:00Z";
    let is_told = lines[3].contains("branch login") && lines[3].contains(place);
    assert!(is_told, "{}", ran.out);
}

#[test]
fn a_freeze_says_until_when() {
    let world = world(backend(1).call::<EnvironmentFreeze, _>(async |request| {
        let order = request.freeze.unwrap();
        assert_eq!(request.environment.environment.as_str(), "staging");
        Ok(EnvironmentInfo {
            id: request.environment,
            release: None,
            origin: None,
            gates: None,
            frozen: Some(FreezeStatus {
                reason: order.reason.unwrap(),
                until: order.until,
                by: Some("anna".into()),
            }),
            waiting: Vec::new(),
            preview: None,
            hosts: Vec::new(),
        })
    }));
    let until = "2099-01-02T08:00:00Z";
    let ran = world.run(&["freeze", "staging", "--until", until, "--reason", "audit"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.err
            .contains("shop/staging is frozen: audit, until 2099-01-02T08:00:00Z"),
        "{ran:?}"
    );
    let ran = world.run(&["freeze", "staging", "--off", "--reason", "audit"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[test]
fn where_it_comes_from_has_to_be_known() {
    let world = world(backend(0));
    let ran = world.run(&["promote", "--to", "review"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("--from"), "{ran:?}");
    let ran = world.run(&["promote", "--to", "production", "-E", "staging"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let ran = world.run(&["promote", "newest", "--to", "production"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}
