//! System call filters as classic BPF programs.
//!
//! What is allowed is found by a binary search over ranges of numbers; a few rules compare an
//! argument. All else fails with EPERM. Calls of other interfaces (32-bit, x32) fail with ENOSYS.

use std::io;

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Filter(Vec<libc::sock_filter>);

/// What happens to one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Allowed.
    Allow,
    /// Fails with this error.
    Errno(u16),
    /// Allowed while the first argument has none of these bits.
    WithoutBits(u32),
    /// Allowed while the first argument has one of these bits.
    WithBits(u32),
    /// Allowed unless the first argument is one of these.
    Except(&'static [u32]),
    /// Allowed for these first arguments.
    Only(&'static [u32]),
}

impl Filter {
    /// The filter of these rules, by number; all other calls are refused. Of two rules for one
    /// number the first holds.
    pub fn new(rules: impl IntoIterator<Item = (i64, Rule)>) -> Self {
        let mut rules: Vec<(u32, Rule)> = rules
            .into_iter()
            .map(|(number, rule)| (number as u32, rule))
            .collect();
        rules.sort_by_key(|(number, _)| *number);
        rules.dedup_by_key(|(number, _)| *number);
        Self(assemble(&rules))
    }

    /// Installs it for this thread, and those it starts, for ever. Needs `CAP_SYS_ADMIN` or
    /// no_new_privs.
    pub fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: self.0.len() as u16,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the program lives through the call, the kernel copies it and writes nothing.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
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
        Some(Rule::WithBits(bits)) => vec![argument, op(JUMP_ANY_BIT, 0, 1, bits), allow, deny],
        Some(Rule::Except(values)) => listed(values, deny, allow),
        Some(Rule::Only(values)) => listed(values, allow, deny),
    }
}

/// The first outcome where the first argument is one of `values`, or else the second.
fn listed(
    values: &[u32],
    found: libc::sock_filter,
    missing: libc::sock_filter,
) -> Vec<libc::sock_filter> {
    let mut code = vec![op(LOAD, 0, 0, OFFSET_FIRST_ARG)];
    for (index, value) in values.iter().enumerate() {
        // Past the comparisons that are left, and the outcome for what none of them finds.
        let to_found = (values.len() - index) as u8;
        code.push(op(JUMP_EQUAL, to_found, 0, *value));
    }
    code.extend([missing, found]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

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

    const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

    #[test]
    fn every_number_gets_its_rule() {
        // Far more rules than a conditional jump reaches, with gaps.
        let allowed: Vec<i64> = (0..900).filter(|nr| nr % 7 != 3).collect();
        let filter = Filter::new(allowed.iter().map(|nr| (*nr, Rule::Allow)));
        for nr in 0..1000 {
            let expected = match allowed.contains(&nr) {
                true => ALLOW,
                false => REFUSED,
            };
            assert_eq!(run(&filter, AUDIT_ARCH, nr as u32, 0), expected, "{nr}");
        }
    }

    #[test]
    fn arguments_decide() {
        let filter = Filter::new([
            (1, Rule::WithoutBits(6)),
            (2, Rule::WithBits(6)),
            (3, Rule::Except(&[40, 38])),
            (4, Rule::Only(&[2, 10])),
            (5, Rule::Errno(7)),
            (5, Rule::Allow),
        ]);
        for (nr, argument, expected) in [
            (1, 9, ALLOW),
            (1, 4, REFUSED),
            (2, 9, REFUSED),
            (2, 11, ALLOW),
            (3, 2, ALLOW),
            (3, 38, REFUSED),
            (3, 40, REFUSED),
            (4, 2, ALLOW),
            (4, 10, ALLOW),
            (4, 16, REFUSED),
            (5, 0, errno(7)),
            (6, 0, REFUSED),
        ] {
            let got = run(&filter, AUDIT_ARCH, nr, argument);
            assert_eq!(got, expected, "call {nr} of {argument}");
        }
    }

    #[test]
    fn other_interfaces_do_not_exist() {
        let filter = Filter::new([(1, Rule::Allow)]);
        assert_eq!(run(&filter, 0x4000_0003, 1, 0), errno(libc::ENOSYS));
        assert_eq!(run(&filter, AUDIT_ARCH, X32_BIT, 0), errno(libc::ENOSYS));
    }
}
