//! Tokens and users over a real database.

use std::path::Path;

use havre_model::grant::Role;

use super::*;
use crate::tables::SCHEMA;

const HOUR: Duration = Duration::from_secs(3600);

fn opened(folder: &Path) -> Register {
    let store = Store::open(&folder.join("state.db"), &[SCHEMA]).expect("a database");
    Register::open(Arc::new(store)).expect("readable")
}

fn grant() -> Grant {
    Grant {
        role: Role::Deployer,
        environments: vec!["shop/*".parse().expect("sound")],
    }
}

fn new(name: &str, lifetime: Option<Duration>) -> NewToken {
    NewToken {
        name: name.to_owned(),
        holder: Holder::Token,
        grant: grant(),
        created_by: "anna".to_owned(),
        lifetime,
    }
}

fn login(subject: &str) -> NewToken {
    NewToken {
        holder: Holder::Login {
            issuer: "github".to_owned(),
            subject: subject.to_owned(),
        },
        ..new(subject, Some(HOUR))
    }
}

fn person(name: &str, subject: &str) -> User {
    User {
        name: name.to_owned(),
        kind: UserKind::Oidc {
            issuer: "github".to_owned(),
            subject: subject.to_owned(),
        },
        grant: grant(),
        created_at: SystemTime::UNIX_EPOCH + HOUR,
        created_by: "root".to_owned(),
    }
}

#[test]
fn a_token_holds_until_it_is_revoked_and_its_text_is_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = opened(folder.path());
    let now = SystemTime::now();
    let made = register.create(new("ci", None), now).expect("made");
    let again = register
        .create(new("ci", None), now)
        .err()
        .expect("refused");
    assert_eq!(again.to_string(), "there is a token \"ci\" already");
    let known = register.look_up(&made.text, now).expect("known");
    assert_eq!(known.record.grant, grant());
    drop(register);
    for file in std::fs::read_dir(folder.path()).expect("a folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
        let text = made.text.as_bytes();
        assert!(!bytes.windows(text.len()).any(|window| window == text));
        let secret = &text["havre_".len()..text.len() - 6];
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    let register = opened(folder.path());
    let known = register.look_up(&made.text, now).expect("still");
    assert!(!known.lost.is_cancelled());
    assert_eq!(register.tokens().len(), 1);
    register.revoke("ci").expect("revoked");
    assert!(known.lost.is_cancelled());
    let refused = register.look_up(&made.text, now).err();
    assert_eq!(refused, Some(Refused::Unknown));
    drop(register);
    let register = opened(folder.path());
    assert_eq!(
        register.look_up(&made.text, now).err(),
        Some(Refused::Unknown)
    );
    assert_eq!(
        register.look_up("havre_x", now).err(),
        Some(Refused::Malformed)
    );
    assert!(register.revoke(&made.record.id).is_err());
}

#[test]
fn a_token_expires_to_the_second_and_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = opened(folder.path());
    let now = SystemTime::now();
    let short = register
        .create(new("short", Some(HOUR)), now)
        .expect("made");
    register
        .create(new("long", Some(2 * HOUR)), now)
        .expect("made");
    let before = now + HOUR - Duration::from_secs(1);
    let known = register.look_up(&short.text, before).expect("in time");
    assert_eq!(
        register.expire_at(before).expect("looked at"),
        Some(now + HOUR)
    );
    assert!(!known.lost.is_cancelled());
    let refused = register.look_up(&short.text, now + HOUR).err();
    assert_eq!(refused, Some(Refused::Expired));
    assert!(known.lost.is_cancelled());
    let next = register.expire_at(now + HOUR).expect("looked at");
    assert_eq!(next, Some(now + 2 * HOUR));
    let left: Vec<String> = register.tokens().into_iter().map(|one| one.name).collect();
    assert_eq!(left, ["long"]);
}

#[test]
fn use_is_known_to_the_hour() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = opened(folder.path());
    let now = SystemTime::UNIX_EPOCH + 1000 * HOUR;
    let made = register.create(new("ci", None), now).expect("made");
    let used = |at: SystemTime| {
        register.look_up(&made.text, at).expect("known");
        // What another daemon would read.
        let kept = register.tables.tokens().expect("readable");
        kept[0].1.last_used_at
    };
    assert_eq!(used(now), Some(now));
    assert_eq!(used(now + HOUR / 2), Some(now));
    assert_eq!(used(now + HOUR), Some(now + HOUR));
}

#[test]
fn who_is_no_longer_a_user_is_logged_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = opened(folder.path());
    let now = SystemTime::now();
    register.put_user(person("anna", "1234")).expect("entered");
    let twice = register
        .put_user(person("berta", "1234"))
        .expect_err("refused");
    assert!(matches!(twice, AccessError::UserExists(name) if name == "anna"));
    let of = |subject: &str| register.create(login(subject), now).expect("made");
    let (first, second, other) = (of("1234"), of("1234"), of("5678"));
    let known = register.look_up(&first.text, now).expect("known");
    let found = register.user_of("github", "1234").expect("entered");
    assert_eq!(found.name, "anna");
    assert_eq!(register.user_of("gitlab", "1234"), None);
    // A local user of that name is somebody else.
    assert_eq!(register.local_user("anna"), None);
    register.remove_user("anna").expect("removed");
    assert!(known.lost.is_cancelled());
    assert!(register.look_up(&second.text, now).is_err());
    register.look_up(&other.text, now).expect("somebody else");
    assert!(register.remove_user("anna").is_err());
    drop(register);
    let register = opened(folder.path());
    assert_eq!(register.users(), []);
    assert_eq!(register.tokens().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_expires_is_ended_without_a_look_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = Arc::new(opened(folder.path()));
    let now = SystemTime::now();
    let made = register
        .create(new("x", Some(Duration::ZERO)), now)
        .expect("made");
    let keeper = Arc::clone(&register);
    let task = tokio::spawn(async move { keeper.expire().await });
    let gone = async {
        while !register.tokens().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HOUR, gone).await.expect("forgotten");
    assert!(register.look_up(&made.text, now).is_err());
    task.abort();
}
