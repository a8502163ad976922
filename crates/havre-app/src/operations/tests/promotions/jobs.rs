//! Jobs of workflows: what lets them in, and what the daemon knows of what they bring.

use havre_api::Who;
use havre_release::{OfJob, Origin as Known};

use super::*;

/// The token of a job of a run, as the pipeline makes it.
fn job(run: u64, environment: &str) -> Principal {
    let name = format!("ci-r{run}.0.0.1");
    let place = format!("shop/{environment}");
    Principal {
        who: Who::Token {
            id: name.clone(),
            name,
        },
        grant: Grant {
            role: Role::Deployer,
            environments: vec![place.parse().unwrap()],
        },
    }
}

/// As the daemon lets a job of a commit in.
async fn entered(stage: &Stage, run: u64, environment: &str, commit: &str) -> EntryStatus {
    let request = EnterRequest {
        environment: there(environment),
        run: format!("shop#{run}.1"),
        job: "deploy".to_owned(),
        origin: Origin::default(),
    };
    let origin = Known {
        commit: Some(commit.to_owned()),
        reference: Some("refs/heads/main".to_owned()),
        run: Some(run.to_string()),
        actor: Some("carl".to_owned()),
        job: Some(OfJob {
            run,
            attempt: 1,
            job: "deploy".to_owned(),
            workflow: ".github/workflows/e2e.yml".to_owned(),
        }),
        ..Known::default()
    };
    let by = job(run, environment);
    entry::enter(&stage.daemon, &by, request, origin)
        .await
        .unwrap()
}

/// A job that was let in.
pub(super) async fn enter(stage: &Stage, run: u64, environment: &str, commit: &str) -> Principal {
    let status = entered(stage, run, environment, commit).await;
    assert_eq!(status.state, EntryState::Entered, "{status:?}");
    job(run, environment)
}

fn says(commit: &str) -> Asked {
    let origin = Origin {
        commit: Some(commit.to_owned()),
        reference: Some("refs/heads/main".to_owned()),
        actor: Some("nobody".to_owned()),
        ..Origin::default()
    };
    Asked {
        origin: Some(origin),
        ..Asked::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_let_in_once_somebody_agreed_and_so_is_what_it_brings() {
    let stage = Stage::new();
    staging(&stage, 1, GATES).await;
    let pipeline = deployer("pipeline");
    let enter = async |run: &str| -> Result<EntryStatus, ApiError> {
        let request = EnterRequest {
            environment: stage.id(),
            run: run.to_owned(),
            job: "deploy".to_owned(),
            origin: Origin::default(),
        };
        entry::asked(&stage.daemon, &pipeline, request).await
    };
    // Nobody knows of which commit it is: that does not say that it served.
    let unknown = enter("1").await.unwrap();
    assert_eq!(unknown.state, EntryState::Refused);
    assert!(
        unknown
            .reason
            .unwrap()
            .contains("has not served in staging")
    );
    let only = "environments: {staging: , production: {approval: true}}";
    let request = GatesRequest {
        project: ProjectName::new("shop"),
        gates: stage.project(&files(1, only)).gates,
    };
    definitions::apply(&stage.daemon.platform, &admin("root"), &request).unwrap();
    let waits = enter("2").await.unwrap();
    assert_eq!(
        (waits.state, waits.secrets.clone()),
        (EntryState::Waits, None)
    );
    assert_eq!(
        enter("2").await.unwrap().promotion,
        waits.promotion,
        "it is written once"
    );
    let asked = Asked {
        entry: Some(waits.promotion),
        ..Asked::default()
    };
    let early = up(
        &stage,
        pipeline.clone(),
        "production",
        &files(1, only),
        asked.clone(),
    )
    .await;
    early.refused(ErrorCode::Conflict, "does not open shop/production");
    approve(&stage, &deployer("dora"), waits.promotion)
        .await
        .unwrap();
    for _ in 0..2 {
        let entered = enter("2").await.unwrap();
        assert_eq!(entered.state, EntryState::Entered);
        assert_eq!(entered.secrets, Some(stage.id()));
    }
    // Another's entry opens nothing.
    let other = up(
        &stage,
        deployer("ben"),
        "production",
        &files(1, only),
        asked.clone(),
    )
    .await;
    other.refused(ErrorCode::NotFound, "there is no promotion");
    up(&stage, pipeline, "production", &files(1, only), asked)
        .await
        .done();
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_have_room() {
    let stage = Stage::new();
    staging(
        &stage,
        1,
        "environments: {staging: , production: {approval: true}}",
    )
    .await;
    let enter = async |run: u32| {
        let request = EnterRequest {
            environment: stage.id(),
            run: run.to_string(),
            job: "deploy".to_owned(),
            origin: Origin::default(),
        };
        entry::asked(&stage.daemon, &deployer("pipeline"), request).await
    };
    for run in 0..100 {
        enter(run).await.unwrap();
    }
    refused(
        enter(100).await,
        ErrorCode::TooMany,
        "wait for shop/production already",
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_job_or_a_person_says_of_a_commit_opens_no_gate() {
    let stage = Stage::new();
    let needs = "environments: {staging: , production: {needs: staging}}";
    in_force(&stage, &files(1, needs));
    let staging = enter(&stage, 1, "staging", "aaa").await;
    let text = files(1, needs);
    up(&stage, staging, "staging", &text, says("bbb"))
        .await
        .done();
    up(
        &stage,
        admin("root"),
        "staging",
        &files(2, needs),
        says("ccc"),
    )
    .await
    .done();
    for (run, commit, state) in [
        (2, "bbb", EntryState::Refused),
        (3, "ccc", EntryState::Refused),
        (4, "aaa", EntryState::Entered),
    ] {
        let told = entered(&stage, run, "production", commit).await;
        assert_eq!(told.state, state, "{commit}: {told:?}");
    }
    // Another pipeline's word is no more than that.
    let request = EnterRequest {
        environment: stage.id(),
        run: "9".to_owned(),
        job: "deploy".to_owned(),
        origin: says("aaa").origin.unwrap(),
    };
    let told = entry::asked(&stage.daemon, &deployer("jenkins"), request.clone()).await;
    assert_eq!(told.unwrap().state, EntryState::Refused);
    let own = entry::asked(&stage.daemon, &job(5, "production"), request).await;
    refused(own, ErrorCode::Forbidden, "does not ask for itself");
    let query = ReleasesQuery {
        environment: there("staging"),
        most: 2,
    };
    let told = releases::list(&stage.daemon, &query).await.unwrap();
    let by_hand = told[0].origin.clone().unwrap();
    assert_eq!(
        (by_hand.said_by.as_deref(), by_hand.job),
        (Some("root"), None)
    );
    let of_job = told[1].origin.clone().unwrap();
    assert_eq!(of_job.origin.commit.as_deref(), Some("aaa"));
    assert_eq!(of_job.origin.actor.as_deref(), Some("carl"));
    assert_eq!(of_job.job.unwrap().run, 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_not_let_in_brings_nothing() {
    let stage = Stage::new();
    let told = up(
        &stage,
        job(1, "staging"),
        "staging",
        &files(1, ""),
        says("aaa"),
    )
    .await;
    told.refused(ErrorCode::Forbidden, "it was not let in there");
}

#[tokio::test(start_paused = true)]
async fn what_serves_already_is_of_the_commit_that_brought_it_last() {
    let stage = Stage::new();
    let needs = "environments: {staging: , production: {needs: staging}}";
    let text = files(1, needs);
    in_force(&stage, &text);
    for (run, commit) in [(1, "aaa"), (2, "bbb")] {
        let job = enter(&stage, run, "staging", commit).await;
        let told = up(&stage, job, "staging", &text, Asked::default()).await;
        assert_eq!(told.done().release.0, 1);
    }
    let told = entered(&stage, 3, "production", "bbb").await;
    assert_eq!(told.state, EntryState::Entered);
    // What somebody only says takes no place of that.
    up(&stage, deployer("ben"), "staging", &text, says("ccc"))
        .await
        .done();
    for (run, commit, state) in [
        (4, "ccc", EntryState::Refused),
        (5, "bbb", EntryState::Entered),
    ] {
        assert_eq!(
            entered(&stage, run, "production", commit).await.state,
            state
        );
    }
}
