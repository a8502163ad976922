//! Who gets in, over a real register.

use std::time::Duration;

use havre_access::{NewToken, User, UserKind};
use havre_api::{EnvironmentId, Scope};
use havre_model::{EnvironmentName, ProjectName};
use havre_store::Store;

use super::*;

struct World {
    door: Doorkeeper,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let schemas = [havre_access::SCHEMA];
        let store = Store::open(&folder.path().join("state.db"), &schemas).expect("opened");
        let register = Register::open(Arc::new(store)).expect("readable");
        Self {
            door: Doorkeeper::new(Arc::new(register)),
            _folder: folder,
        }
    }

    fn token(&self, place: &str) -> String {
        let new = NewToken {
            name: "ci".to_owned(),
            holder: Holder::Token,
            grant: Grant {
                role: Role::Deployer,
                environments: vec![place.parse().expect("sound")],
            },
            created_by: "root".to_owned(),
            lifetime: None,
        };
        let issued = self.door.register.create(new, SystemTime::now());
        issued.expect("made").text
    }

    fn comes(&self, address: &str, bearer: Option<&str>) -> Result<Principal, ApiError> {
        self.door.authenticate(&Credential::Remote(RemotePeer {
            address: address.parse().expect("an address"),
            bearer: bearer.map(ToOwned::to_owned),
        }))
    }
}

fn asked(principal: Principal, place: &str) -> Asked {
    let (project, environment) = place.split_once('/').expect("both");
    Asked {
        principal,
        address: None::<IpAddr>,
        path: "/v1/up",
        role: Some(Role::Deployer),
        scope: Scope::Environment(EnvironmentId {
            project: ProjectName::new(project),
            environment: EnvironmentName::new(environment),
        }),
        subject: String::new(),
        operation: None,
    }
}

#[test]
fn a_token_lets_in_until_it_is_revoked_and_where_it_says() {
    let world = World::new();
    let token = world.token("shop/*");
    let principal = world.comes("192.0.2.1", Some(&token)).expect("known");
    assert_eq!(principal.to_string(), "token ci");
    let here = asked(principal.clone(), "shop/staging");
    let admission = world.door.admit(&here).expect("let in");
    let elsewhere = world.door.admit(&asked(principal, "blog/staging"));
    assert_eq!(elsewhere.expect_err("refused").code, ErrorCode::Forbidden);
    world.door.register.revoke("ci").expect("revoked");
    assert!(admission.lost.is_cancelled());
    // It had been found out who asks just before.
    let late = world.door.admit(&here).expect_err("refused");
    assert_eq!(late.code, ErrorCode::Unauthenticated);
    let refused = world.comes("192.0.2.1", Some(&token)).expect_err("refused");
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    assert!(!format!("{refused:?}").contains(&token));
}

#[test]
fn guessing_ends_and_disturbs_nobody_else() {
    let world = World::new();
    let token = world.token("*");
    let code = |address: &str, bearer: Option<&str>| match world.comes(address, bearer) {
        Ok(_) => None,
        Err(error) => Some(error.code),
    };
    for _ in 0..10 {
        let guess = havre_guess();
        assert_eq!(
            code("192.0.2.1", Some(&guess)),
            Some(ErrorCode::Unauthenticated)
        );
    }
    assert_eq!(code("192.0.2.1", None), Some(ErrorCode::TooMany));
    let guess = havre_guess();
    assert_eq!(code("192.0.2.1", Some(&guess)), Some(ErrorCode::TooMany));
    // Who has one that holds may sit behind the same router.
    assert_eq!(code("192.0.2.1", Some(&token)), None);
    assert_eq!(code("192.0.2.2", Some(&token)), None);
    let failures = world.door.failures();
    assert_eq!((failures.refused, failures.limited), (10, 2));
    world.door.register.revoke("ci").expect("revoked");
    assert_eq!(code("192.0.2.1", Some(&token)), Some(ErrorCode::TooMany));
}

fn havre_guess() -> String {
    format!("havre_{}", "x".repeat(49))
}

#[test]
fn a_principal_is_limited_and_root_is_not() {
    let world = World::new();
    let token = world.token("*");
    let principal = world.comes("192.0.2.1", Some(&token)).expect("known");
    let call = asked(principal, "shop/production");
    let answers: Vec<_> = (0..300).map(|_| world.door.hear(&call)).collect();
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    let refused: Vec<ErrorCode> = refused.map(|error| error.code).collect();
    assert!(refused.len() > 50, "{}", refused.len());
    assert!(refused.iter().all(|code| *code == ErrorCode::TooMany));
    let peer = LocalPeer {
        uid: rustix::process::geteuid().as_raw(),
        gid: 0,
        name: None,
    };
    let root = world
        .door
        .authenticate(&Credential::Local(peer))
        .expect("known");
    let call = asked(root, "shop/production");
    assert!((0..1000).all(|_| world.door.hear(&call).is_ok()));
}

/// A login of somebody at that address.
fn login(address: &str) -> Asked {
    Asked {
        principal: Principal {
            who: Who::Nobody,
            grant: Grant::nothing(),
        },
        address: Some(address.parse().expect("an address")),
        path: "/v1/login/oidc",
        role: None,
        scope: Scope::Visible,
        subject: String::new(),
        operation: None,
    }
}

#[test]
fn strangers_of_one_network_are_limited_together() {
    let world = World::new();
    let answers = (0..300).map(|n| world.door.hear(&login(&format!("2001:db8::{n:x}"))));
    let refused: Vec<_> = answers.filter_map(Result::err).collect();
    assert!(refused.len() > 50, "{}", refused.len());
    assert!(refused.iter().all(|error| error.code == ErrorCode::TooMany));
    world.door.hear(&login("2001:db8:0:1::1")).expect("another");
}

#[test]
fn what_strangers_are_wrong_in_counts_and_not_what_fails_of_others() {
    for (outcome, expected) in [
        (Outcome::Failed(ErrorCode::Invalid), false),
        (Outcome::Failed(ErrorCode::Unauthenticated), false),
        (Outcome::Failed(ErrorCode::Unavailable), true),
        (Outcome::Failed(ErrorCode::Internal), true),
        (Outcome::Left, false),
        (Outcome::Done, true),
    ] {
        let (world, call) = (World::new(), login("192.0.2.1"));
        for _ in 0..10 {
            world.door.hear(&call).expect("heard");
            let ended = Ended {
                outcome,
                elapsed: Duration::ZERO,
                record: None,
            };
            world.door.ended(&call, ended);
        }
        assert_eq!(world.door.hear(&call).is_ok(), expected, "{outcome:?}");
    }
}

#[test]
fn a_member_has_the_rights_they_are_entered_with_by_whatever_name() {
    let world = World::new();
    let enter = |name: &str, role| {
        let user = User {
            name: name.to_owned(),
            kind: UserKind::Local,
            grant: Grant::everywhere(role),
            created_at: SystemTime::now(),
            created_by: "root".to_owned(),
        };
        world.door.register.put_user(user).expect("entered");
    };
    enter("anna", Role::Viewer);
    enter("bob", Role::Deployer);
    enter("bert", Role::Deployer);
    let of = |shown: Option<&str>, names: &[&str]| {
        let peer = LocalPeer {
            uid: 1000,
            gid: 1000,
            name: shown.map(ToOwned::to_owned),
        };
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let grant = world.door.of_member(&peer, &names);
        grant.map(|grant| grant.role).map_err(|error| error.code)
    };
    let refused = Err(ErrorCode::Unauthenticated);
    assert_eq!(of(Some("carl"), &["carl"]), Ok(Role::Admin));
    assert_eq!(of(Some("anna"), &["anna"]), Ok(Role::Viewer));
    assert_eq!(of(Some("ann"), &["ann", "anna"]), Ok(Role::Viewer));
    assert_eq!(of(Some("bob"), &["bob", "bert"]), Ok(Role::Deployer));
    assert_eq!(of(Some("anna"), &["anna", "bob"]), refused);
    // Nobody knows who that is, or it was somebody else when they connected.
    assert_eq!(of(None, &["anna"]), refused);
    assert_eq!(of(None, &["carl"]), refused);
    assert_eq!(of(Some("anna"), &["carl"]), refused);
}

#[test]
fn a_user_of_the_machine_who_is_in_no_group_is_refused() {
    let world = World::new();
    let peer = LocalPeer {
        uid: 4_000_000,
        gid: 4_000_000,
        name: None,
    };
    let refused = world.door.authenticate(&Credential::Local(peer));
    assert_eq!(
        refused.expect_err("refused").code,
        ErrorCode::Unauthenticated
    );
}

#[test]
fn a_call_is_counted_when_it_comes_not_as_time_goes_by() {
    let wait = TooMany {
        retry_after: Duration::from_millis(5900),
    };
    assert!(too_many("x", wait).message.ends_with("try again in 6 s"));
}
