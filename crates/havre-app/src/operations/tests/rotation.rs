//! Rotations of secrets, and what environments run with meanwhile.

use std::collections::BTreeSet;

use havre_api::{
    ApiError, ErrorCode, SecretBytes, SecretOrigin, SecretQuery, SecretRotateRequest,
    SecretRotated, SecretRotation, SecretRotationStep as Step, SecretStepRequest,
    SecretSwitchOutcome,
};
use havre_release::{Release, ServiceRelease};
use havre_secrets::Scope;

use crate::fake::{Fate, Stage, Told};
use crate::secrets::scope::scope_of;
use crate::secrets::{calls, rotation};

/// A service that reloads the secret `key`, and one that has it as a variable.
fn files(tag: u32) -> String {
    format!(
        "name: shop\nservices:\n  web: {{image: 'web:{tag}', secrets: [key]}}\n  worker: {{image: 'worker:1'}}\n\
         secrets: {{key: {{external: true}}}}\n---\n\
         rollout: {{bake: 1s}}\n\
         services:\n  web: {{secrets: {{reload: SIGHUP}}}}\n  worker: {{environment: {{KEY: {{secret: key}}}}}}\n"
    )
}

impl Stage {
    fn own(&self) -> Scope {
        scope_of(Some(&self.id()))
    }

    fn set(&self, scope: &Scope, value: &str) {
        let secrets = &self.daemon.platform.secrets;
        let name = "key".parse().unwrap();
        secrets
            .set(scope, &name, value.as_bytes(), "", "set")
            .unwrap();
    }

    async fn rotate(&self, scope: &Scope, value: Option<&str>) -> Result<SecretRotated, ApiError> {
        let request = SecretRotateRequest {
            environment: (*scope != Scope::Machine).then(|| self.id()),
            name: "key".to_owned(),
            value: value.map(|value| SecretBytes::new(value.as_bytes().to_vec())),
            origin: SecretOrigin::Set,
            values: true,
            reason: "a test".to_owned(),
        };
        let by =
            crate::fake::principal("anna", havre_api::Grant::everywhere(havre_api::Role::Admin));
        rotation::rotate(&self.daemon, &by, &request).await
    }

    fn request(&self, scope: &Scope, version: u32, step: Step) -> SecretStepRequest {
        SecretStepRequest {
            environment: (*scope != Scope::Machine).then(|| self.id()),
            name: "key".to_owned(),
            version,
            step,
        }
    }

    async fn switch(&self, scope: &Scope, version: u32, step: Step) -> Told<SecretSwitchOutcome> {
        let request = self.request(scope, version, step);
        self.begin("anna", async |daemon: std::sync::Arc<_>, by, events| {
            rotation::switch(&daemon, &by, request, &events).await
        })
        .end()
        .await
    }

    async fn step(
        &self,
        scope: &Scope,
        version: u32,
        step: Step,
    ) -> Result<SecretRotation, ApiError> {
        rotation::step(&self.daemon, &self.request(scope, version, step)).await
    }

    /// The values that the services of a release get.
    fn values(&self, release: &Release) -> BTreeSet<String> {
        let contents = &self.daemon.platform.contents;
        let files = release
            .services
            .values()
            .flat_map(|one: &ServiceRelease| one.files.values());
        files
            .map(|file| {
                String::from_utf8(contents.open(&self.own(), file).unwrap().to_vec()).unwrap()
            })
            .collect()
    }

    async fn serves_with(&self) -> (u64, BTreeSet<String>) {
        let status = self.status(&self.id()).await;
        let (number, release) = status.serving().unwrap();
        (number, self.values(release))
    }

    /// The values of all releases on disk, by number.
    fn kept(&self) -> Vec<(u64, Vec<String>)> {
        let rows = self.daemon.platform.tables.all_releases().unwrap();
        let release = |text: &str| serde_json::from_str::<Release>(text).unwrap();
        let all = rows.iter();
        all.map(|row| {
            (
                row.number,
                self.values(&release(&row.content)).into_iter().collect(),
            )
        })
        .collect()
    }
}

fn only(value: &str) -> BTreeSet<String> {
    BTreeSet::from([value.to_owned()])
}

fn is_word(answer: Result<SecretRotation, ApiError>, step: Step) {
    assert_eq!(answer.unwrap().step, step);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_gives_all_releases_the_new_version() {
    for scope in [Scope::Machine, scope_of(Some(&Stage::new().id()))] {
        let stage = Stage::new();
        stage.set(&scope, "one-value");
        for tag in 1..=2 {
            stage.up(&files(tag)).await.done();
        }
        let none = stage.rotate(&scope, None).await.unwrap_err();
        assert_eq!(none.code, ErrorCode::Conflict);
        let begun = stage.rotate(&scope, Some("two-value")).await.unwrap();
        // A script may make a program print it before any release has it.
        let mask = stage.daemon.platform.masks.of(&stage.id()).mask().unwrap();
        let shown = mask.filter.redact("one-value two-value");
        assert_eq!(shown.as_deref(), Some("*** ***"));
        assert!(!begun.resumed && begun.new.unwrap().bytes() == b"two-value");
        // It is gone on with, with the value that was staged.
        let again = stage.rotate(&scope, Some("three-value")).await.unwrap();
        assert!(again.resumed && again.new.unwrap().bytes() == b"two-value");
        assert_eq!(stage.serves_with().await, (2, only("one-value")));
        // Not before everybody has it.
        let early = stage.step(&scope, 2, Step::Retiring).await.unwrap_err();
        assert_eq!(early.code, ErrorCode::Conflict, "{early:?}");
        let made = stage.images_made();
        let done = stage.switch(&scope, 2, Step::Switched).await.done();
        assert_eq!(done.environments.len(), 1);
        assert_eq!(stage.images_made(), made);
        assert_eq!(stage.serves_with().await, (3, only("two-value")));
        // Once more does nothing more.
        stage.switch(&scope, 2, Step::Switched).await.done();
        assert_eq!(stage.serves_with().await.0, 3);
        for step in [Step::Retiring, Step::Retiring, Step::Done, Step::Done] {
            is_word(stage.step(&scope, 2, step).await, step);
            assert!(
                stage
                    .kept()
                    .iter()
                    .all(|(_, values)| values == &["two-value"])
            );
        }
        let back = stage.rollback(Some(1)).await.done();
        assert_eq!(
            stage.serves_with().await,
            (back.release.0, only("two-value"))
        );
        stage.up(&files(2)).await.done();
        assert_eq!(stage.serves_with().await.1, only("two-value"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_fails_leaves_the_version_before_and_can_go_either_way() {
    for goes_back in [false, true] {
        let stage = Stage::new();
        let scope = stage.own();
        stage.set(&scope, "one-value");
        stage.up(&files(1)).await.done();
        stage.rotate(&scope, Some("two-value")).await.unwrap();
        stage.fate("worker", Fate::Crashes(1));
        let failed = stage.switch(&scope, 2, Step::Switched).await;
        let message = "shop/production does not have version 2 of `key`";
        failed.refused(ErrorCode::RolledBack, message);
        assert_eq!(stage.serves_with().await, (1, only("one-value")));
        let early = stage.step(&scope, 2, Step::Retiring).await.unwrap_err();
        assert!(
            early.message.contains("still runs with another version"),
            "{early:?}"
        );
        stage.fate("worker", Fate::Serves);
        if goes_back {
            stage.switch(&scope, 2, Step::Aborting).await.done();
            let forward = stage.switch(&scope, 2, Step::Switched).await;
            forward.refused(ErrorCode::Conflict, "cannot be switched: it is aborting");
            is_word(stage.step(&scope, 2, Step::Aborted).await, Step::Aborted);
            assert_eq!(stage.serves_with().await, (1, only("one-value")));
        } else {
            stage.switch(&scope, 2, Step::Switched).await.done();
            is_word(stage.step(&scope, 2, Step::Retiring).await, Step::Retiring);
            let back = stage.switch(&scope, 2, Step::Aborting).await;
            back.refused(ErrorCode::Conflict, "it is retiring");
            is_word(stage.step(&scope, 2, Step::Done).await, Step::Done);
            assert_eq!(stage.serves_with().await.1, only("two-value"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_switched_goes_back_and_no_release_keeps_what_was_taken_back() {
    let stage = Stage::new();
    let scope = stage.own();
    stage.set(&scope, "one-value");
    stage.up(&files(1)).await.done();
    stage.rotate(&scope, Some("two-value")).await.unwrap();
    stage.switch(&scope, 2, Step::Switched).await.done();
    stage.switch(&scope, 2, Step::Aborting).await.done();
    assert_eq!(stage.serves_with().await, (3, only("one-value")));
    // A release of the time between is refused, and then has what works.
    let between = stage.rollback(Some(2)).await;
    between.refused(ErrorCode::Conflict, "version 2 of secret `key` was retired");
    is_word(stage.step(&scope, 2, Step::Aborted).await, Step::Aborted);
    assert!(
        stage
            .kept()
            .iter()
            .all(|(_, values)| values == &["one-value"])
    );
    stage.up(&files(2)).await.done();
    stage.rollback(Some(2)).await.done();
    assert_eq!(stage.serves_with().await.1, only("one-value"));
}

#[tokio::test(start_paused = true)]
async fn only_who_has_no_own_secret_gets_that_of_the_machine() {
    let stage = Stage::new();
    stage.set(&Scope::Machine, "one-value");
    stage.set(&stage.own(), "own-value");
    stage.up(&files(1)).await.done();
    stage
        .rotate(&Scope::Machine, Some("two-value"))
        .await
        .unwrap();
    let done = stage
        .switch(&Scope::Machine, 2, Step::Switched)
        .await
        .done();
    assert_eq!(done.environments, []);
    is_word(
        stage.step(&Scope::Machine, 2, Step::Retiring).await,
        Step::Retiring,
    );
    is_word(stage.step(&Scope::Machine, 2, Step::Done).await, Step::Done);
    assert_eq!(stage.serves_with().await, (1, only("own-value")));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_begins_nothing_and_the_rotation_goes_on_later() {
    let stage = Stage::new();
    let scope = stage.own();
    stage.set(&scope, "one-value");
    stage.up(&files(1)).await.done();
    stage.rotate(&scope, Some("two-value")).await.unwrap();
    let full = stage.full_disk();
    let failed = stage.switch(&scope, 2, Step::Switched).await;
    failed.refused(ErrorCode::Failed, "does not have version 2");
    assert_eq!(stage.serves_with().await, (1, only("one-value")));
    full.heal();
    stage.switch(&scope, 2, Step::Switched).await.done();
    assert_eq!(stage.serves_with().await, (2, only("two-value")));
}

#[tokio::test(start_paused = true)]
async fn a_version_with_the_number_of_another_one_is_told_by_its_value() {
    let stage = Stage::new();
    let (scope, name) = (stage.own(), "key".parse().unwrap());
    stage.set(&scope, "one-value");
    stage.set(&scope, "two-value");
    stage.up(&files(1)).await.done();
    let secrets = &stage.daemon.platform.secrets;
    secrets.remove(&scope, &name).unwrap();
    // What was counted is forgotten.
    let forget = stage
        .store
        .run("forget", |db| db.execute("DELETE FROM secrets_removed", []));
    forget.unwrap();
    stage.set(&scope, "three-value");
    stage.rotate(&scope, Some("four-value")).await.unwrap();
    // What runs has a version 2, but not this one.
    secrets
        .advance_rotation(&scope, &name, 2, havre_secrets::RotationStep::Switched)
        .unwrap();
    let query = SecretQuery {
        environment: Some(stage.id()),
        name: "key".to_owned(),
    };
    let by = crate::fake::principal("anna", havre_api::Grant::everywhere(havre_api::Role::Admin));
    let uses = calls::uses(&stage.daemon, &by, &query).await.unwrap();
    assert_eq!((uses[0].version, uses[0].next), (2, Some(2)));
    assert!(uses[0].next_differs);
    let early = stage.step(&scope, 2, Step::Retiring).await.unwrap_err();
    assert_eq!(early.code, ErrorCode::Conflict, "{early:?}");
    stage.switch(&scope, 2, Step::Switched).await.done();
    assert_eq!(stage.serves_with().await, (2, only("four-value")));
    is_word(stage.step(&scope, 2, Step::Retiring).await, Step::Retiring);
}
