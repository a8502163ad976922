//! Tokens and users over a real database.

use std::path::Path;

use havre_model::grant::Role;

use super::*;
use crate::tables::SCHEMA;

const HOUR: Duration = Duration::from_secs(3600);

fn opened(folder: &Path) -> Register {
    Register::open(store(folder)).expect("readable")
}

fn store(folder: &Path) -> Arc<Store> {
    let store = Store::open(&folder.join("state.db"), &[SCHEMA]);
    Arc::new(store.expect("a database"))
}

/// A register whose database removes no token, and takes all else.
fn stuck(folder: &Path) -> Register {
    let store = store(folder);
    let trigger = "CREATE TRIGGER stuck BEFORE DELETE ON access_tokens \
                   BEGIN SELECT RAISE(ABORT, 'stuck'); END";
    let stuck = store.run("be stuck", move |db| db.execute_batch(trigger));
    stuck.expect("stuck");
    Register::open(store).expect("readable")
}

/// Its database removes tokens again.
fn heal(register: &Register) {
    let heal = |db: &mut havre_store::rusqlite::Connection| db.execute_batch("DROP TRIGGER stuck");
    register.tables.store().run("heal", heal).expect("healed");
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
    let looked = |at| {
        let (next, forgotten) = register.expire_at(at);
        forgotten.expect("written down");
        next
    };
    assert_eq!(looked(before), Some(now + HOUR));
    assert!(!known.lost.is_cancelled());
    let refused = register.look_up(&short.text, now + HOUR).err();
    assert_eq!(refused, Some(Refused::Expired));
    assert!(known.lost.is_cancelled());
    assert_eq!(looked(now + HOUR), Some(now + 2 * HOUR));
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

#[test]
fn a_person_is_removed_with_their_logins_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = stuck(folder.path());
    let now = SystemTime::now();
    register.put_user(person("anna", "1234")).expect("entered");
    let made = register.create(login("1234"), now).expect("made");
    let less = User {
        grant: Grant::nothing(),
        ..person("anna", "1234")
    };
    for failed in [
        register.remove_user("anna").map(drop),
        register.put_user(less),
    ] {
        assert!(matches!(failed, Err(AccessError::Store(_))), "{failed:?}");
        let known = register.look_up(&made.text, now).expect("still");
        assert!(!known.lost.is_cancelled());
        assert_eq!(register.users(), [person("anna", "1234")]);
        // What the next daemon reads.
        let kept = register.tables.users().expect("readable");
        assert_eq!(kept, [person("anna", "1234")]);
    }
}

#[test]
fn what_expires_ends_though_it_cannot_be_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = stuck(folder.path());
    let now = SystemTime::now();
    let of = |name, lifetime| {
        register
            .create(new(name, Some(lifetime)), now)
            .expect("made")
    };
    let (short, long) = (of("short", HOUR), of("long", 2 * HOUR));
    let lost = |one: &Issued| {
        register
            .lost(&one.record.id)
            .expect("listed")
            .is_cancelled()
    };
    let (next, forgotten) = register.expire_at(now + HOUR);
    forgotten.expect_err("stuck");
    assert_eq!(next, Some(now + 2 * HOUR));
    assert!(lost(&short) && !lost(&long));
    let (next, _) = register.expire_at(now + 2 * HOUR);
    assert_eq!(next, None);
    assert!(lost(&long));
}

#[test]
fn what_is_revoked_lets_nobody_in_though_it_cannot_be_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = stuck(folder.path());
    let now = SystemTime::now();
    let made = register.create(new("ci", None), now).expect("made");
    let known = register.look_up(&made.text, now).expect("known");
    // By its name, and once more by its number.
    for named in ["ci", &made.record.id] {
        let told = register.revoke(named).expect_err("stuck");
        assert!(
            matches!(&told, AccessError::Unwritten { name, .. } if name == "ci"),
            "{told:?}"
        );
        assert!(known.lost.is_cancelled());
        let refused = register.look_up(&made.text, now).err();
        assert_eq!(refused, Some(Refused::Unknown));
        assert_eq!(register.tokens(), []);
        // What the next daemon reads.
        assert_eq!(register.tables.tokens().expect("readable").len(), 1);
    }
    heal(&register);
    assert_eq!(register.revoke("ci").expect("written down").name, "ci");
    assert!(register.tables.tokens().expect("readable").is_empty());
    assert!(matches!(
        register.revoke("ci"),
        Err(AccessError::NoToken(_))
    ));
}

#[test]
fn what_was_revoked_is_removed_once_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = stuck(folder.path());
    let now = SystemTime::now();
    let make = |name| register.create(new(name, None), now).expect("made");
    make("ci");
    register.revoke("ci").expect_err("stuck");
    register.expire_at(now).1.expect_err("stuck still");
    // The name is free: the next token of that name is another.
    let next = make("ci");
    heal(&register);
    register.expire_at(now).1.expect("written down");
    let kept = register.tables.tokens().expect("readable");
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].1.id, next.record.id);
    register.look_up(&next.text, now).expect("another");
}

#[test]
fn who_logs_in_again_and_again_ends_their_own_oldest_login_and_stops_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = opened(folder.path());
    let now = SystemTime::now();
    let of = |subject: &str, n: u32| {
        let made = register.create(login(subject), now + Duration::from_secs(n.into()));
        made.expect("made")
    };
    let other = of("5678", 0);
    let all: Vec<Issued> = (0..22).map(|n| of("1234", n)).collect();
    let holds = |one: &Issued| register.look_up(&one.text, now).is_ok();
    let held: Vec<bool> = all.iter().map(holds).collect();
    assert!(!held[0] && !held[1] && held[2..].iter().all(|held| *held));
    assert!(holds(&other));
    drop(register);
    assert_eq!(opened(folder.path()).tokens().len(), 21);
}

#[test]
fn logins_leave_room_for_tokens() {
    let mut state = State::default();
    let record = |n: usize, holder| TokenRecord {
        id: n.to_string(),
        name: n.to_string(),
        holder,
        grant: grant(),
        created_at: SystemTime::UNIX_EPOCH,
        created_by: String::new(),
        expires_at: None,
        last_used_at: None,
    };
    let holder = |n: usize| login(&n.to_string()).holder;
    for n in 0..MOST_LOGINS {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        state.insert(hash, record(n, holder(n)));
    }
    let refused = state.room_for(&record(MOST_LOGINS, holder(MOST_LOGINS)));
    assert!(matches!(refused, Err(AccessError::Full(_))));
    let token = state.room_for(&record(MOST_LOGINS, Holder::Token));
    assert_eq!(token.expect("room"), Vec::<Key>::new());
}

#[test]
fn a_token_that_would_outlive_all_calendars_is_not_one_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = opened(folder.path());
    let made = register.create(new("ci", Some(Duration::MAX)), SystemTime::now());
    assert!(matches!(made.err(), Some(AccessError::Lifetime)));
    assert_eq!(register.tokens(), []);
}

#[test]
fn who_is_removed_while_they_log_in_is_not_let_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let register = opened(folder.path());
    let now = SystemTime::now();
    register.put_user(person("anna", "1234")).expect("entered");
    let found = register.user_of("github", "1234").expect("entered");
    let made = register.create_for(&found, login("1234"), now);
    made.expect("entered still");
    let less = User {
        grant: Grant::nothing(),
        ..person("anna", "1234")
    };
    register.put_user(less).expect("changed");
    let refused = register.create_for(&found, login("1234"), now).err();
    assert!(matches!(refused, Some(AccessError::UserChanged(_))));
    register.remove_user("anna").expect("removed");
    let refused = register.create_for(&found, login("1234"), now).err();
    assert!(matches!(refused, Some(AccessError::UserChanged(_))));
    assert_eq!(register.tokens(), []);
}

#[test]
fn a_token_that_is_called_as_another_is_numbered_stays() {
    // Which of two came first in a map was chance.
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        let register = opened(folder.path());
        let now = SystemTime::now();
        let meant = register.create(new("ci", None), now).expect("made").record;
        let other = register.create(new(&meant.id, None), now).expect("made");
        assert_eq!(register.revoke(&meant.id).expect("revoked").id, meant.id);
        register.look_up(&other.text, now).expect("another");
    }
}
