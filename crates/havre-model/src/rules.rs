//! Traps that a project's files may hold though nothing is wrong with them: what hurts later, why,
//! and what to do about it. Each finding has the rule's id as its code.
//!
//! Rules look at what the files mean ([`Project`]), at how it is written (the merged tree, for
//! places), and at the Dockerfiles. Where those do not tell, a rule is silent.

mod administration;
mod arguments;
mod commands;
mod data;
mod dockerfile;
mod environment;
mod health;
mod images;
mod line;
mod look;
mod migrations;
mod proxies;
mod rollouts;
mod secrets;
mod sources;

use crate::diagnostic::Severity;
use crate::interpolate::Variables;
use crate::project::Project;
use crate::report::Report;
use crate::yaml::Node;

use look::Look;

/// A trap that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable, e.g. `data/sqlite-outside-volume`; stands in `x-havre-ignore` to silence it.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it is, in a few words.
    pub title: &'static str,
    /// Why it hurts.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// Said once where it is true of every service, instead of once for each.
    pub of_all: Option<&'static str>,
}

/// Errors that leave the meaning of the files known: something beside them is not there, or the target
/// cannot do it. Traps are looked for all the same.
pub(crate) const SURROUNDINGS: &[&str] = &[
    "compose/missing-file",
    "compose/required-variable",
    "compose/unset-variable",
    "target/unsupported",
];

/// Every rule, in the order of their ids.
pub const RULES: &[Rule] = &[
    Rule {
        id: "commands/development-server",
        severity: Severity::Warning,
        title: "Development server in production",
        why: "Development servers serve one request at a time, show their innards to visitors, or restart whenever a file changes.",
        fix: "run a production server: gunicorn or uvicorn, `next start`, `node server.js`; switch debugging off",
        of_all: None,
    },
    Rule {
        id: "commands/scheduler-overlaps",
        severity: Severity::Warning,
        title: "Two schedulers at once",
        why: "New replicas start beside the old ones: for a while two schedulers run, and every job that comes due is queued twice.",
        fix: "set deploy.update_config.order to stop-first, with one replica",
        of_all: None,
    },
    Rule {
        id: "commands/worker-grace",
        severity: Severity::Warning,
        title: "Worker with little time to end",
        why: "A worker is killed when its grace period is over: a task that takes longer is lost or runs again.",
        fix: "set stop_grace_period to what the longest task takes",
        of_all: None,
    },
    Rule {
        id: "commands/worker-overlaps",
        severity: Severity::Note,
        title: "Workers of two releases at once",
        why: "New replicas start beside the old ones: for a while workers of both releases take tasks, and the old one may get a task that only the new one understands.",
        fix: "let tasks be understood by the release before, or set deploy.update_config.order to stop-first",
        of_all: None,
    },
    Rule {
        id: "data/broker-evicts",
        severity: Severity::Warning,
        title: "Broker that may throw tasks away",
        why: "With this policy Redis throws keys away when its memory is full, and queued tasks are keys.",
        fix: "use maxmemory-policy noeviction for a broker, and another Redis as a cache",
        of_all: None,
    },
    Rule {
        id: "data/database-overlaps",
        severity: Severity::Error,
        title: "Two database servers on one folder",
        why: "A database server takes its folder for its own: a second one on it, in a container of its own, does not see the first, and they destroy each other's files.",
        fix: "run one replica and set deploy.update_config.order to stop-first",
        of_all: None,
    },
    Rule {
        id: "data/database-published",
        severity: Severity::Warning,
        title: "Database open to everybody",
        why: "A database that anybody can connect to is found within hours.",
        fix: "remove the port: the other services reach it by its name; or publish it on 127.0.0.1",
        of_all: None,
    },
    Rule {
        id: "data/default-password",
        severity: Severity::Warning,
        title: "Administration page with a password that everybody knows",
        why: "Whoever finds such a page tries its usual password first, and then owns what it administers.",
        fix: "set a password of your own, or publish the port on 127.0.0.1 only",
        of_all: None,
    },
    Rule {
        id: "data/migrations-not-run",
        severity: Severity::Warning,
        title: "Migrations that no service runs",
        why: "The program expects the tables of its newest migration: a release fails, or loses data, when nobody has run it.",
        fix: "let each release run them once, before its replicas start: a `pre_start` hook, or a service that others wait for with service_completed_successfully",
        of_all: None,
    },
    Rule {
        id: "data/sqlite-outside-volume",
        severity: Severity::Warning,
        title: "SQLite outside a volume",
        why: "The file lies in the container's own layer: it is gone with the next release, and each replica has its own.",
        fix: "put it on a named volume, or use a database server",
        of_all: None,
    },
    Rule {
        id: "data/sqlite-shared",
        severity: Severity::Warning,
        title: "SQLite shared by several containers",
        why: "SQLite lets one writer in at a time: the others wait, and fail with `database is locked` when that takes long.",
        fix: "let one service with one replica use the file, or use a database server",
        of_all: None,
    },
    Rule {
        id: "data/starts-before-ready",
        severity: Severity::Warning,
        title: "Started before what it needs is ready",
        why: "It starts as soon as the other's process runs, which is before that takes connections.",
        fix: "depend on it with condition: service_healthy",
        of_all: None,
    },
    Rule {
        id: "environment/blank",
        severity: Severity::Warning,
        title: "Variable that is set, but to nothing",
        why: "Where a value is required, an empty one takes its place without a word: an empty password, an address without a host.",
        fix: "give it a value where it is set; require one with `${NAME:?}`, or allow none with `${NAME:-}`",
        of_all: None,
    },
    Rule {
        id: "images/bind-empty",
        severity: Severity::Note,
        title: "Mount of a folder that is not there",
        why: "The folder on this machine does not exist: an empty one is made when the service starts, as docker compose does.",
        fix: "make it, or correct the path",
        of_all: None,
    },
    Rule {
        id: "images/bind-missing",
        severity: Severity::Warning,
        title: "Mount of a file that is not there",
        why: "What is mounted does not exist: `havre up` refuses it. Docker makes an empty folder in its place, and the program that reads the file fails.",
        fix: "write the file, or correct the path",
        of_all: None,
    },
    Rule {
        id: "images/healthcheck-port",
        severity: Severity::Warning,
        title: "Health check of the image that asks another port",
        why: "A service inherits the health check of its image whatever command it runs: one that asks a port which the command does not serve always fails, and with it every release.",
        fix: "write a healthcheck for the service, or `healthcheck: {disable: true}`",
        of_all: None,
    },
    Rule {
        id: "images/healthcheck-program",
        severity: Severity::Warning,
        title: "Health check with a program that the image lacks",
        why: "A health check that cannot be run fails: the service never becomes healthy, and a release of it is given up.",
        fix: "install the program in the Dockerfile, or check with one that the image has",
        of_all: None,
    },
    Rule {
        id: "images/latest",
        severity: Severity::Warning,
        title: "Image without a version",
        why: "Nobody can tell which version runs, and a fetch may bring another one unasked.",
        fix: "name a version: `name:1.2.3`",
        of_all: None,
    },
    Rule {
        id: "images/local-address",
        severity: Severity::Error,
        title: "Address of the visitor's own machine in a page",
        why: "Bundlers write such variables into what visitors get: their browsers would then ask themselves, not the server.",
        fix: "give a path (`/api`) or the public address",
        of_all: None,
    },
    Rule {
        id: "images/no-healthcheck",
        severity: Severity::Warning,
        title: "No health check",
        why: "Without a health check a replica counts as ready as soon as its port takes connections, and one that hangs is never noticed.",
        fix: "add a healthcheck, to the service or to its image",
        of_all: None,
    },
    Rule {
        id: "images/public-variable-at-run-time",
        severity: Severity::Warning,
        title: "Public variable given at run time",
        why: "Such variables are written into the files that visitors get when the image is built; those given when it runs are not seen.",
        fix: "give them as build.args",
        of_all: None,
    },
    Rule {
        id: "images/root",
        severity: Severity::Note,
        title: "Runs as root",
        why: "A process that is root inside has more ways to break out, and what it writes to mounted folders belongs to root.",
        fix: "add a USER to the Dockerfile, or a `user` to the service",
        of_all: Some("every service runs as root"),
    },
    Rule {
        id: "images/tag-built-twice",
        severity: Severity::Warning,
        title: "One tag for different images",
        why: "Each build gives the tag to its own image: it means whichever was built last.",
        fix: "give each image a tag of its own",
        of_all: None,
    },
    Rule {
        id: "images/unused-argument",
        severity: Severity::Warning,
        title: "Build argument that reaches no step",
        why: "A build argument is seen only by a stage that declares it with ARG; without that it is dropped without a word.",
        fix: "say `ARG NAME` in the stage whose steps need it",
        of_all: None,
    },
    Rule {
        id: "limits/no-memory",
        severity: Severity::Note,
        title: "No memory limit",
        why: "One service that leaks takes the memory of all: the kernel ends whichever process it likes.",
        fix: "set deploy.resources.limits.memory, or mem_limit",
        of_all: Some("no service has a memory limit"),
    },
    Rule {
        id: "proxies/not-trusted",
        severity: Severity::Warning,
        title: "The proxy taken for every visitor",
        why: "A program that does not know of its proxy sees one address and plain HTTP: limits per visitor hit all at once, logs name nobody, and addresses that it makes begin with http.",
        fix: "tell the framework that one proxy is in front",
        of_all: None,
    },
    Rule {
        id: "rollouts/stops-first",
        severity: Severity::Note,
        title: "Stopped before its successor is ready",
        why: "A single replica that keeps a database on a volume is stopped before its successor starts, so that two never write at once. Requests wait meanwhile, as long as its last start took and a margin, or rollout.hold of havre.yaml.",
        fix: "keep what it writes elsewhere; or, where two may write at once, set deploy.update_config.order to start-first",
        of_all: None,
    },
    Rule {
        id: "secrets/in-clear",
        severity: Severity::Warning,
        title: "Secret in the compose file",
        why: "A secret in a compose file is in its history, in every copy and in every log of it.",
        fix: "keep it in a secret, or outside the file: `${NAME:?}` with a value in .env",
        of_all: None,
    },
];

/// The image that a build ends up on, where its Dockerfile tells.
pub(crate) fn base_image(build: &crate::project::Build) -> Option<String> {
    dockerfile::read(build)?.base
}

/// The stages of a build by their names, in their order, where its Dockerfile can be read.
pub(crate) fn stages(build: &crate::project::Build) -> Option<Vec<Option<String>>> {
    dockerfile::stage_names(build)
}

/// The rule of that id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

/// Looks for every trap.
pub(crate) fn look(project: &Project, tree: &Node, variables: &Variables, report: &mut Report) {
    // `images/bind-missing` says the same, with more to it, and can be silenced.
    report.drop_warnings("compose/missing-file");
    let subjects = look::subjects(project);
    let mut look = Look {
        project,
        tree,
        variables,
        subjects: &subjects,
        report,
        held: Vec::new(),
    };
    for subject in &subjects {
        administration::look(&mut look, subject);
        commands::look(&mut look, subject);
        data::look(&mut look, subject);
        environment::look(&mut look, subject);
        health::look(&mut look, subject);
        images::look(&mut look, subject);
        migrations::look(&mut look, subject);
        proxies::look(&mut look, subject);
        rollouts::look(&mut look, subject);
        secrets::look(&mut look, subject);
    }
    look.report_held();
}
