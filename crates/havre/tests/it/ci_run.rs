//! `havre ci run`: jobs in real boxes, and what stays of them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use havre_testing::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{Machine, SOON, on_machine};
use crate::program::Ran;

/// A repository with one workflow.
pub(crate) struct Repository<'a> {
    machine: &'a Machine,
    pub(crate) path: PathBuf,
}

impl<'a> Repository<'a> {
    /// `jobs` is what stands below that key.
    pub(crate) fn new(machine: &'a Machine, name: &str, jobs: &str) -> Self {
        fs::create_dir_all(machine.project()).unwrap();
        let path = machine.root().join(name);
        fs::create_dir_all(path.join(".github/workflows")).unwrap();
        let text = format!("name: CI\non: push\njobs:\n{jobs}");
        fs::write(path.join(".github/workflows/ci.yml"), text).unwrap();
        let repository = Self { machine, path };
        let mut git = Command::new("git");
        git.args(["init", "--quiet", "--initial-branch=main"]);
        let made = git.current_dir(&repository.path).status().unwrap();
        assert!(made.success());
        repository
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command(&[&["ci", "run"], args].concat());
        command.current_dir(&self.path);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Starts it, and reads until a line of it has this.
    fn until(&self, part: &str) -> Running {
        let mut command = self.command(&[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut seen = String::new();
        while !seen.contains(part) {
            let read = output.read_line(&mut seen).unwrap();
            assert!(read > 0, "it ended before {part:?}:\n{seen}");
        }
        Running {
            child,
            output,
            seen,
        }
    }
}

/// `ci run`, on its way.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    seen: String,
}

impl Running {
    fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).unwrap();
    }

    /// Waits until standard error has this.
    fn complains(&mut self, part: &str) {
        let mut errors = BufReader::new(self.child.stderr.as_mut().unwrap());
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert!(errors.read_line(&mut line).unwrap() > 0, "no {part:?}");
        }
    }

    /// Its exit code, and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        self.output.read_to_string(&mut self.seen).unwrap();
        let status = self.child.wait().unwrap();
        (status.code(), self.seen)
    }
}

pub(crate) fn says(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{}\n{}", ran.out, ran.err);
    let all = format!("{}{}", ran.out, ran.err);
    for part in parts {
        assert!(all.contains(part), "{part:?} is not in\n{all}");
    }
}

/// Folders of runs, and mounts in them.
pub(crate) fn left(machine: &Machine) -> (usize, usize) {
    let runs = machine.root().join("ci/runs");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts
        .lines()
        .filter(|line| line.contains(runs.to_str().unwrap()));
    (fs::read_dir(&runs).unwrap().count(), mounts.count())
}

/// Whether a process has this among its words.
pub(crate) fn runs(word: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
    lines.any(|line| {
        line.split(|byte| *byte == 0)
            .any(|it| it == word.as_bytes())
    })
}

#[test]
fn jobs_run_in_their_order_or_by_name() {
    on_machine(|machine| {
        let repository = Repository::new(
            machine,
            "order",
            "  a:
    runs-on: ubuntu-latest
    outputs: {said: '${{ steps.s.outputs.said }}'}
    steps:
      - uses: actions/checkout@v5
        with: {lfs: false}
      - id: s
        run: |
          test -f .github/workflows/ci.yml
          echo said=hello >> $GITHUB_OUTPUT
  b:
    needs: a
    runs-on: ubuntu-latest
    steps: [{run: 'echo [${{ needs.a.outputs.said }}]'}]
  c:
    needs: b
    runs-on: ubuntu-latest
    steps: [{run: echo third; exit 3}]
",
        );
        let ran = repository.run(&["--job", "b"]);
        says(
            &ran,
            0,
            &["b │ [hello]", "CI: ✓ success (2 jobs, 1 not asked for"],
        );
        assert!(!ran.out.contains("third"), "{ran:?}");
        let ran = repository.run(&[]);
        let end = "c › Run echo third; exit 3: Process completed with exit code 3.\n  │ third\n";
        says(&ran, 1, &["c │ third", end, "CI: ✗ failure (3 jobs"]);
        says(
            &repository.run(&["--job", "d"]),
            2,
            &["it has no job `d`; there are a, b, c"],
        );
        assert_eq!(left(machine), (0, 0));
    });
}

#[test]
fn what_cannot_run_is_no_success() {
    on_machine(|machine| {
        let repository = Repository::new(
            machine,
            "cannot",
            "  label: {runs-on: windows-latest, steps: [{run: echo}]}
  action: {runs-on: ubuntu-latest, steps: [{uses: nobody/nothing@v1}]}
  expression: {runs-on: ubuntu-latest, steps: [{run: \"echo ${{ fromJSON('{') }}\"}]}
  secret: {runs-on: ubuntu-latest, steps: [{run: 'test -n \"${{ secrets.KEY }}\"'}]}
  kills: {runs-on: ubuntu-latest, steps: [{run: 'kill -9 $PPID; kill -9 $$'}, {if: always(), run: echo after}]}
  fine: {runs-on: ubuntu-latest, steps: [{run: setsid sleep 98765 >/dev/null 2>&1 & echo left}]}
",
        );
        let ran = repository.run(&["--secret", "KEY=s3cret"]);
        says(
            &ran,
            1,
            &[
                "label: `runs-on`: nothing here is called \"windows-latest\"",
                "action `nobody/nothing@v1` cannot be fetched",
                "`fromJSON` cannot use its argument",
                "secret     ✓ success",
                "The process was killed (signal 9)",
                "kills      │ after",
                "fine       ✓ success",
                "CI: ✗ failure (6 jobs",
            ],
        );
        says(&repository.run(&["--job", "label"]), 1, &["CI: ✗ failure"]);
        says(&repository.run(&["--job", "secret"]), 1, &["CI: ✗ failure"]);
        assert!(!runs("98765"), "a daemon outlived its job");
        assert_eq!(left(machine), (0, 0));
    });
}

#[test]
fn a_signal_cancels_and_another_ends_at_once() {
    on_machine(|machine| {
        let repository = Repository::new(
            machine,
            "never",
            "  a:
    runs-on: ubuntu-latest
    steps: [{run: sleep 87654}, {if: always(), run: echo cleaned up}]
  b: {needs: a, runs-on: ubuntu-latest, steps: [{run: echo after}]}
",
        );
        let running = repository.until("▸ Run sleep");
        running.signal(Signal::INT);
        let (code, said) = running.end();
        assert_eq!(code, Some(130), "{said}");
        assert!(
            said.contains("│ cleaned up") && !said.contains("after"),
            "{said}"
        );
        let deaf = Repository::new(
            machine,
            "deaf",
            "  a:
    runs-on: ubuntu-latest
    steps: [{run: \"trap '' INT TERM; echo deaf; while true; do sleep 1; done\"}, {if: always(), run: echo cleaned up}]
",
        );
        let mut running = deaf.until("│ deaf");
        running.signal(Signal::INT);
        running.complains("cancelling");
        running.signal(Signal::INT);
        let (code, said) = running.end();
        assert_eq!(code, Some(130), "{said}");
        assert!(!said.contains("cleaned up"), "{said}");
        assert!(!runs("87654"));
        assert_eq!(left(machine), (0, 0));
    });
}

#[test]
fn what_a_killed_run_leaves_goes_with_the_next() {
    on_machine(|machine| {
        let never = "  a: {runs-on: ubuntu-latest, steps: [{run: sleep 76543}]}\n";
        let never = Repository::new(machine, "never", never);
        let running = never.until("▸ Run sleep");
        running.signal(Signal::KILL);
        running.end();
        // The step was told of before its process began.
        wait_until("boxes outlive it", SOON, || runs("76543"));
        assert_eq!(left(machine).0, 1);
        let fine = "  a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}\n";
        let fine = Repository::new(machine, "fine", fine);
        let ran = fine.run(&[]);
        says(&ran, 0, &["CI: ✓ success"]);
        assert!(!ran.err.contains("warning"), "{}", ran.err);
        assert_eq!(left(machine), (0, 0));
        wait_until("its processes are gone", SOON, || !runs("76543"));
    });
}

#[test]
fn runs_share_caches_and_nothing_else() {
    on_machine(|machine| {
        let repository = Repository::new(
            machine,
            "kept",
            "  a:
    runs-on: ubuntu-latest
    steps:
      - id: c
        uses: actions/cache@v4
        with: {path: kept, key: k}
      - run: mkdir -p kept && echo '[${{ steps.c.outputs.cache-hit }}]' && echo one > kept/one
      - uses: actions/upload-artifact@v4
        with: {name: one, path: kept}
  b:
    needs: a
    runs-on: ubuntu-latest
    steps:
      - uses: actions/download-artifact@v4
        with: {name: one}
      - run: cat one
",
        );
        says(&repository.run(&[]), 0, &["a │ []", "b │ one"]);
        // Its numbers are the first one's.
        says(&repository.run(&[]), 0, &["a │ [true]", "b │ one"]);
        let never = "  a: {runs-on: ubuntu-latest, steps: [{run: sleep 65432}]}\n";
        let running = Repository::new(machine, "never", never).until("▸ Run sleep");
        let beside = repository.run(&[]);
        says(&beside, 0, &["a │ []", "another run uses the caches"]);
        running.signal(Signal::INT);
        assert_eq!(running.end().0, Some(130));
        assert_eq!(left(machine), (0, 0));
    });
}
