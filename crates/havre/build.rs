//! Links the binary for one address.
//!
//! Ten and more processes of one machine run this binary. Position-independent, each of them begins
//! by writing the addresses of all its tables into memory of its own: 0.9 MB each, most of what an
//! idle shim holds. At a fixed address these tables are pages of the file, and shared by all.
//! Stack, heap, libraries and mappings are at random addresses as before; SECURITY.md says what
//! that leaves.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
