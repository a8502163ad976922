//! Whatever a file holds, reading it ends, within bounds.

use std::path::Path;
use std::time::{Duration, Instant};

use havre_workflow::{Limits, read};
use proptest::prelude::*;

/// For one file, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn reads(text: &str) -> Result<usize, usize> {
    let begun = Instant::now();
    let found = read(
        Path::new("/p"),
        Path::new("/p/ci.yml"),
        text,
        &Limits::default(),
    );
    assert!(begun.elapsed() < PATIENCE, "took {:?}", begun.elapsed());
    match found {
        Ok(read) => Ok(read.warnings.len()),
        Err(failure) => {
            assert!(!failure.errors.is_empty(), "fails silently");
            Err(failure.errors.len())
        }
    }
}

#[test]
fn what_is_too_large_is_refused() {
    assert_eq!(reads(&"#".repeat((1 << 20) + 1)), Err(1));
    let deep = format!("on: push\njobs: {}1{}", "[".repeat(60), "]".repeat(60));
    assert_eq!(reads(&deep), Err(1));
}

#[test]
fn aliases_cannot_grow_without_end() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..10 {
        let before = n - 1;
        let items = vec![format!("*a{before}"); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    assert!(reads(&text).is_err());
    let mut deep = String::from("a0: &a0 []\n");
    for n in 1..100 {
        deep.push_str(&format!("a{n}: &a{n} [*a{}]\n", n - 1));
    }
    assert!(reads(&deep).is_err());
}

#[test]
fn many_of_anything_take_their_time_but_no_more() {
    let job = |body: &str| format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n{body}");
    let many = |piece: &str, times: usize| piece.repeat(times);
    // In one scalar, in one line and in many.
    assert!(
        reads(&job(&format!(
            "      - run: {}\n",
            many("${{ github.a }}", 60_000)
        )))
        .is_ok()
    );
    assert!(
        reads(&job(&format!(
            "      - run: |\n{}",
            many("          ${{ x }}\n", 50_000)
        )))
        .is_err()
    );
    assert!(
        reads(&job(&format!(
            "      - run: \"{}\"\n",
            many("\\t${{ x", 100_000)
        )))
        .is_err()
    );
    assert!(reads(&job(&many("      - run: ${{ steps.a.b }}\n", 30_000))).is_ok());
    assert!(reads(&job(&many("      - id: a\n        wat: x\n", 25_000))).is_err());
    let expression = format!("github.a{}", many(" || github.a", 900));
    assert!(reads(&job(&format!("      - run: ${{{{ {expression} }}}}\n"))).is_ok());
    let expression = many("(", 10_000);
    assert!(reads(&job(&format!("      - run: ${{{{ {expression} }}}}\n"))).is_err());
    let needs: String = (1..250)
        .map(|n| format!("  a{n}: {{runs-on: x, needs: [a{}], steps: []}}\n", n - 1))
        .collect();
    assert!(
        reads(&format!(
            "on: push\njobs:\n  a0: {{runs-on: x, needs: a249, steps: []}}\n{needs}"
        ))
        .is_err()
    );
}

/// Pieces that files are put together from.
const PIECES: &[&str] = &[
    "on: push\n",
    "on:\n  push:\n    branches: [a]\n",
    "jobs:\n",
    "  a:\n",
    "    runs-on: x\n",
    "    steps:\n",
    "      - run: x\n",
    "      - uses: a/b@c\n",
    "    needs: a\n",
    "    if: always()\n",
    "    strategy:\n      matrix:\n        a: [1]\n",
    "${{ github.a }}",
    "${{",
    "}}",
    "'",
    "\"",
    "&a ",
    "*a",
    "<<: *a\n",
    "!!int ",
    "! ",
    "? ",
    "- ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    "|\n",
    ">-\n",
    "#",
    "\t",
    "\u{feff}",
    "\0",
    "null",
    "~",
    "0x",
    "é",
    "\u{202e}",
    "---\n",
    "...\n",
    "\r\n",
    "  ",
    "\\",
    "success('a', ",
    "success(",
    "fromJSON(",
    ")",
    "a.b['c']",
    "||",
    "%YAML 1.1\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)) {
        // Either way is right.
        reads(&pieces.concat()).ok();
    }

    #[test]
    fn no_value_panics(value in "\\PC{0,40}", place in 0..6_usize) {
        let quoted = value.replace('\'', "''");
        let text = match place {
            0 => format!("on: push\njobs: {{a: {{runs-on: x, steps: [{{run: '{quoted}'}}]}}}}"),
            1 => format!("on: push\njobs: {{a: {{runs-on: x, if: '{quoted}', steps: []}}}}"),
            2 => format!("on: push\njobs: {{a: {{runs-on: x, steps: [{{run: '${{{{ {quoted} }}}}'}}]}}}}"),
            3 => format!("on: {{schedule: [{{cron: '{quoted}'}}]}}\njobs: {{}}"),
            4 => format!("on: push\njobs: {{a: {{uses: '{quoted}'}}, b: {{runs-on: '{quoted}', steps: [{{uses: '{quoted}'}}]}}}}"),
            _ => format!("on: push\njobs: {{'{quoted}': {{runs-on: x, needs: '{quoted}', steps: [{{id: '{quoted}', wait: '{quoted}'}}]}}}}"),
        };
        reads(&text).ok();
    }
}

/// Of what costs more the longer a line is, or the more names there are.
#[test]
fn cost_does_not_grow_with_the_square() {
    let line = |piece: &str, times: usize| {
        let items: Vec<String> = (0..times).map(|n| format!("a{n}: {piece}")).collect();
        let items = items.join(", ");
        format!("on: push\njobs: {{a: {{runs-on: x, steps: [], env: {{{items}}}}}}}\n")
    };
    assert!(reads(&line("é", 30_000)).is_ok());
    assert!(reads(&line("'${{ github.a }}'", 15_000)).is_ok());
    assert!(reads(&line("'${{ x }}'", 20_000)).is_err());
    let blanks = " ".repeat(400_000);
    let text = format!(
        "on: push\njobs: {{a: {{runs-on: x, steps: [{{run: '{blanks}${{{{ x }}}}'}}]}}}}\n"
    );
    assert!(reads(&text).is_err());
}

#[test]
fn unknown_names_are_not_compared_for_ever() {
    let id = |n: usize| format!("{}{n:03}", "j".repeat(27));
    let jobs: String = (0..100)
        .map(|n| format!("  {}: {{runs-on: x, steps: []}}\n", id(n)))
        .collect();
    let unknown = "k".repeat(30);
    let needs = vec!["*n"; 100_000].join(", ");
    let text = format!(
        "on: push\njobs:\n{jobs}  a:\n    runs-on: x\n    name: &n {unknown}\n    steps: []\n    needs: [{needs}]\n"
    );
    assert!(reads(&text).is_err());
}

#[test]
fn long_ways_to_a_value_are_not_written_out_each_time() {
    let key = "k".repeat(1000);
    let open: String = (0..40).map(|_| format!("{{{key}: ")).collect();
    let items = vec!["1.10"; 50_000].join(", ");
    let text = format!(
        "on: push\njobs: {{a: {{runs-on: x, steps: [], strategy: {{matrix: {{a: [{open}[{items}]{}]}}}}}}}}\n",
        "}".repeat(40)
    );
    assert!(reads(&text).is_ok());
}
