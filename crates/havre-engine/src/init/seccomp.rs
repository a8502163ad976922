//! Docker's default system call filter as a classic BPF program.
//!
//! Allowed calls are found by a binary search over ranges of numbers; a few compare an argument.
//! All else fails with EPERM; `clone3` with ENOSYS, so that C libraries fall back to `clone`,
//! whose flags a filter can see. Calls of 32-bit programs fail with ENOSYS (Docker allows them).

mod table;

use std::io;

use super::caps::CapSet;
use crate::sys;

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Filter(Vec<libc::sock_filter>);

/// What happens to one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Allow,
    /// Fails with this error.
    Errno(u16),
    /// Allowed while the first argument has none of these bits.
    WithoutBits(u32),
    /// Allowed unless the first argument equals this.
    Except(u32),
    /// Allowed for these first arguments (`personality`).
    Personality,
}

/// Namespace flags of `clone`.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
/// Address family for talking to a hypervisor's host.
const AF_VSOCK: u32 = 40;
/// Domains of `personality` that Docker allows: Linux, 32-bit Linux, each with UNAME26, query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

impl Filter {
    /// The filter for a process with these capabilities.
    pub fn new(caps: CapSet) -> Self {
        Self(assemble(&rules(caps)))
    }

    /// Installs it for this process for ever. Needs `CAP_SYS_ADMIN` or no_new_privs.
    pub fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: self.0.len() as u16,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the program lives through the call, the kernel copies it and writes nothing.
        sys::check(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            )
        })
    }
}

/// Sorted by number, without duplicates.
fn rules(caps: CapSet) -> Vec<(u32, Rule)> {
    let mut rules: Vec<(u32, Rule)> = table::ALWAYS
        .iter()
        .map(|nr| (*nr as u32, Rule::Allow))
        .collect();
    rules.push((libc::SYS_socket as u32, Rule::Except(AF_VSOCK)));
    rules.push((libc::SYS_personality as u32, Rule::Personality));
    for (cap, calls) in table::BY_CAPABILITY {
        if caps.has(cap) {
            rules.extend(calls.iter().map(|nr| (*nr as u32, Rule::Allow)));
        }
    }
    if !caps.has("SYS_ADMIN") {
        rules.push((libc::SYS_clone as u32, Rule::WithoutBits(NAMESPACE_FLAGS)));
        rules.push((libc::SYS_clone3 as u32, Rule::Errno(libc::ENOSYS as u16)));
    }
    rules.sort_by_key(|(nr, _)| *nr);
    rules.dedup();
    rules
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// Numbers from here belong to the x32 interface.
const X32_BIT: u32 = 0x4000_0000;

/// Offsets in the kernel's `struct seccomp_data` (little-endian: low halves first).
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_FIRST_ARG: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn assemble(rules: &[(u32, Rule)]) -> Vec<libc::sock_filter> {
    let mut code = vec![
        op(LOAD, 0, 0, OFFSET_ARCH),
        op(JUMP_EQUAL, 1, 0, AUDIT_ARCH),
        op(RETURN, 0, 0, errno(libc::ENOSYS)),
        op(LOAD, 0, 0, OFFSET_NR),
        op(JUMP_AT_LEAST, 0, 1, X32_BIT),
        op(RETURN, 0, 0, errno(libc::ENOSYS)),
    ];
    search(&ranges(rules), &mut code);
    code
}

/// A gapless partition of all numbers: each entry applies from its number to the next one's.
fn ranges(rules: &[(u32, Rule)]) -> Vec<(u32, Option<Rule>)> {
    let mut ranges: Vec<(u32, Option<Rule>)> = vec![(0, None)];
    let mut push = |from: u32, rule: Option<Rule>| match ranges.last_mut() {
        Some(last) if last.1 == rule => {}
        Some(last) if last.0 == from => last.1 = rule,
        _ => ranges.push((from, rule)),
    };
    for (index, (nr, rule)) in rules.iter().enumerate() {
        push(*nr, Some(*rule));
        if rules.get(index + 1).is_none_or(|(next, _)| *next != nr + 1) {
            push(nr + 1, None);
        }
    }
    ranges
}

/// Appends a binary search; the accumulator holds the call's number.
fn search(ranges: &[(u32, Option<Rule>)], code: &mut Vec<libc::sock_filter>) {
    if let [(_, rule)] = ranges {
        code.extend(leaf(*rule));
        return;
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let mut below = Vec::new();
    search(low, &mut below);
    // Conditional jumps reach 255 instructions, hence the unconditional one.
    code.push(op(JUMP_AT_LEAST, 0, 1, high[0].0));
    code.push(op(JUMP, 0, 0, below.len() as u32));
    code.append(&mut below);
    search(high, code);
}

fn leaf(rule: Option<Rule>) -> Vec<libc::sock_filter> {
    let deny = op(RETURN, 0, 0, errno(libc::EPERM));
    let allow = op(RETURN, 0, 0, ALLOW);
    let argument = op(LOAD, 0, 0, OFFSET_FIRST_ARG);
    match rule {
        None => vec![deny],
        Some(Rule::Allow) => vec![allow],
        Some(Rule::Errno(number)) => vec![op(RETURN, 0, 0, errno(i32::from(number)))],
        Some(Rule::WithoutBits(bits)) => vec![argument, op(JUMP_ANY_BIT, 0, 1, bits), deny, allow],
        Some(Rule::Except(value)) => vec![argument, op(JUMP_EQUAL, 0, 1, value), deny, allow],
        Some(Rule::Personality) => {
            let mut code = vec![argument];
            let count = PERSONALITIES.len();
            for (index, value) in PERSONALITIES.iter().enumerate() {
                code.push(op(JUMP_EQUAL, (count - index) as u8, 0, *value));
            }
            code.extend([deny, allow]);
            code
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Security;

    /// Runs the program as the kernel would.
    fn run(filter: &Filter, arch: u32, nr: u32, argument: u32) -> u32 {
        let (mut at, mut acc) = (0, 0);
        loop {
            let i = filter.0[at];
            at += 1;
            let taken = match i.code {
                LOAD => {
                    acc = match i.k {
                        OFFSET_ARCH => arch,
                        OFFSET_NR => nr,
                        _ => argument,
                    };
                    continue;
                }
                RETURN => return i.k,
                JUMP => {
                    at += i.k as usize;
                    continue;
                }
                JUMP_EQUAL => acc == i.k,
                JUMP_AT_LEAST => acc >= i.k,
                JUMP_ANY_BIT => acc & i.k != 0,
                other => panic!("instruction {other:#x}"),
            };
            at += usize::from(if taken { i.jt } else { i.jf });
        }
    }

    fn filter(add: &[&str]) -> Filter {
        let cap_add = add.iter().map(|s| (*s).to_owned()).collect();
        let security = Security {
            cap_add,
            ..Security::default()
        };
        Filter::new(CapSet::of(&security).expect("known names"))
    }

    #[test]
    fn every_number_gets_its_rule() {
        let security = Security::default();
        let caps = CapSet::of(&security).expect("known names");
        let rules = rules(caps);
        let filter = Filter::new(caps);
        for nr in 0..1000 {
            let rule = rules.iter().find(|(n, _)| *n == nr).map(|(_, r)| *r);
            let expected = match rule {
                None => errno(libc::EPERM),
                Some(Rule::Errno(number)) => errno(i32::from(number)),
                Some(_) => ALLOW,
            };
            assert_eq!(run(&filter, AUDIT_ARCH, nr, 0), expected, "call {nr}");
        }
    }

    #[test]
    fn arguments_decide() {
        let filter = filter(&[]);
        let call = |nr: i64, argument| run(&filter, AUDIT_ARCH, nr as u32, argument);
        assert_eq!(call(libc::SYS_clone, libc::SIGCHLD as u32), ALLOW);
        assert_eq!(
            call(libc::SYS_clone, libc::CLONE_NEWUSER as u32),
            errno(libc::EPERM)
        );
        assert_eq!(call(libc::SYS_socket, AF_VSOCK), errno(libc::EPERM));
        assert_eq!(call(libc::SYS_socket, libc::AF_INET as u32), ALLOW);
        for value in PERSONALITIES {
            assert_eq!(call(libc::SYS_personality, value), ALLOW);
        }
        assert_eq!(call(libc::SYS_personality, 0x0040_0000), errno(libc::EPERM));
    }

    #[test]
    fn capabilities_open_calls() {
        let (plain, admin) = (filter(&[]), filter(&["SYS_ADMIN"]));
        let mount = libc::SYS_mount as u32;
        assert_eq!(run(&plain, AUDIT_ARCH, mount, 0), errno(libc::EPERM));
        assert_eq!(run(&admin, AUDIT_ARCH, mount, 0), ALLOW);
        let clone3 = libc::SYS_clone3 as u32;
        assert_eq!(run(&plain, AUDIT_ARCH, clone3, 0), errno(libc::ENOSYS));
        assert_eq!(run(&admin, AUDIT_ARCH, clone3, 0), ALLOW);
        let chroot = libc::SYS_chroot as u32;
        assert_eq!(run(&plain, AUDIT_ARCH, chroot, 0), ALLOW);
    }

    #[test]
    fn other_interfaces_do_not_exist() {
        let filter = filter(&[]);
        assert_eq!(run(&filter, 0x4000_0003, 1, 0), errno(libc::ENOSYS));
        assert_eq!(run(&filter, AUDIT_ARCH, X32_BIT, 0), errno(libc::ENOSYS));
    }
}
