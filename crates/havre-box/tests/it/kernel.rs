//! What the kernel counts for a user: a box takes it from nobody else.

use std::os::fd::AsFd as _;
use std::time::Instant;

use havre_box::{Heard, IDS};
use havre_job::Told;
use rustix::fs::inotify;

use crate::harness::{DEADLINE, Place, Test, host};

pub const TESTS: &[(&str, Test)] = &[
    ("a_box_takes_what_is_counted_for_users_from_nobody", |p| {
        Box::pin(watches(p))
    }),
    ("namespaces_of_boxes_are_their_own_users", |p| {
        Box::pin(owners(p))
    }),
];

/// Takes all instances of inotify that it gets, says how many, and keeps them.
const HOLD: &str = "python3 -c 'import ctypes, time
libc = ctypes.CDLL(None)
held = 0
while libc.inotify_init1(0) >= 0: held += 1
print(held, flush=True)
time.sleep(1000)'";

/// Starts a box, and waits for the number that it says first.
async fn said(place: &Place, id: &str, script: &str) -> u32 {
    place.boxes.start(host(id, script)).await.expect("started");
    let mut follow = place.boxes.follow(id).expect("there");
    let begun = Instant::now();
    loop {
        let heard = tokio::time::timeout(DEADLINE, follow.next()).await;
        match heard.expect("in time").expect("readable") {
            Some(Heard::Told(Told::Line { text, .. })) if text != "listening" => {
                return text.parse().expect("a number");
            }
            Some(Heard::Told(_)) if begun.elapsed() < DEADLINE => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn watches(place: &Place) {
    let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances");
    let most: u32 = most.expect("a limit").trim().parse().expect("a number");
    let most = most.min(1000);
    for id in ["b1", "b2"] {
        let held = said(place, id, HOLD).await;
        assert!(held * 10 > most * 9, "{id} holds {held} of {most}");
    }
    // As the resolver of the next network would; other tests run beside this.
    let own = (0..most / 4).map(|_| inotify::init(inotify::CreateFlags::CLOEXEC));
    let own: Result<Vec<_>, _> = own.collect();
    own.expect("root has what it had");
}

async fn owners(place: &Place) {
    let mut owners = Vec::new();
    for id in ["b1", "b2"] {
        said(place, id, "echo 1; exec sleep 1000").await;
        let observed = place.engine.containers().into_iter();
        let of = |it: &havre_engine::Observed| it.id.0 == format!("box.{id}");
        let observed = observed.into_iter().find(of).expect("it runs");
        let havre_engine::State::Running { pid, .. } = observed.state else {
            panic!("{observed:?}");
        };
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/user")).expect("its users");
        owners.push(owner(namespace.as_fd()));
    }
    assert_ne!(owners[0], owners[1]);
    for owner in owners {
        let behind = owner - IDS.first;
        assert!((1 << 16..1 << 17).contains(&behind), "{owner}");
    }
}

fn owner(namespace: std::os::fd::BorrowedFd<'_>) -> u32 {
    // SAFETY: NS_GET_OWNER_UID writes one number.
    unsafe {
        let ask = rustix::ioctl::Getter::<{ rustix::ioctl::opcode::none(0xb7, 4) }, u32>::new();
        rustix::ioctl::ioctl(namespace, ask).expect("an owner")
    }
}
