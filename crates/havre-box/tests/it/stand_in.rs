//! A stand-in for the runner: reads the document as strictly as one should, runs its workflow's text with `sh`, tells each line,
//! and ends as it does. Told to end by a signal, it says so; told twice, it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use havre_job::{Document, JobResult, LineKind, StepResult, Told, VERSION};

static SIGNALS: AtomicU32 = AtomicU32::new(0);

fn tell(told: &Told) {
    println!("{}", serde_json::to_string(told).expect("JSON"));
}

fn line(text: &str) {
    tell(&Told::Line {
        step: Some(0),
        kind: LineKind::Plain,
        text: text.to_owned(),
    });
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time").as_millis() as u64
}

/// Runs as the first process of a box.
pub fn main() -> ExitCode {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .expect("a document, and its end");
    let document: Document = serde_json::from_str(&text).expect("a document");
    assert_eq!(document.version, VERSION);
    assert_eq!(std::process::id(), 1);
    for path in [
        &document.runner.workspace,
        &document.runner.temp,
        &document.runner.tool_cache,
    ] {
        assert!(
            std::fs::metadata(path).expect("it exists").is_dir(),
            "{path}"
        );
    }
    std::thread::spawn(listen);
    tell(&Told::Began {
        at_ms: now(),
        steps: vec!["script".to_owned()],
    });
    let mut child = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {}", document.workflow)])
        .current_dir(&document.runner.workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let output = child.stdout.take().expect("a pipe");
    for text in BufReader::new(output).lines() {
        line(&text.expect("text"));
    }
    let code = child.wait().expect("an end").code().unwrap_or(255);
    ended(match code {
        0 => JobResult::Success,
        _ => JobResult::Failure,
    });
    ExitCode::from(code as u8)
}

fn ended(result: JobResult) {
    let outcome = match result {
        JobResult::Success => StepResult::Success,
        JobResult::Failure => StepResult::Failure,
        JobResult::Cancelled => StepResult::Cancelled,
    };
    tell(&Told::StepEnded {
        step: 0,
        outcome,
        conclusion: outcome,
        exit_code: None,
        why: None,
        at_ms: now(),
    });
    tell(&Told::Ended {
        result,
        outputs: Vec::new(),
        environment_url: None,
        images: Vec::new(),
        at_ms: now(),
    });
}

fn listen() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut signals = signal(SignalKind::terminate()).expect("a handler");
        line("listening");
        while signals.recv().await.is_some() {
            if SIGNALS.fetch_add(1, Ordering::Relaxed) == 0 {
                line("asked to end");
            } else {
                ended(JobResult::Cancelled);
                std::process::exit(9);
            }
        }
    });
}
