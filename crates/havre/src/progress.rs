//! Showing an operation while it runs.
//!
//! ```text
//! Event ─► Board (pure: what is known so far) ─► live: a few lines redrawn in place
//!      └─► plain: a line per event             ─► standard error
//! ```

use std::time::{Duration, Instant};

use havre_api::{
    Cancel, CancelRequest, Client, EnvironmentId, Event, FailureReport, Operation, OperationId,
    Progress, ServiceFailure, ServiceProgress,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Failure;
use crate::exit::Exit;
use crate::target::short_replica;
use crate::ui::Ui;

mod board;
pub mod failure;
mod live;
mod plain;

pub use plain::verb;

use live::Live;

/// How often the live view is redrawn.
const TICK: Duration = Duration::from_millis(100);

/// Runs an operation to its end, shows what it says, and passes the user's wish to stop on: the
/// first SIGINT or SIGTERM cancels, a second one leaves the operation to the daemon.
pub async fn follow<O: Operation>(
    client: &Client,
    ui: Ui,
    environment: &EnvironmentId,
    request: &O::Request,
) -> Result<O::Outcome, Failure> {
    follow_all::<O>(client, ui, Some(environment), request).await
}

/// The same of one that may be about several environments.
pub async fn follow_all<O: Operation>(
    client: &Client,
    ui: Ui,
    environment: Option<&EnvironmentId>,
    request: &O::Request,
) -> Result<O::Outcome, Failure> {
    let mut interrupts = Interrupts::new()?;
    let mut running = client.start::<O>(request).await?;
    let mut view = View::new(ui);
    let mut reports = Vec::new();
    let mut cancelled = false;
    let mut ticks = tokio::time::interval(TICK);
    let result = loop {
        tokio::select! {
            item = running.next() => match item {
                Ok(Progress::Event(mut event)) => {
                    if let Some(environment) = environment {
                        shorten(&mut event, environment);
                    }
                    view.show(&event);
                    if let Event::Failure { report } = event {
                        reports.push(*report);
                    }
                }
                Ok(Progress::Done(outcome)) => break Ok(outcome),
                Err(error) => break Err(Failure::from(error)),
            },
            () = interrupts.next() => {
                if cancelled {
                    break Err(detached());
                }
                cancelled = true;
                view.note("stopping and undoing; interrupt again to leave that to the daemon");
                if let Err(failure) = cancel(client, running.id()).await {
                    break Err(failure);
                }
            }
            _ = ticks.tick() => view.tick(),
        }
    };
    view.finish(result.is_ok());
    for report in &reports {
        ui.painted(&format!("{}\n", failure::render(report, ui.err)));
    }
    result.map_err(|failure| Failure { reports, ..failure })
}

/// Replicas get the names they have inside their environment: all lines are about one.
fn shorten(event: &mut Event, environment: &EnvironmentId) {
    let replica = match event {
        Event::Service { progress, .. } => match progress {
            ServiceProgress::Starting { replica }
            | ServiceProgress::Health { replica, .. }
            | ServiceProgress::Ready { replica, .. }
            | ServiceProgress::Draining { replica, .. }
            | ServiceProgress::Stopping { replica }
            | ServiceProgress::Stopped { replica } => replica,
            ServiceProgress::Waiting { .. }
            | ServiceProgress::Shifting
            | ServiceProgress::RollingBack
            | ServiceProgress::Done { .. } => return,
        },
        Event::Failure { report } => match &mut **report {
            FailureReport::Service(ServiceFailure {
                replica: Some(replica),
                ..
            }) => replica,
            _ => return,
        },
        _ => return,
    };
    *replica = short_replica(replica, environment).to_owned();
}

async fn cancel(client: &Client, operation: OperationId) -> Result<(), Failure> {
    match client.call::<Cancel>(&CancelRequest { operation }).await {
        Ok(_) => Ok(()),
        // It has just ended; its last words are on their way.
        Err(havre_api::ClientError::Refused(error))
            if error.code == havre_api::ErrorCode::NotFound =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn detached() -> Failure {
    Failure::new(
        Exit::Interrupted,
        "stopped watching; the daemon is still undoing the operation",
    )
    .hint("`havre status` shows how far it is")
}

/// The user's wish to stop.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Failed, "cannot listen to signals").caused_by(&error)
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The view that suits where standard error goes.
enum View {
    Live(Box<Live>),
    Plain(plain::Plain, Ui),
}

impl View {
    fn new(ui: Ui) -> Self {
        if ui.live() {
            Self::Live(Box::new(Live::new(ui.err, Instant::now())))
        } else {
            Self::Plain(plain::Plain::default(), ui)
        }
    }

    fn show(&mut self, event: &Event) {
        match self {
            Self::Live(live) => live.show(event, Instant::now()),
            Self::Plain(plain, ui) => {
                for line in plain.lines(event) {
                    ui.say(&line);
                }
                if let Event::Warning { message, hint } = event {
                    ui.warn(message, hint.as_deref());
                }
            }
        }
    }

    fn note(&mut self, text: &str) {
        match self {
            Self::Live(live) => live.note(text, Instant::now()),
            Self::Plain(_, ui) => ui.note(text),
        }
    }

    fn tick(&mut self) {
        if let Self::Live(live) = self {
            live.draw(Instant::now());
        }
    }

    fn finish(&mut self, well: bool) {
        if let Self::Live(live) = self {
            live.finish(well, Instant::now());
        }
    }
}
