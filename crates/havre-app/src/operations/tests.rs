//! Operations on FAKES: what they ask of a target, and what they answer.

mod conflicts;
mod down;
mod ends;
mod fakes;
mod networks;
mod numbers;
mod promotions;
mod rollback;
mod rotation;
mod secret_uses;
mod steer;
mod up;

use std::collections::BTreeSet;

use havre_release::Intent;

use super::fate_of_volumes;

#[test]
fn a_volume_counts_as_removed_where_that_was_carried_out() {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = || BTreeSet::from(["data".to_owned(), "uploads".to_owned()]);
    let remove_volumes = all();
    let down = Intent::Down { remove_volumes };
    let fate = fate_of_volumes(all(), &down, |name| name == "data");
    assert_eq!(fate, (names(&["uploads"]), names(&["data"])));
    // A later `down` without `--volumes` was the last word.
    let spare = Intent::Down {
        remove_volumes: BTreeSet::new(),
    };
    let fate = fate_of_volumes(all(), &spare, |_| false);
    assert_eq!(fate, (names(&[]), names(&["data", "uploads"])));
    // One of before, whose release this `down` has not seen.
    let fate = fate_of_volumes(BTreeSet::new(), &down, |_| false);
    assert_eq!(fate, (names(&["data", "uploads"]), names(&[])));
}
