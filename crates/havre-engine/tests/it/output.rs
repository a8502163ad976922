//! Output, its spool and its readers.

use crate::harness::{Place, Test, logs};

pub const TESTS: &[(&str, Test)] = &[("long_lines", |p| Box::pin(long_lines(p)))];

async fn long_lines(place: &Place) {
    let spec = place.spec(
        "c1",
        "head -c 100000 /dev/zero | tr '\\0' x; echo; printf end",
    );
    let (exit, output) = place.run(&spec).await;
    assert_eq!(exit.code, 0);
    assert_eq!(output, format!("{}\nend\n", "x".repeat(100_000)));
    let raw = std::fs::read_to_string(spec.log.dir.join("current.log")).expect("a spool");
    assert_eq!(raw.matches(" stdout P ").count(), 6);
    assert_eq!(logs(&spec).await, output);
}
