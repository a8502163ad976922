//! What is kept of mirrors and of commits, over a restart.

use super::*;

fn opened(path: &std::path::Path) -> Tables {
    Tables::new(Arc::new(Store::open(path, &[SCHEMA]).unwrap()))
}

fn shop(way: Way) -> Mirror {
    Mirror {
        project: "shop".to_owned(),
        way,
        url: "https://github.com/acme/shop.git".to_owned(),
        user: "x-access-token".to_owned(),
        token: Some("GITHUB".to_owned()),
        every: Duration::from_secs(300),
        api: Some("https://api.github.com".to_owned()),
        set_by: "anna".to_owned(),
        set_ms: 1,
        tries: Tries::default(),
    }
}

fn ci(state: State, changed_ms: i64) -> Word {
    Word {
        project: "shop".to_owned(),
        commit: "a".repeat(40),
        context: "havre / CI".to_owned(),
        state,
        description: state.word().to_owned(),
        target: None,
        changed_ms,
        fate: Fate::Waits,
        tries: 0,
        why: None,
        next_ms: changed_ms,
    }
}

#[test]
fn mirrors_stay_with_how_they_went() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let tables = opened(&path);
    tables.put(&shop(Way::From)).unwrap();
    tables.put(&shop(Way::To)).unwrap();
    let tries = Tries {
        tried_ms: Some(5),
        failures: 2,
        why: Some("it is gone".to_owned()),
        said: vec!["a".to_owned(), "b".to_owned()],
        next_ms: 9,
        ..Tries::default()
    };
    tables.tried(&shop(Way::From), &tries).unwrap();
    drop(tables);
    let tables = opened(&path);
    let all = tables.all().unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((&all[0].tries, &all[1]), (&tries, &shop(Way::To)));
    assert!(tables.hurry("shop", Way::From, 3).unwrap());
    assert!(tables.hurry("shop", Way::From, 7).unwrap());
    let next = |way| {
        tables
            .get("shop", way)
            .unwrap()
            .map(|one| one.tries.next_ms)
    };
    assert_eq!(next(Way::From), Some(3), "sooner, and never later");
    assert!(!tables.hurry("other", Way::From, 3).unwrap());

    // Asked for while it is under way.
    let begun = |next_ms| Mirror {
        tries: Tries {
            next_ms,
            ..Tries::default()
        },
        ..shop(Way::From)
    };
    tables.begin(&shop(Way::From), 500).unwrap();
    tables.tried(&begun(500), &tries).unwrap();
    assert_eq!(next(Way::From), Some(9));
    tables.begin(&shop(Way::From), 500).unwrap();
    assert!(tables.hurry("shop", Way::From, 4).unwrap());
    tables.tried(&begun(500), &tries).unwrap();
    assert_eq!(next(Way::From), Some(4), "it is tried again");

    // What was begun before it was set again does not say how that went.
    let again = Mirror {
        set_ms: 2,
        ..shop(Way::From)
    };
    tables.put(&again).unwrap();
    tables.tried(&shop(Way::From), &tries).unwrap();
    assert_eq!(tables.get("shop", Way::From).unwrap(), Some(again));
    assert!(tables.remove("shop", Way::From).unwrap());
    assert!(!tables.remove("shop", Way::From).unwrap());
    assert_eq!(next(Way::From), None);
}

#[test]
fn the_newest_word_of_a_commit_is_told_until_it_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let tables = opened(&folder.path().join("state.db"));
    tables.put(&shop(Way::From)).unwrap();
    assert!(tables.say(vec![ci(State::Pending, 10)]).unwrap());
    assert!(!tables.say(vec![ci(State::Pending, 10)]).unwrap());
    assert!(
        !tables.say(vec![ci(State::Failure, 9)]).unwrap(),
        "it is older"
    );
    assert!(tables.due(9, 10).unwrap().is_empty());
    let due = tables.due(10, 10).unwrap();
    assert_eq!(due, [ci(State::Pending, 10)]);

    // It changes while it is told.
    assert!(tables.say(vec![ci(State::Success, 20)]).unwrap());
    let heard = Word {
        fate: Fate::Told,
        ..ci(State::Pending, 10)
    };
    tables.told(&heard).unwrap();
    assert_eq!(tables.due(20, 10).unwrap(), [ci(State::Success, 20)]);
    let in_vain = Word {
        tries: 1,
        why: Some("503".to_owned()),
        next_ms: 99,
        ..ci(State::Success, 20)
    };
    tables.told(&in_vain).unwrap();
    assert_eq!(tables.next_due().unwrap(), Some(99));
    assert_eq!(tables.waiting("shop").unwrap(), (1, Some("503".to_owned())));
    tables
        .told(&Word {
            fate: Fate::Told,
            ..in_vain
        })
        .unwrap();
    assert_eq!(tables.waiting("shop").unwrap().0, 0);
    assert!(!tables.say(vec![ci(State::Success, 20)]).unwrap(), "once");

    assert!(tables.say(vec![ci(State::Failure, 30)]).unwrap());
    tables.remove("shop", Way::From).unwrap();
    assert_eq!(
        tables.next_due().unwrap(),
        None,
        "nobody is to hear it any more"
    );
}

#[test]
fn what_is_kept_of_commits_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let tables = opened(&folder.path().join("state.db"));
    let words = (0..i64::from(MOST_WORDS) + 10).map(|at| Word {
        commit: format!("{at:040}"),
        ..ci(State::Success, at)
    });
    tables.say(words.collect()).unwrap();
    let all = tables.due(i64::MAX, u32::MAX).unwrap();
    assert_eq!(all.len(), MOST_WORDS as usize);
    assert_eq!(all[0].changed_ms, 10, "the oldest went");
}
