//! How steps come to their end: cancelled, out of time, and what they leave behind.

use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;

use crate::runner::{Given, shown};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("ends: a job is cancelled", cancelled),
        Trial::test("ends: what runs always goes on", goes_on),
        Trial::test("ends: within a composite action as well", composite),
        Trial::test("ends: who does not listen is killed", stubborn),
        Trial::test("ends: a second signal ends at once", twice),
        Trial::test("ends: a daemon lives until the job's end", daemon),
        Trial::test("ends: who holds the pipes is not waited for", holds_pipes),
        Trial::test("ends: a timeout ends what broke away", broke_away),
        Trial::test("ends: steps in the background are cancelled", background),
        Trial::test("ends: a document that is none", no_document),
        Trial::test("ends: the first process of a box", first_process),
    ]
}

fn same(told: &str, expected: &str) -> Result<(), Failed> {
    match told.trim() == expected.trim() {
        true => Ok(()),
        false => Err(format!("told:\n{told}\nexpected:\n{expected}").into()),
    }
}

fn is_alive(id: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(id).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn cancelled() -> Result<(), Failed> {
    let given = Given::steps(
        "- run: trap 'echo heard; exit 0' INT; echo ready; while :; do sleep 0.05 || :; done\n\
         - run: echo never\n\
         - {if: failure(), run: echo never}\n\
         - {if: cancelled(), run: 'echo \"${{ job.status }}\"'}\n\
         - {if: always(), run: exit 4}",
    );
    let mut started = given.start();
    started.until("ready");
    started.signal(Signal::TERM);
    let (told, code) = started.finish();
    let text = shown(&told, given.folder.path(), false);
    let (_, after) = text.split_once("ready\n").unwrap_or_default();
    same(
        after,
        "0   heard
0 < cancelled (The operation was canceled.)
1 < skipped (Its condition did not hold.)
2 < skipped (Its condition did not hold.)
3 > Run echo \"${{ job.status }}\"
3   cancelled
3 < success
4 > Run exit 4
4 error: Process completed with exit code 4.
4 < failure 4 (Process completed with exit code 4.)
ended cancelled",
    )?;
    same(&code.to_string(), "3")
}

fn goes_on() -> Result<(), Failed> {
    let given = Given::steps(
        "- if: always()\n  run: echo ready; while ! test -e go; do sleep 0.02; done; echo done\n\
         - run: echo never",
    );
    let mut started = given.start();
    started.until("ready");
    started.signal(Signal::TERM);
    given.file("go", "");
    let (told, _) = started.finish();
    let text = shown(&told, given.folder.path(), false);
    let (_, after) = text.split_once("ready\n").unwrap_or_default();
    same(
        after,
        "0   done\n0 < success\n1 < skipped (Its condition did not hold.)\nended cancelled",
    )
}

fn composite() -> Result<(), Failed> {
    let given = Given::steps("- uses: ./act");
    given.file(
        "act/action.yml",
        "runs:\n  using: composite\n  steps:\n\
         \x20   - {run: echo ready; exec sleep 60, shell: sh}\n\
         \x20   - {run: echo never, shell: sh}\n\
         \x20   - {run: echo cleaning, shell: sh, if: cancelled()}\n",
    );
    let mut started = given.start();
    started.until("ready");
    started.signal(Signal::TERM);
    let (told, _) = started.finish();
    let text = shown(&told, given.folder.path(), false);
    let (_, after) = text.split_once("ready\n").unwrap_or_default();
    same(
        after,
        "0   cleaning\n0 < cancelled (The operation was canceled.)\nended cancelled",
    )
}

const STUBBORN: &str = "- run: |\n    trap '' INT TERM\n    setsid env -i sleep 1000 & echo \"child $!\"\n    echo ready; while :; do sleep 0.05; done\n- {if: always(), run: echo after}";

fn stubborn() -> Result<(), Failed> {
    let given = Given::steps(STUBBORN);
    let mut started = given.start();
    started.until("ready");
    let began = Instant::now();
    started.signal(Signal::TERM);
    let (told, _) = started.finish();
    let took = began.elapsed();
    let text = shown(&told, given.folder.path(), false);
    let (before, after) = text.split_once("ready\n").unwrap_or_default();
    same(
        after,
        "0 < cancelled (The operation was canceled.)\n1 > Run echo after\n1   after\n1 < success\nended cancelled",
    )?;
    if took < Duration::from_secs(10) || took > Duration::from_secs(20) {
        return Err(format!("it took {took:?}, not 10 s").into());
    }
    let child = before.trim().rsplit(' ').next().unwrap_or_default();
    same(&is_alive(child).to_string(), "false")
}

fn twice() -> Result<(), Failed> {
    let given = Given::steps(STUBBORN);
    let mut started = given.start();
    started.until("ready");
    let began = Instant::now();
    started.signal(Signal::TERM);
    started.signal(Signal::INT);
    let (told, code) = started.finish();
    let text = shown(&told, given.folder.path(), false);
    let (_, after) = text.split_once("ready\n").unwrap_or_default();
    same(
        after,
        "0 < cancelled (The operation was canceled.)\n1 < skipped (The job was cancelled at once.)\nended cancelled",
    )?;
    same(&code.to_string(), "3")?;
    match began.elapsed() < Duration::from_secs(7) {
        true => Ok(()),
        false => Err(format!("it took {:?}", began.elapsed()).into()),
    }
}

fn daemon() -> Result<(), Failed> {
    let given = Given::steps(
        "- run: setsid sleep 1000 >/dev/null 2>&1 & echo $! > id\n\
         - run: kill -0 $(cat id) && echo \"alive $(cat id)\"",
    );
    let text = given.shown();
    let (_, id) = text.split_once("alive ").ok_or("the daemon did not live")?;
    let id = id.lines().next().unwrap_or_default();
    same(&is_alive(id).to_string(), "false")
}

fn holds_pipes() -> Result<(), Failed> {
    let given = Given::steps("- run: (sleep 60; echo late) & echo first\n- run: echo second");
    let began = Instant::now();
    let text = given.shown();
    if began.elapsed() > Duration::from_secs(20) {
        return Err(format!("it took {:?}", began.elapsed()).into());
    }
    let (_, after) = text.split_once("0   first\n").unwrap_or_default();
    same(
        after,
        "0 < success\n1 > Run echo second\n1   second\n1 < success\nended success",
    )
}

fn broke_away() -> Result<(), Failed> {
    let given = Given::steps(
        "- timeout-minutes: 0.01\n  run: |\n    setsid sleep 1000 & echo $! > one\n    (setsid sleep 1000 & echo $! > two)\n    sleep 1000\n\
         - if: always()\n  run: for f in one two; do test -d /proc/$(cat $f) && ! grep -q ') Z ' /proc/$(cat $f)/stat && echo alive $f; done; echo checked",
    );
    let text = given.shown();
    let (_, after) = text.split_once("1 > ").unwrap_or_default();
    let (_, after) = after.split_once('\n').unwrap_or_default();
    same(after, "1   checked\n1 < success\nended failure")
}

fn background() -> Result<(), Failed> {
    let given = Given::steps(
        "- {id: one, background: true, run: exec sleep 60}\n\
         - run: echo ready; exec sleep 60\n- wait: one",
    );
    let mut started = given.start();
    started.until("ready");
    started.signal(Signal::TERM);
    let (told, _) = started.finish();
    let text = shown(&told, given.folder.path(), false);
    let ends = text
        .lines()
        .filter(|line| line.contains(" < ") || line.starts_with("ended"));
    let mut ends: Vec<&str> = ends.collect();
    ends.sort_unstable();
    same(
        &ends.join("\n"),
        "0 < cancelled (The operation was canceled.)
1 < cancelled (The operation was canceled.)
2 < skipped (Its condition did not hold.)
ended cancelled",
    )
}

fn no_document() -> Result<(), Failed> {
    let mut given = Given::steps("- run: echo x");
    given.document.version = 7;
    let (told, code) = given.run();
    same(&format!("{told:?} {code}"), "[] 2")
}

/// In a namespace of its own, where it is process 1: what orphans there are, are its own, and the kernel gives it no
/// signal that it does not take.
fn first_process() -> Result<(), Failed> {
    let starter = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let tried = std::process::Command::new(starter[0])
        .args(&starter[1..])
        .arg("true")
        .output();
    if !tried.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: needs namespaces of processes");
        return Ok(());
    }
    let mut given = Given::steps(
        "- run: (setsid sleep 1000 >/dev/null 2>&1 &) ; (true &) ; cat /proc/1/comm | cut -c 1-2\n\
         - run: while grep -l ') Z ' /proc/[0-9]*/stat; do sleep 0.02; done; pgrep -c sleep || true\n\
         - run: echo ready; exec sleep 60\n\
         - {if: always(), run: pgrep -c sleep}",
    );
    given.starter = starter.map(str::to_owned).into();
    let mut started = given.start();
    started.until("ready");
    started.signal(Signal::TERM);
    let (told, _) = started.finish();
    let text = shown(&told, given.folder.path(), false);
    let lines = text
        .lines()
        .filter(|line| !line.contains(" > ") && !line.starts_with("began"));
    same(
        &lines.collect::<Vec<_>>().join("\n"),
        "0   it
0 < success
1   1
1 < success
2   ready
2 < cancelled (The operation was canceled.)
3   1
3 < success
ended cancelled",
    )
}
