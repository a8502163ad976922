//! What builds leave behind stays within a budget, and nothing that is needed goes.

use std::time::Duration;

use havre_image::{Budget, Judged, Kind, PrunePolicy};

use super::support::Bench;
use crate::support::wait_until;

fn policy(ceiling: u64) -> PrunePolicy {
    PrunePolicy {
        older_than: Duration::ZERO,
        budget: Some(Budget {
            ceiling,
            ..Budget::NONE
        }),
        ..PrunePolicy::default()
    }
}

fn one<'a>(judged: &'a [Judged], kind: Kind, what: &str) -> &'a Judged {
    let mut found = judged
        .iter()
        .filter(|one| one.item.kind == kind && one.item.what.contains(what));
    found
        .next()
        .unwrap_or_else(|| panic!("{what} in {judged:#?}"))
}

#[test]
fn what_only_the_cache_keeps_goes_when_it_is_too_much() {
    let bench = Bench::with_base();
    let version = |n: u32| format!("FROM base:1\nRUN cat /bin/busybox > /{n}\nRUN touch /x{n}");
    bench.build(&version(1));
    // The name moves on; the layers of the first are the cache's only.
    bench.build(&version(2));
    let judged = bench.images.explain(&policy(1 << 30)).unwrap();
    let step = one(&judged, Kind::Step, "> /1");
    assert!(!step.removed && step.item.bytes > 100_000, "{step:?}");
    assert_eq!(step.why, "within the budget");
    assert!(step.item.what.starts_with("RUN cat"), "{step:?}");
    let image = one(&judged, Kind::Image, "built:1");
    assert!(
        !image.removed && image.why.starts_with("it has a name"),
        "{image:?}"
    );
    bench.images.prune(&policy(1 << 30)).unwrap();
    bench.build(&version(1));
    assert_eq!(bench.cached(), [true, true, true]);
    bench.build(&version(2));

    let judged = bench.images.explain(&policy(0)).unwrap();
    let step = one(&judged, Kind::Step, "> /1");
    assert!(step.removed, "{step:?}");
    assert_eq!(step.why, "the build cache takes more than 0 kB");
    let freed = bench.images.prune(&policy(0)).unwrap();
    assert!(freed.layers >= 2 && freed.bytes > 100_000, "{freed:?}");
    // What the image has stays in the cache and costs nothing more.
    bench.build(&version(2));
    assert_eq!(bench.cached(), [true, true, true]);
    bench.build(&version(1));
    assert_eq!(bench.cached(), [true, false, false]);
}

#[test]
fn cache_mounts_count_and_go_unless_a_step_has_them() {
    let bench = Bench::with_base();
    bench.build(
        "FROM base:1\nRUN --mount=type=cache,target=/c,id=packages cat /bin/busybox > /c/file",
    );
    let mounts = bench.dir.path().join("images/build-mounts");
    let judged = bench.images.explain(&policy(0)).unwrap();
    let mount = one(&judged, Kind::CacheMount, "cache mount packages");
    assert!(mount.removed && mount.item.bytes > 100_000, "{mount:?}");
    // A step has it.
    let folder = std::fs::File::open(mounts.join(&mount.item.id)).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockShared).unwrap();
    bench.images.prune(&policy(0)).unwrap();
    assert!(mounts.join(&mount.item.id).is_dir());
    drop(folder);
    let freed = bench.images.prune(&policy(0)).unwrap();
    assert!(freed.bytes > 100_000, "{freed:?}");
    assert_eq!(std::fs::read_dir(&mounts).unwrap().count(), 0);
    bench.build("FROM base:1\nRUN --mount=type=cache,target=/c,id=packages ls /c");
}

#[test]
fn what_a_held_image_was_built_from_stays() {
    let bench = Bench::with_base();
    let everything = PrunePolicy {
        older_than: Duration::ZERO,
        keep_build_cache: false,
        unused_names: true,
        budget: None,
    };
    // Also what only another stage started from.
    bench.image_of_layers("tools:1", 2);
    let image = bench.build(
        "FROM tools:1 AS tools\nRUN touch /made\nFROM base:1\nCOPY --from=tools /made /made",
    );
    bench.images.lease("shop/production", &[&image]).unwrap();
    // Names count their seconds, as the database has them.
    wait_until("the next second", || {
        let judged = bench.images.explain(&everything).unwrap();
        one(&judged, Kind::Step, "touch /made").removed
    });
    let judged = bench.images.explain(&everything).unwrap();
    for base in ["base:1", "tools:1"] {
        let base = one(&judged, Kind::Image, base);
        assert!(!base.removed, "{base:?}");
        assert_eq!(base.why, "built:1 was built from it");
    }
    assert_eq!(
        one(&judged, Kind::Image, "built:1").why,
        "used by shop/production"
    );
    assert!(bench.images.prune(&everything).unwrap().names.is_empty());
    let holders = |name: &str| {
        let image = bench.images.resolve(&name.parse().unwrap()).unwrap();
        let digest = image.unwrap().manifest_digest;
        bench.images.holders(&digest).unwrap()
    };
    assert_eq!(holders("built:1"), ["shop/production"]);
    assert_eq!(holders("tools:1"), [""; 0]);
    // Nobody runs it any more.
    bench.images.release("shop/production").unwrap();
    let names = bench.images.prune(&everything).unwrap().names;
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(bench.images.list().unwrap().is_empty());
    bench.images.prune(&everything).unwrap();
}
