//! An operation under way, and what it has told: its events as lines of text.

use havre_api::{
    ApiError, ErrorCode, Event, EventSource, FailureReport, JobProgress, ServiceProgress,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An operation under way.
pub(crate) struct Running<T> {
    pub(super) task: JoinHandle<Result<T, ApiError>>,
    pub(super) cancel: CancellationToken,
    pub(super) source: EventSource,
    pub(super) told: Vec<String>,
}

/// An operation that has ended.
#[derive(Debug)]
pub(crate) struct Told<T> {
    pub(crate) answer: Result<T, ApiError>,
    /// Its events.
    pub(crate) events: Vec<String>,
}

impl<T> Running<T> {
    /// Its user has had enough.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until it tells this.
    pub(crate) async fn until(&mut self, text: &str) {
        while let Some(event) = self.source.next().await {
            let line = line(&event);
            let found = line.contains(text);
            self.told.push(line);
            if found {
                return;
            }
        }
        panic!("it ended without {text:?}: {:#?}", self.told);
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Told<T> {
        while let Some(event) = self.source.next().await {
            self.told.push(line(&event));
        }
        Told {
            answer: self.task.await.expect("it does not panic"),
            events: self.told,
        }
    }
}

impl<T: std::fmt::Debug> Told<T> {
    /// What it came to.
    #[track_caller]
    pub(crate) fn done(self) -> T {
        match self.answer {
            Ok(done) => done,
            Err(error) => panic!("{error:?} after {:#?}", self.events),
        }
    }

    /// Why it did not do what was asked.
    #[track_caller]
    pub(crate) fn refused(&self, code: ErrorCode, message: &str) -> &ApiError {
        match &self.answer {
            Ok(done) => panic!("done: {done:?}"),
            Err(error) => {
                assert!(error.message.contains(message), "{error:?}");
                assert_eq!(error.code, code, "{error:?}");
                error
            }
        }
    }

    /// Whether it told of this, or of something that holds this.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.events.iter().any(|line| line.contains(text))
    }
}

/// An event in one line.
fn line(event: &Event) -> String {
    match event {
        Event::Phase { phase } => format!("phase {phase:?}"),
        Event::Plan { services } => {
            let services = services
                .iter()
                .map(|one| format!("{} {:?}", one.service, one.action));
            format!("plan {}", Vec::from_iter(services).join(", "))
        }
        Event::Warning { message, .. } => format!("warning: {message}"),
        Event::Failure { report } => match &**report {
            FailureReport::Service(one) => {
                format!(
                    "failure of {}: {}; {}",
                    one.service,
                    one.reason,
                    one.log.join("/")
                )
            }
            FailureReport::Job(one) => {
                format!(
                    "failure of job {}: {}; {}",
                    one.service,
                    one.reason,
                    one.log.join("/")
                )
            }
            FailureReport::Build(one) => format!("failure of build {}", one.image),
        },
        Event::Service { service, progress } => match progress {
            ServiceProgress::Ready { ready, wanted, .. } => {
                format!("{service} ready {ready}/{wanted}")
            }
            ServiceProgress::Starting { .. } => format!("{service} starting"),
            ServiceProgress::Stopping { .. } => format!("{service} stopping"),
            ServiceProgress::Stopped { .. } => format!("{service} stopped"),
            other => format!("{service} {other:?}"),
        },
        Event::Job { service, progress } => match progress {
            JobProgress::Started { command } => format!("job {service} runs {}", command.join(" ")),
            JobProgress::Done { .. } => format!("job {service} done"),
            JobProgress::Output { text, .. } => format!("job {service}: {text}"),
        },
        other => format!("{other:?}"),
    }
}
