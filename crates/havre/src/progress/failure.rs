//! The one-screen report of what failed. Pure.

use havre_api::{
    BuildFailure, ExitReport, FailureReport, JobFailure, ProbeKind, ProbeReport, ReplicaState,
    ServiceFailure,
};

use crate::human;
use crate::paint::Paint;
use crate::table::{printable, printable_lines};

/// Most lines of output that are shown.
const LOG_LINES: usize = 20;

/// Most lines of what a probe printed that are shown.
const PROBE_LINES: usize = 5;

/// The report as text, without a line end after its last line.
pub fn render(report: &FailureReport, paint: Paint) -> String {
    let mut text = Text::new(paint);
    match report {
        FailureReport::Build(failure) => build(&mut text, failure),
        FailureReport::Job(failure) => job(&mut text, failure),
        FailureReport::Service(failure) => service(&mut text, failure),
    }
    text.finish()
}

fn build(text: &mut Text, failure: &BuildFailure) {
    text.title(&format!("build of {}", failure.image), &failure.reason);
    if let Some(place) = &failure.place {
        let column = place
            .column
            .map(|column| format!(":{column}"))
            .unwrap_or_default();
        text.row("at", &format!("{}:{}{column}", place.file, place.line));
    }
    if let Some(instruction) = &failure.instruction {
        text.row("step", instruction);
    }
    if let Some(code) = failure.exit_code {
        text.row("exit code", &code.to_string());
    }
    let services: Vec<&str> = failure.services.iter().map(|s| s.as_str()).collect();
    if !services.is_empty() {
        text.row("needed by", &services.join(", "));
    }
    text.log(&failure.log);
    text.hint(failure.hint.as_deref());
}

fn job(text: &mut Text, failure: &JobFailure) {
    text.title(&format!("job of {}", failure.service), &failure.reason);
    text.row("command", &failure.command.join(" "));
    if let Some(exit) = &failure.exit {
        text.row("ended", &how_it_ended(exit));
    }
    text.log(&failure.log);
    text.hint(failure.hint.as_deref());
}

fn service(text: &mut Text, failure: &ServiceFailure) {
    text.title(&format!("service {}", failure.service), &failure.reason);
    if let Some(replica) = &failure.replica {
        let mut state = failure.state.map_or("state unknown", state_name).to_owned();
        if let Some(since) = failure.since {
            state.push_str(&format!(" since {since:.0}"));
        }
        if failure.restarts > 0 {
            let restarts = human::count(u64::from(failure.restarts), "restart");
            state.push_str(&format!(", {restarts}"));
        }
        text.row("replica", &format!("{replica}: {state}"));
    }
    if let Some(probe) = &failure.probe {
        probe_rows(text, probe);
    }
    if let Some(exit) = &failure.exit {
        text.row("ended", &how_it_ended(exit));
    }
    text.log(&failure.log);
    text.hint(failure.hint.as_deref());
}

/// What a probe said.
pub fn probe_rows(text: &mut Text, probe: &ProbeReport) {
    let label = match probe.kind {
        ProbeKind::Health => "probe",
        ProbeKind::Liveness => "liveness",
    };
    text.row(label, &probe.probe);
    let verdict = match probe.exit_code {
        Some(code) => format!("exit code {code}"),
        None => "no answer in time".to_owned(),
    };
    let times = match probe.failing_streak {
        0 => "which does not count yet".to_owned(),
        1 => "the first failure".to_owned(),
        times => format!("{times} failures in a row"),
    };
    text.row("", &format!("{verdict}, {times}"));
    for line in probe.output.lines().take(PROBE_LINES) {
        text.row("", line);
    }
}

/// `exit code 1`, `exit code 137, out of memory (limit 512 MiB, peak 512 MiB)`, `killed by SIGSEGV`.
pub fn how_it_ended(exit: &ExitReport) -> String {
    let known = |what: &str, bytes: Option<u64>| {
        bytes.map(|bytes| format!("{what} {}", human::memory(bytes)))
    };
    let memory: Vec<String> = [
        known("limit", exit.memory_limit_bytes),
        known("peak", exit.memory_peak_bytes),
    ]
    .into_iter()
    .flatten()
    .collect();
    match exit.signal {
        _ if exit.oom_killed => {
            let memory = match memory.is_empty() {
                true => String::new(),
                false => format!(" ({})", memory.join(", ")),
            };
            format!("exit code {}, out of memory{memory}", exit.code)
        }
        Some(signal) => match signal_name(signal) {
            Some(name) => format!("killed by {name}"),
            None => format!("killed by signal {signal}"),
        },
        None => format!("exit code {}", exit.code),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// The state in a word or two.
pub fn state_name(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Creating => "creating",
        ReplicaState::Running => "running",
        ReplicaState::Draining => "draining",
        ReplicaState::Stopping => "stopping",
        ReplicaState::BackOff => "waiting to restart",
        ReplicaState::Failed => "failed to start",
        ReplicaState::Exited => "exited",
        ReplicaState::Lost => "lost",
    }
}

/// Labelled lines below a title.
pub struct Text {
    out: String,
    paint: Paint,
}

impl Text {
    /// Nothing yet.
    pub fn new(paint: Paint) -> Self {
        Self {
            out: String::new(),
            paint,
        }
    }

    /// Without a line end after its last line.
    pub fn finish(mut self) -> String {
        self.out.truncate(self.out.trim_end().len());
        self.out
    }

    /// What is well, in one line.
    pub fn good(&mut self, subject: &str, state: &str) {
        let mark = self.paint.good("✓");
        let subject = self.paint.bold(&printable(subject));
        self.out
            .push_str(&format!("{mark} {subject}: {}\n", printable(state)));
    }

    /// What is not, in one line.
    pub fn title(&mut self, subject: &str, reason: &str) {
        let mark = self.paint.error("✗");
        let subject = self.paint.bold(&printable(subject));
        let mut lines = reason.lines().map(printable);
        let first = lines.next().unwrap_or_default();
        self.out.push_str(&format!("{mark} {subject}: {first}\n"));
        // An excerpt of a file keeps its lines.
        for line in lines {
            self.out.push_str(&format!("  {line}\n"));
        }
    }

    /// A value and what it is; a line without a label goes on with the one above.
    pub fn row(&mut self, label: &str, value: &str) {
        let label = self.paint.dim(&format!("{label:<10}"));
        let mut lines = value.lines().map(printable);
        self.out
            .push_str(&format!("  {label} {}\n", lines.next().unwrap_or_default()));
        for line in lines {
            self.out.push_str(&format!("             {line}\n"));
        }
    }

    /// The last lines of some output.
    pub fn log(&mut self, log: &[String]) {
        if log.is_empty() {
            return;
        }
        let shown = &log[log.len().saturating_sub(LOG_LINES)..];
        self.row(
            "output",
            &format!("last {}", human::count(shown.len() as u64, "line")),
        );
        for line in shown {
            let bar = self.paint.dim("|");
            self.out
                .push_str(&format!("    {bar} {}\n", printable(line)));
        }
    }

    /// What to do next.
    pub fn hint(&mut self, hint: Option<&str>) {
        if let Some(hint) = hint {
            let hint = printable_lines(hint);
            self.out
                .push_str(&format!("  {} {hint}\n", self.paint.hint("hint:")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_has_a_line_of_its_own() {
        let report = FailureReport::Build(BuildFailure {
            image: "shop-web".into(),
            services: Vec::new(),
            reason: "Dockerfile:2: unknown instruction COPPY\n  2 | COPPY a b".into(),
            place: None,
            instruction: None,
            exit_code: None,
            log: Vec::new(),
            hint: None,
        });
        let text = render(&report, Paint::plain());
        assert_eq!(
            text,
            "✗ build of shop-web: Dockerfile:2: unknown instruction COPPY\n    2 | COPPY a b"
        );
    }
}
