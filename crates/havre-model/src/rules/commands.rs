//! What services run.

use std::time::Duration;

use super::{Look, command_line};
use crate::project::{Service, ServiceName, UpdateOrder};

/// What development servers are started with.
const DEVELOPMENT: [&str; 9] = [
    "flask run",
    "next dev",
    "nodemon",
    "npm run dev",
    "pnpm dev",
    "manage.py runserver",
    "--reload",
    "vite dev",
    "yarn dev",
];
/// Variables that switch development on, with the values that do.
const SWITCHES: [(&str, &[&str]); 3] = [
    ("FLASK_DEBUG", &["1", "true", "True"]),
    ("FLASK_ENV", &["development"]),
    ("NODE_ENV", &["development"]),
];
/// What docker compose waits where nothing is said.
const USUAL_GRACE: Duration = Duration::from_secs(10);

pub fn look(look: &mut Look<'_>, name: &ServiceName, service: &Service) {
    let line = command_line(service);
    if let Some(found) = DEVELOPMENT.iter().find(|known| line.contains(**known)) {
        let message = format!("`{name}` runs a development server (`{found}`)");
        look.found("commands/development-server", name, &["command"], message);
    }
    for (variable, values) in SWITCHES {
        let value = service.environment.get(variable);
        if value.is_some_and(|value| values.contains(&value.as_str())) {
            let message = format!("`{name}` runs for development: {variable} says so");
            let path = ["environment", variable];
            look.found("commands/development-server", name, &path, message);
        }
    }
    let celery = |what: &str| line.contains("celery") && line.split(' ').any(|word| word == what);
    if celery("worker") && service.stop_grace_period <= USUAL_GRACE {
        let seconds = service.stop_grace_period.as_secs();
        let message = format!("the tasks of worker `{name}` have {seconds} s to end");
        look.found(
            "commands/worker-grace",
            name,
            &["stop_grace_period"],
            message,
        );
    }
    if celery("beat") && service.update.order != Some(UpdateOrder::StopFirst) {
        let message = format!("scheduler `{name}` overlaps with its successor");
        let path = ["deploy", "update_config"];
        look.found("commands/scheduler-overlaps", name, &path, message);
    }
}
