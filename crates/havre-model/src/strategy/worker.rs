//! What workers and schedulers are called and started with.

use crate::project::{Service, ServiceName};

/// Parts of a service's name.
const NAMES: [&str; 11] = [
    "beat",
    "celery",
    "consumer",
    "cron",
    "queue",
    "scheduler",
    "sidekiq",
    "worker",
    "workers",
    "celerybeat",
    "jobs",
];
/// Words that a command line has, all of them, in this order.
const COMMANDS: [&[&str]; 14] = [
    &["celery", "worker"],
    &["celery", "beat"],
    &["rq", "worker"],
    &["rqscheduler"],
    &["dramatiq"],
    &["huey_consumer"],
    &["sidekiq"],
    &["resque"],
    &["good_job"],
    &["queue:work"],
    &["schedule:work"],
    &["qcluster"],
    &["crond"],
    &["supercronic"],
];

pub(super) fn looks_like_one(name: &ServiceName, service: &Service) -> bool {
    let parts = name.as_str().split(['-', '_', '.']);
    parts
        .map(str::to_ascii_lowercase)
        .any(|part| NAMES.contains(&part.as_str()))
        || is_run_like_one(service)
}

fn is_run_like_one(service: &Service) -> bool {
    let words: Vec<&str> = service
        .entrypoint
        .iter()
        .chain(&service.command)
        .flatten()
        .flat_map(|argument| argument.split_whitespace())
        .map(|word| word.rsplit('/').next().unwrap_or(word))
        .collect();
    COMMANDS.iter().any(|command| {
        let mut rest = words.iter();
        command.iter().all(|wanted| rest.any(|word| word == wanted))
    })
}
