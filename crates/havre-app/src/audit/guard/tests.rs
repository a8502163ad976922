//! What is written down of calls, around a FAKE guard that decides as it is told.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::time::Duration;

use havre_api::{EnvironmentId, Grant, RemotePeer, Role};
use havre_audit::{Query, SCHEMA, Shown};
use havre_model::{EnvironmentName, ProjectName};
use havre_store::Store;

use super::*;
use crate::fault::Fault;

/// Lets everything in, or nothing.
#[derive(Default)]
struct FakeGuard {
    refuses: Option<ErrorCode>,
    ended: Mutex<Vec<Outcome>>,
}

impl Guard for FakeGuard {
    fn authenticate(&self, credential: &Credential) -> Result<Principal, ApiError> {
        match credential {
            Credential::Local(peer) => Ok(Principal {
                who: Who::Local(peer.clone()),
                grant: Grant::everywhere(Role::Admin),
            }),
            Credential::Remote(_) => {
                Err(ApiError::new(ErrorCode::Unauthenticated, "no such token"))
            }
        }
    }

    fn hear(&self, _: &Asked) -> Result<(), ApiError> {
        Ok(())
    }

    fn admit(&self, asked: &Asked) -> Result<Admission, ApiError> {
        match self.refuses {
            Some(code) => Err(ApiError::new(code, format!("no {}", asked.path))),
            None => Ok(Admission::default()),
        }
    }

    fn ended(&self, _: &Asked, ended: Ended) {
        self.ended.lock().unwrap().push(ended.outcome);
    }
}

struct Scene {
    folder: tempfile::TempDir,
    trail: Trail,
    guard: Recording,
}

impl Scene {
    fn new(refuses: Option<ErrorCode>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db"), &[SCHEMA]).unwrap();
        let trail = Trail::new(Arc::new(store), folder.path().join("audit.head"));
        let inner = FakeGuard {
            refuses,
            ..FakeGuard::default()
        };
        let guard = Recording::new(trail.clone(), Arc::new(inner));
        Self {
            folder,
            trail,
            guard,
        }
    }

    /// A call from its admission to its end.
    fn call(&self, asked: &Asked, outcome: Outcome) -> Result<(), ApiError> {
        let admitted = self.guard.admit(asked);
        let (record, outcome) = match &admitted {
            Ok(admission) => (admission.record, outcome),
            Err(error) => (None, Outcome::Failed(error.code)),
        };
        let ended = Ended {
            outcome,
            elapsed: Duration::from_millis(2500),
            record,
        };
        self.guard.ended(asked, ended);
        admitted.map(drop)
    }

    fn shown(&self) -> Vec<Shown> {
        let query = Query {
            limit: 100,
            ..Query::default()
        };
        assert_eq!(self.trail.verify(&[]).unwrap().faults, []);
        self.trail.shown(query).unwrap()
    }

    /// Each as `who action subject: outcome detail`, that of its end where it has one.
    fn lines(&self) -> Vec<String> {
        let line = |shown: Shown| {
            let Shown { record, ended } = shown;
            let last = ended.as_ref().unwrap_or(&record);
            let (outcome, detail) = (last.outcome, last.detail.clone().unwrap_or_default());
            let subject = record.subject.unwrap_or_default();
            let (who, action) = (record.principal.name, record.action);
            format!("{who} {action} {subject}: {outcome:?} {detail}")
        };
        self.shown().into_iter().map(line).collect()
    }
}

fn asked(path: &'static str, role: Option<Role>) -> Asked {
    let peer = LocalPeer {
        uid: 1000,
        gid: 1000,
        name: Some("anna".into()),
    };
    Asked {
        principal: Principal {
            who: Who::Local(peer),
            grant: Grant::everywhere(Role::Admin),
        },
        address: None,
        path,
        role,
        scope: Scope::Environment(EnvironmentId {
            project: ProjectName::new("shop"),
            environment: EnvironmentName::new("production"),
        }),
        subject: "web=2".into(),
        operation: None,
    }
}

#[test]
fn a_call_that_changes_something_is_there_before_it_is_done() {
    let scene = Scene::new(None);
    let scale = asked("/v1/scale", Some(Role::Deployer));
    let admission = scene.guard.admit(&scale).unwrap();
    assert_eq!(scene.lines(), ["anna scale web=2: Begun "]);
    let ended = Ended {
        outcome: Outcome::Failed(ErrorCode::RolledBack),
        elapsed: Duration::from_millis(2500),
        record: admission.record,
    };
    scene.guard.ended(&scale, ended);
    assert_eq!(
        scene.lines(),
        ["anna scale web=2: Failed rolled back, 2.5 s"]
    );
    let record = &scene.shown()[0].record;
    assert_eq!(record.project.as_deref(), Some("shop"));
    assert_eq!(record.from.as_deref(), Some("socket"));
}

#[test]
fn what_only_looks_is_there_where_it_is_refused() {
    let status = asked("/v1/status", Some(Role::Viewer));
    let scene = Scene::new(None);
    scene.call(&status, Outcome::Done).unwrap();
    assert_eq!(scene.lines(), [""; 0]);
    let scene = Scene::new(Some(ErrorCode::Forbidden));
    scene.call(&status, Outcome::Done).unwrap_err();
    assert_eq!(
        scene.lines(),
        ["anna status web=2: Refused not allowed, 2.5 s"]
    );
}

#[test]
fn who_is_not_recognised_is_there_with_an_address_and_no_token() {
    let scene = Scene::new(None);
    let stranger = Credential::Remote(RemotePeer {
        address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
        bearer: Some("havre_hunter2".into()),
    });
    scene.guard.authenticate(&stranger).unwrap_err();
    let record = &scene.shown()[0].record;
    assert_eq!(record.from.as_deref(), Some("203.0.113.7"));
    assert_eq!(record.principal.kind, Kind::Anonymous);
    assert_eq!(record.outcome, havre_audit::Outcome::Refused);
    let database = std::fs::read(scene.folder.path().join("state.db-wal")).unwrap();
    assert!(!database.windows(7).any(|bytes| bytes == b"hunter2"));
}

#[test]
fn a_login_is_there_when_it_has_ended() {
    let scene = Scene::new(None);
    let login = Asked {
        principal: Principal {
            who: Who::Nobody,
            grant: Grant::nothing(),
        },
        ..asked("/v1/login/oidc", None)
    };
    scene.call(&login, Outcome::Done).unwrap();
    scene
        .call(&login, Outcome::Failed(ErrorCode::Unauthenticated))
        .unwrap();
    assert_eq!(
        scene.lines(),
        [
            "nobody login/oidc web=2: Ok 2.5 s",
            "nobody login/oidc web=2: Refused not recognised, 2.5 s"
        ]
    );
}

#[test]
fn on_a_full_disk_nothing_is_done_unrecorded_but_what_mends() {
    let scene = Scene::new(None);
    let disk = Fault::inject_in(&scene.folder.path().join("state.db"), &["audit"]);
    let up = asked("/v1/up", Some(Role::Deployer));
    let error = scene.call(&up, Outcome::Done).unwrap_err();
    assert_eq!(error.message, "up is not done: nothing may go unrecorded");
    assert!(
        error
            .causes
            .iter()
            .any(|cause| cause.contains("disk is full")),
        "{error:?}"
    );
    for path in ["/v1/down", "/v1/images/prune"] {
        scene
            .call(&asked(path, Some(Role::Admin)), Outcome::Done)
            .unwrap();
    }
    assert_eq!(scene.lines(), [""; 0]);
    disk.heal();
    scene.call(&up, Outcome::Done).unwrap();
    let told = "havre audit/unrecorded : Failed 2 calls before this were done and could not be written down: the \
                daemon's log has them";
    assert_eq!(scene.lines(), ["anna up web=2: Ok 2.5 s", told]);
}

#[test]
fn the_guard_inside_is_told_of_every_end() {
    let scene = Scene::new(None);
    let inner = Arc::new(FakeGuard::default());
    let guard = Recording::new(scene.trail.clone(), Arc::clone(&inner) as Arc<dyn Guard>);
    let ended = Ended {
        outcome: Outcome::Left,
        elapsed: Duration::ZERO,
        record: None,
    };
    guard.ended(&asked("/v1/logs", Some(Role::Viewer)), ended);
    assert_eq!(*inner.ended.lock().unwrap(), [Outcome::Left]);
}
