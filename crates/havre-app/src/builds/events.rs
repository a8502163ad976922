//! What the builder says of a build, in the API's words.

use havre_api::{
    ApiError, BuildFailure, BuildProgress, ErrorCode, Event, EventSink, FailureReport, LogStream,
    SourceLocation,
};
use havre_image::builder::{BuildError, BuildEvent, Stream};
use havre_model::ServiceName;

use super::needed::NeededImage;
use crate::image_names;

/// The builder's news in the API's words.
pub(super) fn event_of(image: &str, services: &[ServiceName], event: BuildEvent) -> Option<Event> {
    let progress = match event {
        BuildEvent::Started { steps } => BuildProgress::Started {
            services: services.to_vec(),
            steps,
        },
        BuildEvent::Warning { line, message } => {
            let message = match line {
                Some(line) => format!("{image}: Dockerfile line {line}: {message}"),
                None => format!("{image}: {message}"),
            };
            return Some(Event::Warning {
                message,
                hint: None,
            });
        }
        BuildEvent::StepStarted {
            index,
            stage,
            instruction,
            ..
        } => BuildProgress::StepStarted {
            index,
            stage,
            instruction,
        },
        BuildEvent::StepOutput {
            index,
            stream,
            text,
        } => {
            let stream = match stream {
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
            };
            BuildProgress::StepOutput {
                index,
                stream,
                text,
            }
        }
        BuildEvent::StepDone {
            index,
            cached,
            elapsed_ms,
        } => BuildProgress::StepDone {
            index,
            cached,
            elapsed_ms,
        },
        BuildEvent::Done { digest, elapsed_ms } => BuildProgress::Done { digest, elapsed_ms },
    };
    Some(Event::Build {
        image: image.to_owned(),
        progress,
    })
}

pub(super) fn build_error(
    image: &str,
    needed: &NeededImage<'_>,
    error: &BuildError,
    events: &EventSink,
) -> ApiError {
    if matches!(error, BuildError::Cancelled) {
        return ApiError::new(
            ErrorCode::Cancelled,
            "the build was cancelled; nothing was changed",
        );
    }
    let exit_code = match error {
        BuildError::Failed { code, .. } => Some(*code),
        _ => None,
    };
    events.emit(Event::Failure {
        report: Box::new(FailureReport::Build(BuildFailure {
            image: image.to_owned(),
            services: needed.services.clone(),
            reason: havre_base::one_line(error),
            place: error.place().map(|(file, line)| SourceLocation {
                file: file.to_owned(),
                line,
                column: None,
            }),
            instruction: error.instruction().map(str::to_owned),
            exit_code,
            log: error.log().to_vec(),
            hint: error.hint(),
        })),
    });
    if error.refusal().is_some() {
        return image_names::build_error(error);
    }
    ApiError::new(
        ErrorCode::Failed,
        format!("image {image} cannot be built; nothing was changed"),
    )
}
