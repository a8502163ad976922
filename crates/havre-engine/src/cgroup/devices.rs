//! The device rules of a container: an eBPF program on version 2, `devices.allow` on version 1.
//!
//! Everything may be made by mknod, only harmless devices opened: without this, a container's
//! `CAP_MKNOD` would reach the host's disks.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::devices::{Kind, MAKE, READ, Rule, WRITE};

/// Character devices that may be read and written; `None`: each minor.
const OPEN: [(u32, Option<u32>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pseudo-terminals
];

/// Lines for `devices.allow`: what every container may, and `more`.
pub fn v1_rules(more: &[Rule]) -> Vec<String> {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
    let mut rules = vec!["c *:* m".to_owned(), "b *:* m".to_owned()];
    for (major, minor) in OPEN {
        rules.push(format!("c {major}:{} rwm", number(minor)));
    }
    for rule in more {
        let letters = [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')];
        let access: String = letters
            .into_iter()
            .filter(|(bit, _)| rule.access & bit != 0)
            .map(|(_, letter)| letter)
            .collect();
        let (major, minor) = (number(rule.major), number(rule.minor));
        // A line for both kinds would mean every device, whatever its numbers.
        for (kind, letter) in [(Kind::Char, 'c'), (Kind::Block, 'b')] {
            if rule.kind.is_none_or(|wanted| wanted == kind) {
                rules.push(format!("{letter} {major}:{minor} {access}"));
            }
        }
    }
    rules
}

/// Loads the program and attaches it to an open version 2 group; it goes with the group.
/// Replaces nothing: attaching a second time to the same group is harmless, both must allow.
pub fn attach(cgroup: BorrowedFd, more: &[Rule]) -> io::Result<()> {
    let program = load(&program(more))?;
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attr).map(drop)
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// One instruction: opcode, registers (source << 4 | destination), jump offset, constant.
type Instruction = (u8, u8, i16, i32);

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const MOVE: u8 = 0xb7;
const EXIT: u8 = 0x95;
const MOVE_REGISTER: u8 = 0xbf;

/// Kernel's numbers in `access_type`: kind in the low half, access in the high half.
const KIND_BLOCK: i32 = 1;
const KIND_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = MAKE as i32;

/// r2 = kind, r3 = access, r4 = major, r5 = minor; returns 1 to allow.
fn program(more: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        (LOAD_WORD, 0x12, 0, 0),
        (MOVE_REGISTER, 0x23, 0, 0),
        (AND, 0x02, 0, 0xffff),
        (SHIFT_RIGHT, 0x03, 0, 16),
        (LOAD_WORD, 0x14, 4, 0),
        (LOAD_WORD, 0x15, 8, 0),
        // mknod alone: allowed for each device.
        (JUMP_NOT_EQUAL, 0x03, 2, ACCESS_MKNOD),
        (MOVE, 0x00, 0, 1),
        (EXIT, 0x00, 0, 0),
    ];
    code.extend(more.iter().flat_map(further));
    code.extend([
        // Anything else only on character devices.
        (JUMP_EQUAL, 0x02, 2, KIND_CHAR),
        (MOVE, 0x00, 0, 0),
        (EXIT, 0x00, 0, 0),
    ]);
    for (major, minor) in OPEN {
        match minor {
            Some(minor) => {
                code.push((JUMP_NOT_EQUAL, 0x04, 3, major as i32));
                code.push((JUMP_NOT_EQUAL, 0x05, 2, minor as i32));
            }
            None => code.push((JUMP_NOT_EQUAL, 0x04, 2, major as i32)),
        }
        code.push((MOVE, 0x00, 0, 1));
        code.push((EXIT, 0x00, 0, 0));
    }
    code.push((MOVE, 0x00, 0, 0));
    code.push((EXIT, 0x00, 0, 0));
    code
}

/// Allows what a rule names, and goes on otherwise. r1 is free by now.
fn further(rule: &Rule) -> Vec<Instruction> {
    let kind = rule.kind.map(|kind| match kind {
        Kind::Block => KIND_BLOCK,
        Kind::Char => KIND_CHAR,
    });
    let mut conditions: Vec<(u8, i32)> = Vec::new();
    conditions.extend(kind.map(|kind| (0x02, kind)));
    conditions.extend(rule.major.map(|major| (0x04, major as i32)));
    conditions.extend(rule.minor.map(|minor| (0x05, minor as i32)));
    // What is left of the access beyond what the rule gives must be nothing.
    let rest = [
        (MOVE_REGISTER, 0x31, 0, 0),
        (AND, 0x01, 0, !i32::from(rule.access)),
        (JUMP_NOT_EQUAL, 0x01, 2, 0),
        (MOVE, 0x00, 0, 1),
        (EXIT, 0x00, 0, 0),
    ];
    let after = (conditions.len() + rest.len()) as i16;
    let jumps = conditions.into_iter().enumerate();
    jumps
        .map(|(at, (register, value))| (JUMP_NOT_EQUAL, register, after - 1 - at as i16, value))
        .chain(rest)
        .collect()
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let code: Vec<u8> = program
        .iter()
        .flat_map(|(op, registers, offset, constant)| {
            let mut bytes = [*op, *registers, 0, 0, 0, 0, 0, 0];
            bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
            bytes[4..].copy_from_slice(&constant.to_ne_bytes());
            bytes
        })
        .collect();
    let attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"".as_ptr() as u64,
        rest: [0; 6],
    };
    let fd = bpf(BPF_PROG_LOAD, &attr)?;
    // SAFETY: the kernel returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    rest: [u64; 6],
}

#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<i64> {
    // SAFETY: attr is a prefix of the kernel's union for this command, its pointers live through
    // the call, and the kernel is told its size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attr, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
