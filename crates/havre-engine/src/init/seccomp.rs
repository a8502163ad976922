//! Docker's default system call filter.
//!
//! `clone3` fails with ENOSYS, so that C libraries fall back to `clone`, whose flags a filter can
//! see. Calls of 32-bit programs fail with ENOSYS (Docker allows them).

mod table;

use havre_confine::{Filter, Rule};

use super::caps::CapSet;

/// Namespace flags of `clone`.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
/// Address families that no container gets, as with Docker: the kernel's ciphers (AF_ALG), a large
/// surface that programs have libraries for, and the way to a hypervisor's host (AF_VSOCK).
const NO_FAMILIES: [u32; 2] = [38, 40];
/// Domains of `personality` that Docker allows: Linux, 32-bit Linux, each with UNAME26, query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The filter for a process with these capabilities.
pub fn filter(caps: CapSet) -> Filter {
    Filter::new(rules(caps))
}

/// What a process with these capabilities may call. The first rule for a number holds.
fn rules(caps: CapSet) -> Vec<(i64, Rule)> {
    let mut rules: Vec<(i64, Rule)> = table::ALWAYS.iter().map(|nr| (*nr, Rule::Allow)).collect();
    rules.push((libc::SYS_socket, Rule::Except(&NO_FAMILIES)));
    rules.push((libc::SYS_personality, Rule::Only(&PERSONALITIES)));
    for (cap, calls) in table::BY_CAPABILITY {
        if caps.has(cap) {
            rules.extend(calls.iter().map(|nr| (*nr, Rule::Allow)));
        }
    }
    if !caps.has("SYS_ADMIN") {
        rules.push((libc::SYS_clone, Rule::WithoutBits(NAMESPACE_FLAGS)));
        rules.push((libc::SYS_clone3, Rule::Errno(libc::ENOSYS as u16)));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Security;

    fn rule_of(add: &[&str], nr: i64) -> Option<Rule> {
        let cap_add = add.iter().map(|s| (*s).to_owned()).collect();
        let security = Security {
            cap_add,
            ..Security::default()
        };
        let rules = rules(CapSet::of(&security).expect("known names"));
        let of = |(number, rule): &(i64, Rule)| (*number == nr).then_some(*rule);
        let found: Vec<Rule> = rules.iter().filter_map(of).collect();
        assert!(
            found.iter().all(|rule| *rule == found[0]),
            "call {nr} has one rule: {found:?}"
        );
        found.first().copied()
    }

    #[test]
    fn capabilities_open_calls() {
        assert_eq!(rule_of(&[], libc::SYS_mount), None);
        assert_eq!(rule_of(&["SYS_ADMIN"], libc::SYS_mount), Some(Rule::Allow));
        let unseen = Rule::Errno(libc::ENOSYS as u16);
        assert_eq!(rule_of(&[], libc::SYS_clone3), Some(unseen));
        assert_eq!(rule_of(&["SYS_ADMIN"], libc::SYS_clone3), Some(Rule::Allow));
        assert_eq!(rule_of(&[], libc::SYS_chroot), Some(Rule::Allow));
    }

    #[test]
    fn no_number_has_two_rules() {
        for nr in 0..1000 {
            rule_of(&[], nr);
            rule_of(&["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN"], nr);
        }
    }

    #[test]
    fn namespaces_and_foreign_machines_are_out_of_reach() {
        let clone = Some(Rule::WithoutBits(NAMESPACE_FLAGS));
        assert_eq!(rule_of(&[], libc::SYS_clone), clone);
        assert_ne!(NAMESPACE_FLAGS & libc::CLONE_NEWUSER as u32, 0);
        assert_eq!(NAMESPACE_FLAGS & libc::SIGCHLD as u32, 0);
        let socket = Some(Rule::Except(&NO_FAMILIES));
        assert_eq!(rule_of(&[], libc::SYS_socket), socket);
        assert_eq!(rule_of(&["ALL"], libc::SYS_socket), socket);
        let refused = [libc::AF_ALG, libc::AF_VSOCK].map(|family| family as u32);
        assert_eq!(NO_FAMILIES, refused);
    }

    /// The figure and the list of the page that compares with Docker.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_page_is_right() {
        const PAGE: &str = include_str!("../../../../docs/isolation.md");
        let marked = |name: &str| {
            let (_, rest) = PAGE
                .split_once(&format!("<!-- {name} -->"))
                .expect("a mark");
            let (inside, _) = rest
                .split_once(&format!("<!-- /{name} -->"))
                .expect("an end");
            let words = inside.split('`').skip(1).step_by(2);
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let passes = |nr: i64| !matches!(rule_of(&[], nr), None | Some(Rule::Errno(_)));
        let count = (0..1000).filter(|nr| passes(*nr)).count();
        assert_eq!(marked("calls"), [count.to_string()]);
        let closed = [
            ("add_key", libc::SYS_add_key),
            ("bpf", libc::SYS_bpf),
            ("clone3", libc::SYS_clone3),
            ("finit_module", libc::SYS_finit_module),
            ("fsopen", libc::SYS_fsopen),
            ("init_module", libc::SYS_init_module),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("kcmp", libc::SYS_kcmp),
            ("kexec_load", libc::SYS_kexec_load),
            ("keyctl", libc::SYS_keyctl),
            ("mount", libc::SYS_mount),
            ("move_mount", libc::SYS_move_mount),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
            ("open_tree", libc::SYS_open_tree),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("pivot_root", libc::SYS_pivot_root),
            ("reboot", libc::SYS_reboot),
            ("request_key", libc::SYS_request_key),
            ("setns", libc::SYS_setns),
            ("swapon", libc::SYS_swapon),
            ("umount2", libc::SYS_umount2),
            ("unshare", libc::SYS_unshare),
            ("userfaultfd", libc::SYS_userfaultfd),
        ];
        assert_eq!(marked("closed"), closed.map(|(name, _)| name));
        for (name, nr) in closed {
            assert!(!passes(nr), "{name} is open");
        }
    }
}
