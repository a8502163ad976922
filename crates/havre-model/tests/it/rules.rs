//! Every rule finds its trap, and is silent where it was avoided.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use havre_model::{Diagnostic, LoadOptions, Severity, advise, rules};

/// Rule, a compose file with the trap, one without.
const CASES: &[(&str, &str, &str)] = &[
    (
        "commands/development-server",
        "{web: {image: 'a:1', command: npm run dev}}",
        "{web: {image: 'a:1', command: node server.js, environment: {NODE_ENV: production}}}",
    ),
    (
        "commands/development-server",
        "{web: {image: 'a:1', environment: {FLASK_DEBUG: '1'}}}",
        "{web: {image: 'a:1', environment: {FLASK_DEBUG: '0'}}}",
    ),
    (
        "commands/development-server",
        "{web: {build: ./flask}}",
        "{web: {build: ./flask, command: gunicorn app}}",
    ),
    (
        "commands/development-server",
        "{web: {image: 'a:1', command: [sh, -c, 'python manage.py migrate && python manage.py runserver']}}",
        "{web: {image: 'a:1', command: [sh, -c, 'python manage.py migrate && gunicorn app --reload-engine=poll']}}",
    ),
    (
        "commands/development-server",
        "{web: {build: ./rails}}",
        "{web: {build: ./rails, environment: {RAILS_ENV: production}}}",
    ),
    (
        "commands/scheduler-overlaps",
        "{jobs: {image: 'a:1', command: supercronic /etc/crontab, deploy: {replicas: 2, update_config: {order: stop-first}}}}",
        "{jobs: {image: 'a:1', command: supercronic /etc/crontab, volumes: ['data:/var/log']}}",
    ),
    (
        "commands/scheduler-overlaps",
        "{beat: {image: 'a:1', command: celery -A x beat, deploy: {update_config: {order: start-first}}}}",
        "{beat: {image: 'a:1', command: celery -A x beat}}",
    ),
    (
        "commands/worker-grace",
        "{worker: {image: 'a:1', command: celery -A x worker}}",
        "{worker: {image: 'a:1', command: celery -A x worker, stop_grace_period: 2m}}",
    ),
    (
        "commands/worker-grace",
        "{worker: {build: ./sidekiq}}",
        "{worker: {build: ./sidekiq, stop_grace_period: 30s}}",
    ),
    (
        "commands/worker-overlaps",
        "{worker: {image: 'a:1', command: bundle exec sidekiq, deploy: {replicas: 2}}}",
        "{worker: {image: 'a:1', command: bundle exec sidekiq}}",
    ),
    (
        "data/broker-evicts",
        "{redis: {image: 'r:7', command: redis-server /redis.conf, volumes: ['./evicts.conf:/redis.conf']}, w: {image: 'a:1', command: rq worker, environment: {REDIS_URL: 'redis://redis/0'}}}",
        "{redis: {image: 'r:7', command: redis-server /redis.conf, volumes: ['./evicts.conf:/redis.conf']}, w: {image: 'a:1', command: rq worker, environment: {REDIS_URL: 'redis://redis-tasks/0', CACHE_URL: 'redis://redis/0'}}, redis-tasks: {image: 'r:7'}}",
    ),
    (
        "data/broker-evicts",
        "{redis: {build: ./redis}, w: {image: 'a:1', environment: {BROKER: 'redis://redis'}}}",
        "{redis: {build: ./redis, command: redis-server --maxmemory-policy noeviction}, w: {image: 'a:1', environment: {BROKER: 'redis://redis'}}}",
    ),
    (
        "data/broker-evicts",
        "{redis: {image: 'r:7', command: redis-server --maxmemory-policy allkeys-lru}, w: {image: 'a:1', environment: {CELERY_BROKER_URL: 'redis://redis:6379'}}}",
        "{redis: {image: 'r:7', command: redis-server --maxmemory-policy noeviction}, w: {image: 'a:1', environment: {CELERY_BROKER_URL: 'redis://redis:6379'}}}",
    ),
    (
        "data/database-overlaps",
        "{db: {image: 'p:16', volumes: ['./here:/var/lib/postgresql/data'], deploy: {update_config: {order: start-first}}}}",
        "{db: {image: 'p:16', volumes: ['./here:/var/lib/postgresql/data']}}",
    ),
    (
        "data/database-overlaps",
        "{db: {image: 'p:16', volumes: ['data:/var/lib/mysql'], deploy: {replicas: 2}}}",
        "{backup: {image: 'p:16', volumes: ['data:/var/lib/mysql:ro'], deploy: {replicas: 2}}}",
    ),
    (
        "data/database-published",
        "{db: {image: 'p:16', ports: ['5432:5432']}}",
        "{db: {image: 'p:16', ports: ['127.0.0.1:5432:5432']}}",
    ),
    (
        "data/default-password",
        "{ui: {image: 'grafana/grafana:11', ports: ['3000:3000']}}",
        "{ui: {image: 'grafana/grafana:11', ports: ['3000:3000'], environment: {GF_SECURITY_ADMIN_PASSWORD: '${FULL}'}}}",
    ),
    (
        "data/default-password",
        "{mq: {image: 'rabbitmq:4-management', ports: ['5672:5672', '15672:15672'], environment: {RABBITMQ_DEFAULT_PASS: guest}}}",
        "{mq: {image: 'rabbitmq:4-management', ports: ['5672:5672']}}",
    ),
    (
        "data/default-password",
        "{ui: {image: 'dpage/pgadmin4:9', ports: ['80:80'], environment: {PGADMIN_DEFAULT_PASSWORD: '${PASSWORD:-admin}'}}}",
        "{ui: {image: 'dpage/pgadmin4:9', ports: ['80:80'], environment: {PGADMIN_DEFAULT_PASSWORD: '${FULL}', PGADMIN_DEFAULT_EMAIL: admin}}}",
    ),
    (
        "data/default-password",
        "{flower: {image: 'a:1', command: celery -A x flower, ports: ['5555:5555']}}",
        "{flower: {image: 'a:1', command: celery -A x flower --basic-auth=me:xkcd, ports: ['5555:5555']}}",
    ),
    (
        "data/migrations-not-run",
        "{web: {build: ./alembic}}",
        "{web: {build: ./alembic, pre_start: [{command: alembic upgrade head}]}}",
    ),
    (
        "data/migrations-not-run",
        "{web: {build: ./alembic, command: gunicorn app}}",
        "{web: {build: ./alembic, command: gunicorn app}, migrate: {build: ./alembic, command: ./migrate.sh}}",
    ),
    (
        "data/migrations-not-run",
        "{web: {build: ./prisma, command: npm start}}",
        "{web: {build: ./prisma, command: npm run release}}",
    ),
    (
        "data/migrations-not-run",
        "{web: {build: ./django, command: gunicorn app}}",
        "{web: {build: ./django, command: [sh, -c, 'python manage.py migrate && gunicorn app']}}",
    ),
    (
        "data/sqlite-outside-volume",
        "{web: {image: 'a:1', environment: {DATABASE_URL: 'sqlite:////data/app.db'}}}",
        "{web: {image: 'a:1', environment: {DATABASE_URL: 'sqlite:////data/app.db'}, volumes: ['data:/data']}}",
    ),
    (
        "data/sqlite-outside-volume",
        "{web: {image: 'a:1', environment: {DB: './app.sqlite3'}, volumes: ['data:/data:ro', './evicts.conf:/x.conf'], working_dir: /app}}",
        "{web: {image: 'a:1', environment: {DB: './data/app.sqlite3'}, volumes: ['data:/app/data']}}",
    ),
    (
        "data/sqlite-shared",
        "{web: {image: 'a:1', environment: {DB: 'sqlite:////data/app.db'}, volumes: ['data:/data']}, w: {image: 'a:1', working_dir: /srv, environment: {DB: 'sqlite:///db/app.db'}, volumes: ['data:/srv/db']}}",
        "{web: {image: 'a:1', environment: {DB: 'sqlite:////data/app.db'}, volumes: ['data:/data']}, w: {image: 'a:1', environment: {DB: 'sqlite:////data/own.db'}, volumes: ['data:/data']}}",
    ),
    (
        "data/sqlite-shared",
        "{web: {image: 'a:1', environment: {DB: 'sqlite:////data/app.db'}, volumes: ['data:/data'], deploy: {replicas: 2}}}",
        "{web: {image: 'a:1', environment: {DB: 'sqlite:////data/app.db'}, volumes: ['data:/data'], deploy: {replicas: 1}}}",
    ),
    (
        "data/starts-before-ready",
        "{db: {image: 'p:16', healthcheck: {test: 'true'}}, web: {image: 'a:1', depends_on: [db]}}",
        "{db: {image: 'p:16', healthcheck: {test: 'true'}}, web: {image: 'a:1', depends_on: {db: {condition: service_healthy}}}}",
    ),
    (
        "environment/blank",
        "{web: {image: 'a:1', environment: {PASSWORD: '${EMPTY}'}}}",
        "{web: {image: 'a:1', environment: {PASSWORD: '${EMPTY:-}', B: '${FULL}', C: '', D: '$$EMPTY'}}}",
    ),
    (
        "environment/blank",
        "{web: {image: 'a:1', environment: ['URL=redis://:$EMPTY@redis']}}",
        "{web: {image: 'a:1', environment: ['URL=redis://:${EMPTY-}@redis', FULL]}}",
    ),
    (
        "environment/blank",
        "{web: {build: {context: ./here, args: [EMPTY]}}}",
        "{web: {build: {context: ./here, args: [FULL, UNSET]}}}",
    ),
    (
        "images/bind-empty",
        "{web: {image: 'a:1', volumes: ['./nowhere:/x']}}",
        "{web: {image: 'a:1', volumes: ['./here:/x']}}",
    ),
    (
        "images/bind-missing",
        "{web: {image: 'a:1', volumes: ['./nginx.conf:/etc/nginx/nginx.conf']}}",
        "{web: {image: 'a:1', volumes: ['./evicts.conf:/redis.conf', './conf.d:/etc/conf.d']}}",
    ),
    (
        "images/healthcheck-port",
        "{web: {build: ./probed, command: gunicorn --bind 0.0.0.0:8000 app}}",
        "{web: {build: ./probed, command: gunicorn --bind 0.0.0.0:5000 app}}",
    ),
    (
        "images/healthcheck-port",
        "{worker: {build: ./probed, command: celery -A x worker}}",
        "{worker: {build: ./probed, command: celery -A x worker, healthcheck: {disable: true}}}",
    ),
    (
        "images/healthcheck-program",
        "{web: {image: 'python:3.12-slim', healthcheck: {test: curl -f http://127.0.0.1 || exit 1}}}",
        "{web: {image: 'python:3.12', healthcheck: {test: curl -f http://127.0.0.1 || exit 1}}}",
    ),
    (
        "images/healthcheck-program",
        "{web: {build: ./here, healthcheck: {test: 'true'}}}",
        "{web: {build: ./here, healthcheck: {test: [CMD, /app, check]}}}",
    ),
    (
        "images/healthcheck-program",
        "{web: {build: ./flask, healthcheck: {test: [CMD, wget, -q, 'http://127.0.0.1']}}}",
        "{web: {build: ./flask, healthcheck: {test: [CMD, curl, -f, 'http://127.0.0.1']}}}",
    ),
    (
        "images/latest",
        "{a: {image: 'ours/app:latest'}, b: {build: ./flask, image: 'ours/other'}}",
        "{a: {image: 'ours/app:latest'}, b: {build: ./flask, image: ours/app}}",
    ),
    (
        "images/latest",
        "{web: {build: ./latest}}",
        "{web: {build: {context: ./latest, target: pinned}}}",
    ),
    (
        "images/latest",
        "{web: {image: 'registry.test:5000/a'}}",
        "{web: {image: 'registry.test:5000/a:1'}}",
    ),
    (
        "images/local-address",
        "{web: {build: {context: ./next, args: {NEXT_PUBLIC_API: 'http://localhost:5000'}}}}",
        "{web: {build: {context: ./next, args: {NEXT_PUBLIC_API: /api}}}}",
    ),
    (
        "images/local-address",
        "{web: {build: {context: ./next, target: built}}}",
        "{web: {build: {context: ./next, target: built, args: {NEXT_PUBLIC_API: 'https://example.org', NEXT_PUBLIC_HOME: /}}}}",
    ),
    (
        "images/local-address",
        "{web: {build: ./vite}}",
        "{web: {build: ./here}}",
    ),
    (
        "images/no-healthcheck",
        "{web: {build: ./here, ports: ['80:80']}}",
        "{web: {build: ./checked, ports: ['80:80']}}",
    ),
    (
        "images/public-variable-at-run-time",
        "{web: {build: ./here, environment: {NEXT_PUBLIC_API: /api}}}",
        "{web: {build: {context: ./here, args: {NEXT_PUBLIC_API: /api}}, environment: {NEXT_PUBLIC_API: /api}}}",
    ),
    (
        "images/public-variable-at-run-time",
        "{web: {build: ./vite, environment: {VITE_API: /api}}}",
        "{web: {build: ./vite, environment: {API: /api}}}",
    ),
    (
        "images/root",
        "{web: {build: ./rails}}",
        "{web: {build: ./rails, user: '1000'}}",
    ),
    (
        "images/root",
        "{web: {build: ./flask, user: root}}",
        "{web: {build: ./flask}}",
    ),
    (
        "images/root",
        "{web: {build: ./php, command: php artisan queue:work}}",
        "{web: {build: ./php}}",
    ),
    (
        "images/root",
        "{web: {build: ./redis, entrypoint: [sh]}}",
        "{web: {build: ./redis}}",
    ),
    (
        "images/tag-built-twice",
        "{a: {build: {context: ./here, tags: ['ours:1']}}, b: {build: {context: ./flask, tags: ['ours:1']}}}",
        "{a: {build: {context: ./here, tags: ['ours:1']}}, b: {build: {context: ./here, tags: ['ours:1', 'more:1']}}}",
    ),
    (
        "images/unused-argument",
        "{web: {build: {context: ./here, args: {NEXT_PUBLIC_API: /api}}, environment: {NEXT_PUBLIC_API: /api}}}",
        "{web: {build: {context: ./next, args: {NEXT_PUBLIC_API: /api, TAG: '22', HTTP_PROXY: 'http://proxy:1', BUILDKIT_INLINE_CACHE: '1'}}}}",
    ),
    (
        "limits/no-memory",
        "{web: {image: 'a:1'}}",
        "{web: {image: 'a:1', mem_limit: 64m}}",
    ),
    (
        "proxies/not-trusted",
        "{web: {build: ./express, ports: ['80:80']}}",
        "{web: {build: ./express}, other: {image: 'a:1', ports: ['80:80']}}",
    ),
    (
        "proxies/not-trusted",
        "{web: {build: ./alembic, ports: ['80:80']}}",
        "{web: {build: ./proxyfix, ports: ['80:80']}}",
    ),
    (
        "proxies/not-trusted",
        "{web: {build: ./django, ports: ['80:80']}}",
        "{web: {build: ./here, ports: ['80:80']}}",
    ),
    (
        "proxies/not-trusted",
        "{web: {build: ./fastapi, ports: ['80:80'], command: uvicorn a:app}}",
        "{web: {build: ./fastapi, ports: ['80:80'], command: uvicorn a:app, environment: {FORWARDED_ALLOW_IPS: '*'}}}",
    ),
    (
        "rollouts/stops-first",
        "{web: {image: 'a:1', ports: ['80:80'], volumes: ['data:/data'], environment: {DATABASE_URL: 'sqlite:////data/app.db'}}}",
        "{web: {image: 'a:1', ports: ['80:80'], volumes: ['data:/uploads']}}",
    ),
    (
        "rollouts/stops-first",
        "{web: {image: 'couchdb:3', ports: ['80:80'], volumes: ['data:/opt/couchdb/data']}, db: {image: 'p:16'}}",
        "{web: {image: 'a:1', ports: ['80:80'], volumes: ['data:/uploads:ro']}, db: {image: 'p:16', volumes: ['data:/var/lib/postgresql/data']}}",
    ),
    (
        "secrets/in-clear",
        "{a: {image: 'a:1', environment: {MYSQL_ROOT_PASSWORD: hunter2}}}",
        "{a: {image: 'a:1', environment: {PASSWORD_RESET_DISABLED: '1', MYSQL_RANDOM_ROOT_PASSWORD: 'yes', MYSQL_ALLOW_EMPTY_PASSWORD: 'true', CONNECT_KEY_CONVERTER: org.example.StringConverter}}}",
    ),
    (
        "secrets/in-clear",
        "{web: {image: 'a:1', environment: {DB_PASSWORD: hunter2}}}",
        "{web: {image: 'a:1', environment: {DB_PASSWORD: '${DB_PASSWORD:-hunter2}', DB_PASSWORD_FILE: /run/secrets/db}}}",
    ),
];

/// Files beside the compose file.
const FILES: &[(&str, &str)] = &[
    ("here/Dockerfile", "FROM scratch\n"),
    ("php/Dockerfile", "FROM php:8.3-apache\n"),
    ("checked/Dockerfile", "FROM scratch\nHEALTHCHECK CMD true\n"),
    (
        "flask/Dockerfile",
        "FROM python:3.12-slim\nRUN apt-get install -y curl\nUSER web\nCMD [\"flask\", \"--app=a\", \"run\"]\n",
    ),
    (
        "rails/Dockerfile",
        "FROM ruby:3.4\nENV RAILS_ENV=development\nCMD [\"puma\"]\n",
    ),
    (
        "sidekiq/Dockerfile",
        "FROM ruby:3.4\nCMD bundle exec sidekiq\n",
    ),
    (
        "redis/Dockerfile",
        "FROM debian:12\nCOPY entrypoint.sh /bin/\nCOPY redis.conf /etc/redis.conf\n\
         ENTRYPOINT [\"entrypoint.sh\"]\nCMD [\"redis-server\", \"/etc/redis.conf\"]\n",
    ),
    (
        "redis/entrypoint.sh",
        "#!/bin/sh\nexec setpriv --reuid=redis \"$@\"\n",
    ),
    (
        "redis/redis.conf",
        "maxmemory 1gb\nmaxmemory-policy volatile-lru\n",
    ),
    (
        "latest/Dockerfile",
        "FROM a:1 AS pinned\nFROM debian\nCOPY --from=pinned /x /x\n",
    ),
    ("evicts.conf", "maxmemory-policy allkeys-lru\n"),
    ("alembic/Dockerfile", "FROM a:1\n"),
    (
        "alembic/migrations/versions/0001_start.py",
        "revision = 1\n",
    ),
    (
        "alembic/app.py",
        "from flask import Flask\napp = Flask(__name__)\n",
    ),
    (
        "proxyfix/app.py",
        "from flask import Flask\napp = Flask(__name__)\napp.wsgi_app = ProxyFix(app.wsgi_app)\n",
    ),
    ("proxyfix/Dockerfile", "FROM a:1\n"),
    ("django/Dockerfile", "FROM a:1\n"),
    ("django/shop/migrations/0001_initial.py", ""),
    (
        "django/site/settings.py",
        "INSTALLED_APPS = []\nROOT_URLCONF = 'site.urls'\n",
    ),
    ("prisma/Dockerfile", "FROM a:1\n"),
    ("prisma/prisma/migrations/1/migration.sql", ""),
    (
        "prisma/package.json",
        r#"{"scripts": {"start": "node .", "release": "prisma migrate deploy && node ."}}"#,
    ),
    (
        "probed/Dockerfile",
        "FROM a:1\nHEALTHCHECK --interval=5s CMD curl -f http://localhost:5000/ || exit 1\n",
    ),
    (
        "next/Dockerfile",
        "ARG TAG\nFROM node:$TAG AS built\nARG NEXT_PUBLIC_API NEXT_PUBLIC_HOME=http://127.0.0.1\n\
         FROM a:1\nARG NEXT_PUBLIC_API\n",
    ),
    ("vite/Dockerfile", "FROM a:1\nRUN npm run build\n"),
    ("vite/.env", "VITE_API=\"http://localhost:5000\"\n"),
    ("express/Dockerfile", "FROM a:1\n"),
    (
        "express/src/server.mjs",
        "import express from 'express'\nconst app = express()\n",
    ),
    ("fastapi/Dockerfile", "FROM a:1\n"),
    ("fastapi/a.py", "app = FastAPI()\n"),
];

fn project(services: &str, more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let text = format!("{more}\nservices: {services}\nvolumes: {{data: {{}}}}\n");
    fs::write(folder.path().join("compose.yaml"), text).unwrap();
    folder
}

fn findings(folder: &Path) -> Vec<Diagnostic> {
    let loaded = advise(&LoadOptions {
        directory: folder.to_owned(),
        variables: [("EMPTY", ""), ("FULL", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..LoadOptions::default()
    });
    match loaded {
        Ok(loaded) => loaded.warnings,
        Err(failure) => failure.errors.into_iter().chain(failure.warnings).collect(),
    }
}

/// Codes of the rules' findings.
fn found(services: &str, more: &str) -> BTreeSet<&'static str> {
    let folder = project(services, more);
    let mut codes = BTreeSet::new();
    for finding in findings(folder.path()) {
        let Some(rule) = rules::rule(finding.code) else {
            assert!(finding.severity != Severity::Error, "{services}\n{finding}");
            continue;
        };
        assert!(finding.location.is_some(), "{finding}");
        assert_eq!(finding.severity, rule.severity, "{finding}");
        codes.insert(finding.code);
    }
    codes
}

#[test]
fn every_rule_finds_its_trap_and_only_that() {
    for (rule, trap, avoided) in CASES {
        assert!(found(trap, "").contains(rule), "{rule}: {trap}");
        assert!(!found(avoided, "").contains(rule), "{rule}: {avoided}");
        let silenced = format!("x-havre-ignore: [{rule}]");
        assert!(!found(trap, &silenced).contains(rule), "{rule}: silenced");
    }
    let tested: BTreeSet<&str> = CASES.iter().map(|(rule, ..)| *rule).collect();
    let all: BTreeSet<&str> = rules::RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(tested, all);
    assert!(rules::RULES.is_sorted_by_key(|rule| rule.id));
}

#[test]
fn the_example_has_none_of_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root.join("examples/french-novel-tool")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "secrets" {
            let path = entry.path().canonicalize().unwrap();
            symlink(path, folder.path().join(entry.file_name())).unwrap();
        }
    }
    // Made by whoever uses the example.
    fs::create_dir(folder.path().join("secrets")).unwrap();
    fs::write(folder.path().join("secrets/db_password.txt"), "x").unwrap();
    let texts: Vec<String> = findings(folder.path())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(texts.is_empty(), "{}", texts.join("\n"));
}

#[test]
fn what_is_missing_beside_the_files_does_not_hide_the_traps() {
    let services = "{web: {build: ./absent, ports: ['5432:5432'], env_file: none.env}}";
    let folder = project(services, "");
    let findings = findings(folder.path());
    let codes: Vec<_> = findings.iter().map(|f| (f.severity, f.code)).collect();
    assert!(
        codes.contains(&(Severity::Error, "compose/missing-file")),
        "{codes:?}"
    );
    assert!(
        codes.contains(&(Severity::Note, "limits/no-memory")),
        "{codes:?}"
    );
}

#[test]
fn what_is_true_of_every_service_is_told_once() {
    let about = |services: &str| -> Vec<(String, u32)> {
        let folder = project(services, "");
        let findings = findings(folder.path()).into_iter();
        let limits = findings.filter(|finding| finding.code == "limits/no-memory");
        let shown = |one: Diagnostic| (one.message, one.location.unwrap().column);
        limits.map(shown).collect()
    };
    let of_all = about("{a: {image: 'a:1'}, b: {image: 'b:1'}, c: {image: 'c:1'}}");
    assert_eq!(of_all, [("no service has a memory limit".to_owned(), 1)]);
    let of_some = about("{a: {image: 'a:1'}, b: {image: 'b:1'}, c: {image: 'c:1', mem_limit: 1g}}");
    let names: Vec<&str> = of_some.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(
        names,
        ["`a` has no memory limit", "`b` has no memory limit"]
    );
    let silenced = "{a: {image: 'a:1'}, b: {image: 'b:1', x-havre-ignore: [limits/no-memory]}}";
    assert_eq!(about(silenced).len(), 1);
    assert_eq!(about("{a: {image: 'a:1'}}")[0].0, "`a` has no memory limit");
}

#[test]
fn a_finding_in_a_dockerfile_shows_its_line() {
    let folder = project(
        "{a: {build: ./latest}, b: {build: ./latest}, c: {build: ./flask}}",
        "",
    );
    let shown = |code: &str| -> Vec<String> {
        let findings = findings(folder.path());
        let of_rule = findings.into_iter().filter(|finding| finding.code == code);
        let place = |finding: Diagnostic| {
            let place = finding.location.unwrap();
            format!(
                "{}:{}: {}",
                place.file.display(),
                place.line,
                place.line_text
            )
        };
        of_rule.map(place).collect()
    };
    // Once, though two services are built from it.
    assert_eq!(shown("images/latest"), ["latest/Dockerfile:2: FROM debian"]);
    assert_eq!(
        shown("commands/development-server"),
        ["flask/Dockerfile:4: CMD [\"flask\", \"--app=a\", \"run\"]"]
    );
}

#[test]
fn a_missing_file_is_told_once_and_as_a_file() {
    let folder = project("{web: {image: 'a:1', volumes: ['./nginx.conf:/x']}}", "");
    let about: Vec<_> = findings(folder.path())
        .into_iter()
        .filter(|finding| finding.message.contains("nginx.conf"))
        .collect();
    let [finding] = &about[..] else {
        panic!("{about:?}");
    };
    assert!(finding.message.contains("a file that"), "{finding}");
    assert_eq!(finding.location.as_ref().unwrap().column, 42, "{finding}");
}

#[test]
fn many_notes_neither_crowd_warnings_out_nor_become_some() {
    let many: Vec<String> = (0..250)
        .map(|i| format!("s{i}: {{image: 'a:1'}}"))
        .collect();
    let services = format!("{{{}, zz: {{image: a, mem_limit: 1g}}}}", many.join(", "));
    let folder = project(&services, "");
    let findings = findings(folder.path());
    assert!(
        findings
            .iter()
            .any(|finding| finding.code == "images/latest")
    );
    let last = findings.last().unwrap();
    assert_eq!((last.code, last.severity), ("compose/more", Severity::Note));
}
