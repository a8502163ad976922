//! What `docs/isolation.md` says, compared with a running container.

use std::collections::BTreeSet;
use std::fs;

use rustix::thread::CapabilitySet;

use crate::harness::{Sandbox, Test, logged, pid};

pub const TESTS: &[(&str, Test)] = &[("the_page_is_right", |p| Box::pin(the_page_is_right(p)))];

const PAGE: &str = include_str!("../../../../docs/isolation.md");

/// The words in code form between the marks of that name.
fn listed(name: &str) -> BTreeSet<String> {
    let (start, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let (_, rest) = PAGE.split_once(&start).expect("a mark");
    let (inside, _) = rest.split_once(&end).expect("its end");
    let words = inside.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

/// The last cell of the row of the first table that begins so.
fn cell(row: &str) -> &'static str {
    let line = PAGE
        .lines()
        .find(|line| line.starts_with(&format!("| {row} |")));
    let line = line.unwrap_or_else(|| panic!("no row {row}"));
    line.trim_end_matches(" |")
        .rsplit("| ")
        .next()
        .expect("a cell")
}

async fn the_page_is_right(place: &Sandbox) {
    let spec = place.spec("c1", "echo up; exec sleep 1000");
    place.start(&spec).await;
    logged(&spec, "up").await;
    let pid = pid(&place.engine().get(&spec.id).await.expect("known"));
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect(name);
    privileges(&read("status"), &read("uid_map"));
    mounts(&read("mountinfo"), pid);
    namespaces(pid);
    devices(pid);
}

fn privileges(status: &str, uid_map: &str) {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a field").trim().to_owned()
    };
    let set = |name: &str| {
        let bits = u64::from_str_radix(&field(name), 16).expect("a number");
        let names = CapabilitySet::from_bits_retain(bits).iter_names();
        names
            .map(|(name, _)| name.to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(listed("capabilities"), set("CapEff:"));
    assert_eq!(listed("capabilities"), set("CapBnd:"));
    assert!(set("CapInh:").is_empty() && set("CapAmb:").is_empty());
    assert_eq!(
        cell("capabilities"),
        format!("the same {}", set("CapEff:").len())
    );
    assert_eq!(field("Seccomp:"), "2", "{}", cell("system calls"));
    assert_eq!(field("NoNewPrivs:"), "0");
    assert!(cell("`no_new_privs`").starts_with("off;"));
    assert!(cell("user namespace").starts_with("none"));
    let same = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    // Unless this machine is itself a container in one.
    let own = fs::read_to_string("/proc/self/uid_map").expect("a map");
    assert!(same || uid_map == own, "{uid_map}");
}

/// Mount points by what covers them.
fn mounts(mountinfo: &str, pid: u32) {
    let (mut masked, mut read_only) = (BTreeSet::new(), BTreeSet::new());
    for line in mountinfo.lines() {
        let (left, right) = line.split_once(" - ").expect("two halves");
        let left: Vec<_> = left.split(' ').collect();
        let (point, options) = (left[4], left[5]);
        let kind = right.split(' ').next().expect("a kind");
        let of_kernel = point.starts_with("/proc/") || point.starts_with("/sys/");
        if !of_kernel || point.starts_with("/sys/fs/cgroup") {
            continue;
        }
        let is_ro = options.split(',').any(|option| option == "ro");
        match kind {
            "proc" if is_ro => read_only.insert(point.to_owned()),
            "tmpfs" => masked.insert(point.to_owned()),
            _ => panic!("unexpected: {line}"),
        };
    }
    let exists = |path: &String| {
        let inside = format!("/proc/{pid}/root{path}");
        fs::symlink_metadata(inside).is_ok()
    };
    let there = |name: &str| {
        listed(name)
            .into_iter()
            .filter(exists)
            .collect::<BTreeSet<_>>()
    };
    let (of_cpus, masked): (BTreeSet<_>, BTreeSet<_>) = masked
        .into_iter()
        .partition(|path| path.ends_with("/thermal_throttle"));
    assert_eq!(there("masked"), masked);
    assert_eq!(there("read-only"), read_only);
    assert!(PAGE.contains("`thermal_throttle` is covered for each processor"));
    let cpus = fs::read_dir("/sys/devices/system/cpu").expect("processors");
    let cpus = cpus.filter(|entry| {
        let path = entry.as_ref().expect("an entry").path();
        path.join("thermal_throttle").exists()
    });
    assert_eq!(of_cpus.len(), cpus.count());
    let count = format!(
        "{} and one per processor; {}",
        listed("masked").len(),
        listed("read-only").len()
    );
    let row = "| masked and read-only paths | ".to_owned() + &count + " | the same |";
    assert!(PAGE.contains(&row), "{row}");
    let shm = mountinfo.lines().find(|line| line.contains(" /dev/shm "));
    assert!(shm.expect("mounted").contains("size=65536k"));
    assert_eq!(cell("`/dev/shm`"), "64 MiB");
}

fn namespaces(pid: u32) {
    let of = |process: &str| {
        let dir = fs::read_dir(format!("/proc/{process}/ns")).expect("namespaces");
        dir.map(|entry| {
            let path = entry.expect("an entry").path();
            let id = fs::read_link(&path).expect("a link");
            (path.file_name().expect("a name").to_owned(), id)
        })
        .collect::<BTreeSet<_>>()
    };
    let (inside, outside) = (of(&pid.to_string()), of("self"));
    let own = inside
        .difference(&outside)
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .filter(|name| !name.ends_with("_for_children"))
        .collect();
    assert_eq!(listed("namespaces"), own);
}

fn devices(pid: u32) {
    use std::os::unix::fs::FileTypeExt as _;
    let dir = fs::read_dir(format!("/proc/{pid}/root/dev")).expect("devices");
    let found = dir
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| {
            let kind = entry.file_type().expect("a kind");
            kind.is_char_device() || kind.is_block_device()
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(listed("devices"), found);
    let figure = format!("{}, and terminals", found.len());
    assert!(PAGE.contains(&format!("| devices | {figure} | the same;")));
}
