//! What is known about an operation so far, and how it looks on a terminal. Pure: times are given
//! as the duration since the operation began.

use std::collections::VecDeque;
use std::time::Duration;

use havre_api::{
    BuildProgress, Event, FailureReport, JobProgress, OperationPhase, PlannedAction, PullProgress,
    ServiceProgress,
};

use super::plain;
use crate::human;
use crate::paint::Paint;
use crate::table::{clipped, padded, printable};

/// Lines of output shown under a running step.
const TAIL_LINES: usize = 5;

/// Frames of the sign for work under way.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Columns of the kind of a task.
const KIND_COLUMNS: usize = 7;

/// Fewest and most columns of a task's name.
const NAME_COLUMNS: (usize, usize) = (22, 36);

/// All tasks of an operation.
#[derive(Debug)]
pub struct Board {
    tasks: Vec<Task>,
    phase: Option<OperationPhase>,
    paint: Paint,
}

/// Something that is done for one image or service.
#[derive(Debug)]
struct Task {
    kind: Kind,
    name: String,
    state: State,
    /// What it is doing, or how it ended.
    detail: String,
    /// Newest lines of output of the running step.
    tail: VecDeque<String>,
    began: Duration,
    /// Builds: steps in all, and of the steps that ended those that were cached.
    steps: u32,
    cached: u32,
    /// Services: replicas at the end.
    replicas: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pull,
    Build,
    Job,
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Planned,
    Running,
    Over,
}

impl Board {
    /// An empty board.
    pub fn new(paint: Paint) -> Self {
        Self {
            tasks: Vec::new(),
            phase: None,
            paint,
        }
    }

    /// Takes an event in and answers with the lines to keep above the live region.
    pub fn apply(&mut self, event: &Event, now: Duration) -> Vec<String> {
        match event {
            Event::Plan { services } => {
                let kept = services.iter().filter(|s| s.action == PlannedAction::Keep);
                let kept: Vec<&str> = kept.map(|s| s.service.as_str()).collect();
                for planned in services.iter().filter(|s| s.action != PlannedAction::Keep) {
                    let task = self.task(Kind::Service, planned.service.as_str(), now);
                    task.replicas = planned.replicas;
                }
                if kept.is_empty() {
                    return Vec::new();
                }
                vec![self.paint.dim(&format!("· unchanged: {}", kept.join(", ")))]
            }
            Event::Phase { phase } => self.enter(*phase),
            Event::Pull {
                reference,
                progress,
            } => self.pull(reference, progress, now),
            Event::Build { image, progress } => self.build(image, progress, now),
            Event::Job { service, progress } => self.job(service.as_str(), progress, now),
            Event::Service { service, progress } => self.service(service.as_str(), progress, now),
            Event::Warning { message, hint } => {
                let label = self.paint.warning("warning:");
                let mut lines = vec![format!("{label} {}", printable(message))];
                if let Some(hint) = hint {
                    let label = self.paint.hint("hint:");
                    lines.push(format!("  {label} {}", printable(hint)));
                }
                lines
            }
            Event::Failure { report } => self.failed(report, now),
            Event::Missed { count } => {
                vec![self.paint.dim(&format!("({count} events were left out)"))]
            }
        }
    }

    /// Ends the operation: what still runs went well with it, or stays undone.
    pub fn finish(&mut self, well: bool, now: Duration) -> Vec<String> {
        let running: Vec<usize> = (0..self.tasks.len())
            .filter(|index| self.tasks[*index].state == State::Running)
            .collect();
        let mut lines = Vec::new();
        for index in running {
            if well {
                if self.tasks[index].kind == Kind::Service {
                    self.tasks[index].detail = self.tasks[index].size();
                }
                lines.extend(self.over(index, now));
            } else {
                self.tasks[index].state = State::Over;
            }
        }
        lines
    }

    /// The live region: what runs with the newest lines of its output, then what is to come; at
    /// most `rows` lines of `columns`.
    pub fn live(&self, rows: usize, columns: usize, now: Duration) -> Vec<String> {
        let frame = SPINNER[(now.as_millis() / 100) as usize % SPINNER.len()];
        let running: Vec<&Task> = self.in_state(State::Running).collect();
        let planned: Vec<&Task> = self.in_state(State::Planned).collect();
        let mut lines = Vec::new();
        if running.is_empty()
            && let Some(phase) = self.phase
        {
            let text = format!("{} {}", frame, plain::phase_name(phase));
            lines.push(self.paint.dim(&clipped(&text, columns)));
        }
        // Output is what gives way when the terminal is small.
        let room = rows.saturating_sub(lines.len() + running.len() + planned.len());
        let tail = (room / running.len().max(1)).min(TAIL_LINES);
        for task in running {
            let elapsed = ticking(now.saturating_sub(task.began));
            let text = format!("{} {}", self.columns(task), task.detail);
            let text = clipped(&text, columns.saturating_sub(elapsed.len() + 5));
            let spinner = self.paint.hint(frame);
            lines.push(format!("{spinner} {text}  {}", self.paint.dim(&elapsed)));
            let skipped = task.tail.len().saturating_sub(tail);
            for line in task.tail.iter().skip(skipped) {
                let line = clipped(line, columns.saturating_sub(4));
                lines.push(self.paint.dim(&format!("  │ {line}")));
            }
        }
        for task in planned {
            let text = clipped(
                &format!("· {} {}", self.columns(task), task.detail),
                columns,
            );
            lines.push(self.paint.dim(text.trim_end()));
        }
        shortened(lines, rows)
    }

    fn enter(&mut self, phase: OperationPhase) -> Vec<String> {
        self.phase = Some(phase);
        if phase == OperationPhase::RollBack {
            self.tasks.retain(|task| task.state != State::Planned);
        }
        let text = plain::phase_name(phase);
        match phase {
            OperationPhase::RollBack | OperationPhase::Queue => {
                vec![format!("{} {}", self.paint.warning("↩"), text)]
            }
            OperationPhase::Pause => vec![format!("{} {}", self.paint.warning("‖"), text)],
            // Nothing moves meanwhile: without a word it would look stuck.
            OperationPhase::Canary | OperationPhase::Bake => {
                vec![self.paint.dim(&format!("· {text}"))]
            }
            OperationPhase::Images
            | OperationPhase::Prepare
            | OperationPhase::Jobs
            | OperationPhase::Rollout
            | OperationPhase::Stop
            | OperationPhase::CleanUp => Vec::new(),
        }
    }

    /// The report itself follows at the end; until then a line says what went wrong.
    fn failed(&mut self, report: &FailureReport, now: Duration) -> Vec<String> {
        let (kind, name, reason) = match report {
            FailureReport::Build(failure) => (Kind::Build, &failure.image[..], &failure.reason),
            FailureReport::Job(failure) => (Kind::Job, failure.service.as_str(), &failure.reason),
            FailureReport::Service(failure) => {
                (Kind::Service, failure.service.as_str(), &failure.reason)
            }
        };
        let index = self.started(kind, name, now);
        let task = &mut self.tasks[index];
        task.state = State::Over;
        task.detail = printable(reason);
        let task = &self.tasks[index];
        vec![format!(
            "{} {} {}",
            self.paint.error("✗"),
            self.columns(task),
            task.detail
        )]
    }

    fn pull(&mut self, reference: &str, progress: &PullProgress, now: Duration) -> Vec<String> {
        let index = self.started(Kind::Pull, reference, now);
        let task = &mut self.tasks[index];
        match progress {
            PullProgress::Started => Vec::new(),
            PullProgress::Bytes { done, total } => {
                let total = total.map(|total| format!(" of {}", human::size(total)));
                task.detail = format!("{}{}", human::size(*done), total.unwrap_or_default());
                Vec::new()
            }
            PullProgress::Done { digest, elapsed_ms } => {
                task.detail = human::digest(digest);
                self.over_after(index, *elapsed_ms)
            }
        }
    }

    fn build(&mut self, image: &str, progress: &BuildProgress, now: Duration) -> Vec<String> {
        let index = self.started(Kind::Build, image, now);
        let task = &mut self.tasks[index];
        match progress {
            BuildProgress::Started { steps, .. } => task.steps = *steps,
            BuildProgress::StepStarted {
                index, instruction, ..
            } => {
                task.tail.clear();
                task.detail = format!("{index}/{} {}", task.steps, printable(instruction));
            }
            BuildProgress::StepOutput { text, .. } => task.print(text),
            BuildProgress::StepDone { cached, .. } => {
                task.cached += u32::from(*cached);
                task.tail.clear();
            }
            BuildProgress::Done { elapsed_ms, .. } => {
                let steps = human::count(u64::from(task.steps), "step");
                task.detail = match task.cached {
                    0 => steps,
                    cached if cached >= task.steps => format!("{steps}, all cached"),
                    cached => format!("{steps}, {cached} cached"),
                };
                return self.over_after(index, *elapsed_ms);
            }
        }
        Vec::new()
    }

    fn job(&mut self, service: &str, progress: &JobProgress, now: Duration) -> Vec<String> {
        let index = self.started(Kind::Job, service, now);
        let task = &mut self.tasks[index];
        match progress {
            JobProgress::Started { command } => {
                task.detail = printable(command.join(" "));
                Vec::new()
            }
            JobProgress::Output { text, .. } => {
                task.print(text);
                Vec::new()
            }
            JobProgress::Done { elapsed_ms } => self.over_after(index, *elapsed_ms),
        }
    }

    fn service(&mut self, service: &str, progress: &ServiceProgress, now: Duration) -> Vec<String> {
        if let ServiceProgress::Waiting { .. } = progress {
            self.task(Kind::Service, service, now).detail = plain::step(progress);
            return Vec::new();
        }
        let index = self.started(Kind::Service, service, now);
        let task = &mut self.tasks[index];
        match progress {
            ServiceProgress::Done { elapsed_ms } => {
                task.detail = task.size();
                return self.over_after(index, *elapsed_ms);
            }
            ServiceProgress::Ready { wanted, .. } => {
                task.replicas = *wanted;
                task.detail = plain::step(progress);
            }
            _ => task.detail = plain::step(progress),
        }
        Vec::new()
    }

    fn in_state(&self, state: State) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(move |task| task.state == state)
    }

    /// The task of that name that is not over yet, made when there is none.
    fn task(&mut self, kind: Kind, name: &str, now: Duration) -> &mut Task {
        let index = self.index(kind, name, now);
        &mut self.tasks[index]
    }

    fn started(&mut self, kind: Kind, name: &str, now: Duration) -> usize {
        let index = self.index(kind, name, now);
        let task = &mut self.tasks[index];
        if task.state == State::Planned {
            task.state = State::Running;
            task.began = now;
        }
        index
    }

    fn index(&mut self, kind: Kind, name: &str, now: Duration) -> usize {
        let is = |task: &Task| task.kind == kind && task.name == name && task.state != State::Over;
        self.tasks.iter().position(is).unwrap_or_else(|| {
            self.tasks.push(Task {
                kind,
                name: printable(name),
                state: State::Planned,
                detail: String::new(),
                tail: VecDeque::new(),
                began: now,
                steps: 0,
                cached: 0,
                replicas: 0,
            });
            self.tasks.len() - 1
        })
    }

    fn over(&mut self, index: usize, now: Duration) -> Vec<String> {
        let elapsed = now.saturating_sub(self.tasks[index].began);
        self.over_after(index, elapsed.as_millis() as u64)
    }

    fn over_after(&mut self, index: usize, elapsed_ms: u64) -> Vec<String> {
        self.tasks[index].state = State::Over;
        self.tasks[index].tail.clear();
        let task = &self.tasks[index];
        let (mark, elapsed) = (self.paint.good("✓"), human::millis(elapsed_ms));
        let text = format!("{} {}", self.columns(task), task.detail);
        vec![format!(
            "{mark} {}  {}",
            text.trim_end(),
            self.paint.dim(&elapsed)
        )]
    }

    /// Kind and name, each as wide as in every other line.
    fn columns(&self, task: &Task) -> String {
        let kind = match task.kind {
            Kind::Pull => "pull",
            Kind::Build => "build",
            Kind::Job => "job",
            Kind::Service => "service",
        };
        let (least, most) = NAME_COLUMNS;
        let name = clipped(&task.name, most);
        format!("{} {}", padded(kind, KIND_COLUMNS), padded(&name, least))
    }
}

impl Task {
    /// How many replicas a service has in the end.
    fn size(&self) -> String {
        human::count(u64::from(self.replicas), "replica")
    }

    fn print(&mut self, text: &str) {
        // A progress bar draws itself over with carriage returns: its last state counts.
        let text = text.trim_end().rsplit('\r').next().unwrap_or_default();
        if text.trim().is_empty() {
            return;
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(printable(text));
    }
}

/// How long something runs; nothing in its first second, so that quick steps do not flicker.
fn ticking(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0 => String::new(),
        seconds @ 1..=59 => format!("{seconds} s"),
        _ => human::duration(elapsed),
    }
}

/// The first lines, with a note about the rest where they are more than `rows`.
fn shortened(mut lines: Vec<String>, rows: usize) -> Vec<String> {
    if lines.len() > rows {
        let rest = lines.len() - rows.saturating_sub(1);
        lines.truncate(rows.saturating_sub(1));
        lines.push(format!("  … and {rest} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use havre_api::{HealthState, LogStream, PlannedService};
    use havre_model::ServiceName;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn board(events: &[(u64, Event)]) -> (Board, Vec<String>) {
        let mut board = Board::new(Paint::plain());
        let kept = events
            .iter()
            .flat_map(|(time, event)| board.apply(event, at(*time)));
        let kept = kept.collect::<Vec<_>>();
        (board, kept)
    }

    fn build(progress: BuildProgress) -> Event {
        Event::Build {
            image: "shop-web".into(),
            progress,
        }
    }

    fn step(index: u32) -> Event {
        build(BuildProgress::StepStarted {
            index,
            stage: None,
            instruction: "RUN npm run build".into(),
        })
    }

    fn output(text: &str) -> Event {
        build(BuildProgress::StepOutput {
            index: 1,
            stream: LogStream::Stdout,
            text: text.into(),
        })
    }

    fn started(steps: u32) -> Event {
        build(BuildProgress::Started {
            services: Vec::new(),
            steps,
        })
    }

    fn service(name: &str, progress: ServiceProgress) -> Event {
        Event::Service {
            service: ServiceName::new(name),
            progress,
        }
    }

    fn plan(services: &[(&str, PlannedAction)]) -> Event {
        let planned = |(name, action): &(&str, PlannedAction)| PlannedService {
            service: ServiceName::new(*name),
            action: *action,
            replicas: 2,
            strategy: None,
            changes: Vec::new(),
        };
        Event::Plan {
            services: services.iter().map(planned).collect(),
        }
    }

    #[test]
    fn a_build_shows_its_step_and_the_last_lines_of_its_output() {
        let mut events = vec![(0, started(3)), (1, step(1))];
        events.extend((1..=8).map(|n| (2, output(&format!("line {n}")))));
        events.push((2, output("50 %\r\x1b[31m100 %\x1b[0m\n")));
        let (board, kept) = board(&events);
        assert_eq!(kept, [""; 0]);
        insta::assert_snapshot!(board.live(20, 60, at(5)).join("\n"), @r"
        ⠋ build   shop-web               1/3 RUN npm run build  5 s
          │ line 5
          │ line 6
          │ line 7
          │ line 8
          │ 100 %
        ");
    }

    #[test]
    fn a_finished_build_is_one_line_and_a_new_step_forgets_the_output_of_the_last() {
        let done = |index, cached| {
            build(BuildProgress::StepDone {
                index,
                cached,
                elapsed_ms: 5,
            })
        };
        let events = [
            (0, started(2)),
            (0, step(1)),
            (0, output("noise")),
            (1, done(1, true)),
            (1, step(2)),
        ];
        let (mut board, _) = board(&events);
        assert_eq!(board.live(20, 60, at(1)).len(), 1);
        board.apply(&done(2, false), at(2));
        let digest = "sha256:0123".to_owned();
        let last = build(BuildProgress::Done {
            digest,
            elapsed_ms: 2100,
        });
        let kept = board.apply(&last, at(2));
        assert_eq!(
            kept,
            ["✓ build   shop-web               2 steps, 1 cached  2.1 s"]
        );
        assert_eq!(board.live(20, 60, at(2)), [""; 0]);
    }

    #[test]
    fn what_is_planned_waits_below_what_runs() {
        let replica = || "shop-web-7-1".to_owned();
        let plan = plan(&[
            ("db", PlannedAction::Keep),
            ("web", PlannedAction::Replace),
            ("worker", PlannedAction::Create),
        ]);
        let waiting = ServiceProgress::Waiting {
            dependency: ServiceName::new("web"),
        };
        let health = ServiceProgress::Health {
            replica: replica(),
            health: HealthState::Starting,
            detail: Some("connection refused".into()),
        };
        let events = [
            (0, plan),
            (1, service("worker", waiting)),
            (
                1,
                service("web", ServiceProgress::Starting { replica: replica() }),
            ),
            (3, service("web", health)),
        ];
        let (mut board, kept) = board(&events);
        assert_eq!(kept, ["· unchanged: db"]);
        insta::assert_snapshot!(board.live(20, 90, at(70)).join("\n"), @r"
        ⠋ service web                    shop-web-7-1 is not healthy yet: connection …  1 min 9 s
        · service worker                 waiting for web
        ");
        let kept = board.finish(true, at(71));
        assert_eq!(
            kept,
            ["✓ service web                    2 replicas  1 min 10 s"]
        );
    }

    #[test]
    fn going_back_forgets_what_was_planned() {
        let plan = plan(&[("web", PlannedAction::Create)]);
        let back = Event::Phase {
            phase: OperationPhase::RollBack,
        };
        let (board, kept) = board(&[(0, plan), (1, back)]);
        assert_eq!(kept, ["↩ rolling back"]);
        insta::assert_snapshot!(board.live(20, 60, at(1)).join("\n"), @"⠋ rolling back");
    }

    #[test]
    fn a_small_terminal_is_never_overfilled() {
        let names: Vec<String> = (0..30).map(|n| format!("service-{n}")).collect();
        let services: Vec<(&str, PlannedAction)> = names
            .iter()
            .map(|name| (&name[..], PlannedAction::Create))
            .collect();
        let (mut board, _) = board(&[(0, plan(&services)), (0, started(1)), (0, step(1))]);
        for n in 0..10 {
            board.apply(&output(&n.to_string()), at(1));
        }
        for (rows, columns) in [(1, 10), (2, 3), (5, 40), (16, 200)] {
            let lines = board.live(rows, columns, at(5));
            assert!(lines.len() <= rows, "{rows}: {lines:?}");
        }
        assert_eq!(board.live(5, 40, at(5))[4], "  … and 27 more");
    }
}
