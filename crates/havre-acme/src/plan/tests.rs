//! Single decisions as a table, and whole years by properties.

use proptest::prelude::*;

use super::*;
use crate::ari::Ari;
use crate::record::Wait;
use crate::simulation::{self, Scenario};

const DAY: i64 = 24 * 3600;

fn name() -> Name {
    Name::parse("a.havre.dev").unwrap()
}

fn authority(name: &str) -> Authority {
    Authority {
        name: name.to_owned(),
        rests_until: None,
        has_ari: true,
    }
}

fn world(names: &[&str]) -> World {
    World {
        authorities: names.iter().map(|name| authority(name)).collect(),
        started: Moment(0),
    }
}

/// Of 90 days from 0 on, by `a`, whose window was asked for and is not known.
fn held() -> Held {
    Held {
        id: "k.1".to_owned(),
        source: Source::Authority("a".to_owned()),
        from: Moment(0),
        until: Moment(90 * DAY),
        since: Moment(3600),
        ari: None,
        next_look: Moment(i64::MAX),
    }
}

fn window(start: i64, end: i64, moment: i64) -> Option<Ari> {
    Some(Ari {
        start: Moment(start),
        end: Moment(end),
        moment: Moment(moment),
        explanation: None,
    })
}

fn record(held: Held) -> Record {
    Record {
        certificate: Some(held),
        ..Record::default()
    }
}

fn step(record: &Record, world: &World, now: i64) -> Step {
    next(&name(), record, world, Moment(now))
}

fn order(authority: &str, replaces: Option<&str>) -> Step {
    Step::Order {
        authority: authority.to_owned(),
        replaces: replaces.map(ToOwned::to_owned),
    }
}

#[test]
fn a_name_without_a_certificate_gets_one_from_the_first_who_can() {
    let mut world = world(&["a", "b"]);
    assert_eq!(step(&Record::default(), &world, 5), order("a", None));
    world.authorities[0].rests_until = Some(Moment(100));
    assert_eq!(step(&Record::default(), &world, 5), order("b", None));
    let mut refused = Record::default();
    let until = Moment(50);
    let wait = Wait {
        failures: 1,
        until,
        told: false,
    };
    refused.attempts.refused.insert("b".to_owned(), wait);
    assert_eq!(step(&refused, &world, 5), Step::Wait(Moment(50)));
    refused.attempts.pause = Some(Moment(70));
    assert_eq!(step(&refused, &world, 5), Step::Wait(Moment(70)));
    let nobody = World::default();
    assert_eq!(
        step(&Record::default(), &nobody, 0),
        Step::Wait(Moment(DAY))
    );
}

#[test]
fn it_is_replaced_when_its_authority_says_and_else_by_its_life() {
    let world = world(&["a", "b"]);
    let by_life = record(held());
    let decided = due(&name(), &by_life, &world);
    assert_eq!(decided.by, By::Lifetime);
    assert!((60 * DAY..=63 * DAY).contains(&decided.at.0), "{decided:?}");
    assert!(matches!(step(&by_life, &world, 59 * DAY), Step::Wait(_)));
    assert_eq!(step(&by_life, &world, 64 * DAY), order("a", Some("k.1")));

    for (ari, expected) in [
        (
            window(50 * DAY, 52 * DAY, 51 * DAY),
            (51 * DAY, By::Authority),
        ),
        // It has passed: at once, but not before the certificate is an hour old.
        (window(0, 10, 10), (7200, By::Authority)),
        // Beyond its life.
        (
            window(95 * DAY, 99 * DAY, 96 * DAY),
            (81 * DAY, By::Lifetime),
        ),
    ] {
        let told = record(Held { ari, ..held() });
        let due = due(&name(), &told, &world);
        assert_eq!((due.at.0, due.by), expected);
    }
    let short = Held {
        until: Moment(6 * DAY),
        ..held()
    };
    let due = due(&name(), &record(short), &world);
    assert!((3 * DAY..=3 * DAY + DAY / 4).contains(&due.at.0), "{due:?}");
}

#[test]
fn a_look_comes_before_an_order_and_a_broken_one_does_not_hold_it_up() {
    let world = world(&["a"]);
    let mut due = record(Held {
        next_look: Moment(64 * DAY),
        ..held()
    });
    let look = Step::Look {
        authority: "a".to_owned(),
        id: "k.1".to_owned(),
    };
    assert_eq!(step(&due, &world, 64 * DAY), look);
    // It failed, and comes again in six hours.
    due.certificate.as_mut().unwrap().next_look = Moment(64 * DAY + 21_600);
    assert_eq!(step(&due, &world, 64 * DAY + 1), order("a", Some("k.1")));
}

#[test]
fn another_authority_is_asked_when_the_end_is_near() {
    let mut world = world(&["b", "a"]);
    world.authorities[1].rests_until = Some(Moment(80 * DAY));
    let due = record(held());
    let waits = step(&due, &world, 64 * DAY);
    assert_eq!(waits, Step::Wait(Moment(80 * DAY)));
    assert_eq!(step(&due, &world, 70 * DAY), order("b", None));
    world.authorities[1].rests_until = None;
    assert_eq!(step(&due, &world, 70 * DAY), order("a", Some("k.1")));
}

#[test]
fn a_change_of_authorities_replaces_name_by_name() {
    let mut world = world(&["b"]);
    world.started = Moment(10 * DAY);
    let strange = record(held());
    let due = due(&name(), &strange, &world);
    assert_eq!(due.by, By::Settings);
    assert!((10 * DAY..=10 * DAY + 600).contains(&due.at.0), "{due:?}");
    assert_eq!(step(&strange, &world, 10 * DAY + 601), order("b", None));
}

#[test]
fn what_a_person_brought_or_asks_for() {
    let world = world(&["a"]);
    let brought = record(Held {
        source: Source::Imported,
        next_look: Moment(0),
        ..held()
    });
    assert_eq!(
        step(&brought, &world, 80 * DAY),
        Step::Wait(Moment(87 * DAY))
    );
    assert_eq!(step(&brought, &world, 87 * DAY), order("a", None));
    let mut asked = record(held());
    asked.attempts.ask(Moment(2 * DAY));
    assert_eq!(due(&name(), &asked, &world).by, By::Person);
    assert_eq!(step(&asked, &world, 2 * DAY), order("a", Some("k.1")));
}

#[test]
fn after_a_long_stop_names_come_one_after_the_other() {
    let mut world = world(&["a"]);
    world.started = Moment(70 * DAY);
    let at = |text: &str| {
        let name = Name::parse(text).unwrap();
        due(&name, &record(held()), &world).at.0
    };
    let times: Vec<i64> = (0..50).map(|it| at(&format!("n{it}.havre.dev"))).collect();
    let spread = times.iter().max().unwrap() - times.iter().min().unwrap();
    assert!(spread > 300, "{times:?}");
    assert!(
        times
            .iter()
            .all(|at| (70 * DAY..=70 * DAY + 600).contains(at))
    );
    // One whose end is near does not wait.
    world.started = Moment(90 * DAY - 3600);
    let due = due(&name(), &record(held()), &world);
    assert!(due.at < world.started);
}

fn calm(life_days: u64, ari: bool) -> Scenario {
    Scenario {
        names: 50,
        days: 365,
        life: Duration::from_secs(life_days * 24 * 3600),
        ari,
        outages: Vec::new(),
        stops: Vec::new(),
        recall: None,
        failing: None,
        seed: 7,
    }
}

#[test]
fn a_year_without_a_needless_order() {
    // 90 days are renewed after 60: the first one and six more.
    for (scenario, issued) in [
        (calm(90, true), 350),
        (calm(90, false), 350),
        (calm(45, true), 50 * 13),
        (calm(6, false), 50 * 120),
    ] {
        let outcome = simulation::run(&scenario);
        assert_eq!((outcome.needless, outcome.lapsed), (0, 0), "{outcome:?}");
        let most = issued + issued / 20;
        assert!(
            (issued - 50..=most).contains(&outcome.issued),
            "{outcome:?}"
        );
    }
    let short = Scenario {
        days: 70,
        ..calm(90, true)
    };
    assert_eq!(simulation::run(&short).issued, 100);
    let recalled = Scenario {
        recall: Some(65.0),
        ..short
    };
    let outcome = simulation::run(&recalled);
    // The names of two digits have an odd length.
    let expected = (140, 0, 0);
    let counted = (outcome.issued, outcome.needless, outcome.lapsed);
    assert_eq!(counted, expected, "{outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Whatever fails for up to a week, nobody is left without and nothing is ordered twice.
    #[test]
    fn outages_and_stops_cost_no_name_and_no_storm(
        seed in any::<u64>(),
        life in 20_u64..400,
        ari in any::<bool>(),
        outage in 5.0_f64..300.0,
        lasts in 0.01_f64..0.2,
        stop in 5.0_f64..300.0,
        away in 0.01_f64..0.2,
        failing in prop::option::of(4_u64..20),
        recall in prop::option::of(10.0_f64..300.0),
    ) {
        let life_days = life as f64;
        let scenario = Scenario {
            names: 20,
            outages: vec![outage..outage + lasts * life_days],
            stops: vec![stop..stop + away * life_days / 4.0],
            failing,
            recall,
            seed,
            ..calm(life, ari)
        };
        let outcome = simulation::run(&scenario);
        prop_assert_eq!(outcome.needless, 0);
        prop_assert_eq!(outcome.lapsed, 0);
        // All at once, each with its failures within an hour, and no more than that.
        prop_assert!(outcome.busiest <= 20 * 5, "{:?}", outcome);
    }

    /// Planning goes on: after each step but an order the next one is later.
    #[test]
    fn every_wait_ends_later(
        now in 0_i64..200 * DAY,
        from in 0_i64..100 * DAY,
        life in 3600_i64..100 * DAY,
        ari in prop::option::of((0_i64..200 * DAY, 0_i64..30 * DAY, 0.0_f64..1.0)),
        look in 0_i64..200 * DAY,
        rests in prop::option::of(0_i64..200 * DAY),
        started in 0_i64..200 * DAY,
    ) {
        let ari = ari.map(|(start, length, chance)| {
            let window = crate::ari::Window {
                start: Moment(start),
                end: Moment(start + length),
                explanation: None,
            };
            crate::ari::learn(None, window, Moment(now), chance)
        });
        let held = Held {
            from: Moment(from),
            until: Moment(from + life),
            since: Moment(from),
            ari,
            next_look: Moment(look),
            ..held()
        };
        let mut world = world(&["a", "b"]);
        world.started = Moment(started);
        world.authorities[0].rests_until = rests.map(Moment);
        if let Step::Wait(until) = step(&record(held), &world, now) {
            prop_assert!(until > Moment(now));
        }
    }
}
