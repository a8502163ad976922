//! What services run.

use std::time::Duration;

use super::line::Line;
use super::look::{Look, Subject};

/// What development servers are started with: words that follow one another.
const DEVELOPMENT: [&str; 32] = [
    "--reload",
    "artisan serve",
    "astro dev",
    "bun dev",
    "bun run dev",
    "cargo watch",
    "dotnet watch",
    "gatsby develop",
    "hugo server",
    "jekyll serve",
    "manage.py runserver",
    "mkdocs serve",
    "nest start --watch",
    "next dev",
    "ng serve",
    "node --watch",
    "nodemon",
    "npm run dev",
    "npm run start:dev",
    "nuxt dev",
    "php -S",
    "pnpm dev",
    "pnpm run dev",
    "react-scripts start",
    "ts-node-dev",
    "tsx watch",
    "vite dev",
    "vite serve",
    "webpack serve",
    "webpack-dev-server",
    "yarn dev",
    "yarn run dev",
];
/// Words that mean so only as the program itself.
const DEVELOPMENT_PROGRAMS: [&str; 1] = ["air"];
/// Variables that switch development on, with the values that do, in small letters.
const SWITCHES: [(&str, &[&str]); 12] = [
    ("APP_DEBUG", YES),
    ("APP_ENV", &["dev", "development", "local"]),
    ("ASPNETCORE_ENVIRONMENT", &["development"]),
    ("DEBUG", YES),
    ("DJANGO_DEBUG", YES),
    ("DOTNET_ENVIRONMENT", &["development"]),
    ("FLASK_DEBUG", YES),
    ("FLASK_ENV", &["development"]),
    ("MIX_ENV", &["dev"]),
    ("NODE_ENV", &["development"]),
    ("RACK_ENV", &["development"]),
    ("RAILS_ENV", &["development"]),
];
const YES: &[&str] = &["1", "on", "true", "yes"];
/// What docker compose waits where nothing is said.
const USUAL_GRACE: Duration = Duration::from_secs(10);

/// Programs that take tasks from a queue.
const WORKERS: [&str; 14] = [
    "artisan horizon",
    "artisan queue:work",
    "arq",
    "delayed_job",
    "dramatiq",
    "faktory-worker",
    "good_job",
    "huey_consumer",
    "huey_consumer.py",
    "jobs:work",
    "resque:work",
    "rq worker",
    "sidekiq",
    "solid_queue:start",
];
/// Programs that start tasks when they come due.
const SCHEDULERS: [&str; 9] = [
    "artisan schedule:run",
    "artisan schedule:work",
    "clockwork",
    "cron -f",
    "crond",
    "ofelia",
    "rqscheduler",
    "supercronic",
    "sidekiq-scheduler",
];

/// What takes tasks from a queue, if the service does.
pub(super) fn worker(line: &Line) -> Option<&'static str> {
    if line.runs("celery", "worker") {
        return Some("celery worker");
    }
    WORKERS.into_iter().find(|known| line.has(known))
}

/// What works unseen, if the service does: nobody connects to it.
pub(super) fn background(line: &Line) -> Option<&'static str> {
    worker(line).or_else(|| scheduler(line))
}

fn scheduler(line: &Line) -> Option<&'static str> {
    let celery = ["beat", "-B", "--beat"];
    if celery.iter().any(|word| line.runs("celery", word)) {
        return Some("celery beat");
    }
    SCHEDULERS.into_iter().find(|known| line.has(known))
}

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let name = subject.name;
    development(look, subject);
    if subject.is_job {
        return;
    }
    if let Some(kind) = scheduler(&subject.line) {
        let replicas = subject.service.replicas;
        let path = ["deploy", "update_config"];
        if replicas > 1 {
            let message = format!("`{name}` runs {replicas} schedulers (`{kind}`)");
            look.found("commands/scheduler-overlaps", subject, &["deploy"], message);
        } else if subject.overlaps() {
            let message = format!("scheduler `{name}` (`{kind}`) overlaps with its successor");
            look.found("commands/scheduler-overlaps", subject, &path, message);
        }
    }
    if let Some(kind) = worker(&subject.line) {
        let grace = subject.service.stop_grace_period;
        if grace <= USUAL_GRACE {
            let seconds = grace.as_secs();
            let message =
                format!("the tasks of worker `{name}` (`{kind}`) have {seconds} s to end");
            look.found(
                "commands/worker-grace",
                subject,
                &["stop_grace_period"],
                message,
            );
        }
        if subject.overlaps() && scheduler(&subject.line).is_none() {
            let message = format!("worker `{name}` (`{kind}`) overlaps with its successor");
            let path = ["deploy", "update_config"];
            look.found("commands/worker-overlaps", subject, &path, message);
        }
    }
}

fn development(look: &mut Look<'_>, subject: &Subject<'_>) {
    let (name, line) = (subject.name, &subject.line);
    let found = DEVELOPMENT
        .into_iter()
        .find(|known| line.has(known))
        .or_else(|| line.runs("flask", "run").then_some("flask run"))
        .or_else(|| {
            let mut known = DEVELOPMENT_PROGRAMS.into_iter();
            known.find(|known| line.programs().any(|program| program == *known))
        });
    if let Some(found) = found {
        let message = format!("`{name}` runs a development server (`{found}`)");
        look.found_in_line("commands/development-server", subject, message);
    }
    for (variable, values) in SWITCHES {
        let Some(value) = subject.variable(variable) else {
            continue;
        };
        if !values.contains(&value.to_ascii_lowercase().as_str()) {
            continue;
        }
        let message = format!("`{name}` runs for development: {variable} is {value}");
        let id = "commands/development-server";
        let recipe = subject.recipe.as_ref();
        match recipe.and_then(|recipe| recipe.environment.get(variable)) {
            Some(said) if !subject.service.environment.contains_key(variable) => {
                look.found_in_dockerfile(id, subject, said.line, message);
            }
            _ => look.found(id, subject, &["environment", variable], message),
        }
    }
}
