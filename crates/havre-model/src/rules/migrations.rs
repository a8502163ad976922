//! Migrations of a database's tables that nothing runs.

use super::look::{Look, Subject};
use super::sources::Sources;
use crate::project::ServiceName;

/// What makes migrations, and how they are run.
struct Tool {
    name: &'static str,
    /// Whether a path of the build context is one of its migrations.
    is_migration: fn(&str) -> bool,
    /// The command that runs them.
    command: &'static str,
    /// Source files that run them themselves hold all texts of one of these.
    in_code: &'static [&'static [&'static str]],
}

const TOOLS: [Tool; 8] = [
    Tool {
        name: "Alembic",
        is_migration: |path| path.contains("/versions/") && path.ends_with(".py"),
        command: "alembic upgrade head",
        in_code: &[&["command.upgrade("], &["flask_migrate", "upgrade("]],
    },
    Tool {
        name: "Django",
        is_migration: |path| path.contains("migrations/0001_") && path.ends_with(".py"),
        command: "python manage.py migrate --noinput",
        in_code: &[&["call_command(\"migrate\""], &["call_command('migrate'"]],
    },
    Tool {
        name: "Prisma",
        is_migration: |path| path.contains("prisma/migrations/"),
        command: "npx prisma migrate deploy",
        in_code: &[&["prisma migrate deploy"]],
    },
    Tool {
        name: "Knex",
        is_migration: |path| path.starts_with("knexfile."),
        command: "npx knex migrate:latest",
        in_code: &[&["migrate.latest("]],
    },
    Tool {
        name: "Sequelize",
        is_migration: |path| path == ".sequelizerc",
        command: "npx sequelize-cli db:migrate",
        in_code: &[&["umzug"], &["Umzug("]],
    },
    Tool {
        name: "Drizzle",
        is_migration: |path| path.ends_with("meta/_journal.json"),
        command: "npx drizzle-kit migrate",
        in_code: &[&["/migrator"]],
    },
    Tool {
        name: "Rails",
        is_migration: |path| path.contains("db/migrate/") && path.ends_with(".rb"),
        command: "bin/rails db:prepare",
        in_code: &[],
    },
    Tool {
        name: "Laravel",
        is_migration: |path| path.contains("database/migrations/") && path.ends_with(".php"),
        command: "php artisan migrate --force",
        in_code: &[],
    },
];
/// What commands that run migrations have in common, in small letters.
const RUN_BY: [&str; 6] = [
    "alembic upgrade",
    "db upgrade",
    "db push",
    "db:prepare",
    "db:setup",
    "migrat",
];

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let Some(sources) = subject.sources.as_deref() else {
        return;
    };
    let Some((tool, path)) = tool(sources) else {
        return;
    };
    // One word for all services that are built from one folder, to the first of them.
    let context = |of: &Subject<'_>| Some(of.service.build.as_ref()?.context.clone());
    let here = context(subject);
    let first = look.subjects.iter().find(|other| context(other) == here);
    let first = first.map(|first| first.name);
    if first != Some(subject.name) || !sources.is_whole() || are_run(look, tool) {
        return;
    }
    let name = subject.name;
    let message = format!(
        "`{name}` has migrations ({}, {path}), and no service runs them",
        tool.name
    );
    let fix = format!(
        "let each release run them once, before its replicas start: `pre_start: [{{command: {}}}]`",
        tool.command
    );
    look.found_with("data/migrations-not-run", subject, &[], message, &fix);
}

fn tool(sources: &Sources) -> Option<(&'static Tool, &str)> {
    TOOLS.iter().find_map(|tool| {
        let path = sources.find(tool.is_migration)?;
        Some((tool, path))
    })
}

/// Whether any service of the project runs migrations: by its name, a command, a hook, a script that
/// they call, or in its own code.
fn are_run(look: &Look<'_>, tool: &Tool) -> bool {
    look.subjects.iter().any(|subject| {
        let service = subject.service;
        let hooks = service.pre_start.iter().chain(&service.post_start);
        let hooks = hooks.map(|hook| hook.command.join(" "));
        let line = subject.line.words().collect::<Vec<_>>().join(" ");
        let mut commands = hooks.chain([line.clone(), look.scripts(subject)]);
        let in_code = |sources: &Sources| {
            let mut ways = tool.in_code.iter();
            ways.any(|texts| sources.mention_together(texts))
        };
        is_named_so(subject.name)
            || commands.any(|command| runs(&command))
            || runs(&package_scripts(look, subject, &line))
            || subject.sources.as_deref().is_some_and(in_code)
    })
}

fn is_named_so(name: &ServiceName) -> bool {
    name.as_str().to_ascii_lowercase().contains("migrat")
}

fn runs(command: &str) -> bool {
    let command = command.to_ascii_lowercase();
    RUN_BY.iter().any(|known| command.contains(known))
}

/// What the scripts of package.json run that a command names.
fn package_scripts(look: &Look<'_>, subject: &Subject<'_>, line: &str) -> String {
    let managers = ["npm", "pnpm", "yarn", "bun"];
    if !subject.line.programs().any(|name| managers.contains(&name)) {
        return String::new();
    }
    let build = subject.service.build.as_ref();
    let text = build
        .and_then(|build| super::dockerfile::small_file(&build.context.join("package.json")))
        .or_else(|| look.file(subject, "package.json"));
    let package: Option<serde_json::Value> = text.and_then(|text| serde_json::from_str(&text).ok());
    let scripts = package
        .as_ref()
        .and_then(|package| package.get("scripts")?.as_object());
    let named = |name: &str| {
        let name = name.strip_prefix("pre").unwrap_or(name);
        line.split_whitespace().any(|word| word == name)
    };
    let texts = scripts
        .into_iter()
        .flatten()
        .filter(|(name, _)| named(name))
        .filter_map(|(_, text)| text.as_str());
    texts.collect::<Vec<_>>().join("\n")
}
