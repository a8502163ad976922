//! Links the binary for one address.
//!
//! Ten and more processes of one machine run this binary. Position-independent, each of them begins
//! by writing the addresses of all its tables into memory of its own: 0.9 MB each, most of what an
//! idle shim holds. At a fixed address these tables are pages of the file, and shared by all.
//! Stack, heap, libraries and mappings are at random addresses as before; SECURITY.md says what
//! that leaves.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    let mut cargo = io::stdout();
    writeln!(cargo, "cargo::rerun-if-changed=build.rs")?;
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|found| found == value);
    // Others choose what they link with by themselves.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        writeln!(cargo, "cargo::rustc-link-arg-bins=-no-pie")?;
    }
    Ok(())
}
