//! Programs behind the proxy: whose address and scheme they believe.

use super::look::{Look, Subject};
use super::sources::Sources;

/// A web framework, and how it is told of a proxy.
struct Framework {
    name: &'static str,
    /// One source file holds all texts of one of these.
    used: &'static [&'static [&'static str]],
    /// Texts in the source, the command or a variable's name that show it was thought of.
    told: &'static [&'static str],
    /// What to do.
    fix: &'static str,
}

const FRAMEWORKS: [Framework; 4] = [
    Framework {
        name: "Flask",
        used: &[
            &["from flask import", "Flask("],
            &["import flask", "flask.Flask("],
        ],
        told: &["ProxyFix", "X-Forwarded-For", "HTTP_X_FORWARDED_FOR"],
        fix: "wrap the application: `app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)` \
              (werkzeug.middleware.proxy_fix)",
    },
    Framework {
        name: "Django",
        used: &[&["INSTALLED_APPS", "ROOT_URLCONF"]],
        told: &[
            "SECURE_PROXY_SSL_HEADER",
            "HTTP_X_FORWARDED_FOR",
            "X-Forwarded-For",
        ],
        fix: "set `SECURE_PROXY_SSL_HEADER = (\"HTTP_X_FORWARDED_PROTO\", \"https\")`, and let what limits \
              rates or logs take the last address of X-Forwarded-For",
    },
    Framework {
        name: "Express",
        used: &[
            &["require('express')", "express()"],
            &["require(\"express\")", "express()"],
            &["from 'express'", "express()"],
            &["from \"express\"", "express()"],
        ],
        told: &["trust proxy", "x-forwarded-for"],
        fix: "say `app.set('trust proxy', 1)`: one proxy is in front",
    },
    Framework {
        name: "uvicorn",
        used: &[&["FastAPI("], &["Starlette("]],
        told: &[
            "FORWARDED_ALLOW_IPS",
            "--forwarded-allow-ips",
            "forwarded_allow_ips",
            "ProxyHeadersMiddleware",
            "x-forwarded-for",
        ],
        fix: "give it FORWARDED_ALLOW_IPS=* in its environment, or `--forwarded-allow-ips='*'`: only the \
              proxy reaches it",
    },
];

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let name = subject.name;
    let routed = look
        .project
        .routes
        .iter()
        .any(|route| route.service == *name);
    let (true, Some(sources)) = (routed, subject.sources.as_deref()) else {
        return;
    };
    if !sources.is_whole() {
        return;
    }
    let found = FRAMEWORKS
        .iter()
        .find(|framework| is_used(framework, sources) && !is_told(framework, subject, sources));
    if let Some(framework) = found {
        let message = format!(
            "`{name}` ({}) takes the proxy for every visitor: one address, and http",
            framework.name
        );
        look.found_with("proxies/not-trusted", subject, &[], message, framework.fix);
    }
}

fn is_used(framework: &Framework, sources: &Sources) -> bool {
    let mut ways = framework.used.iter();
    ways.any(|texts| sources.mention_together(texts))
}

fn is_told(framework: &Framework, subject: &Subject<'_>, sources: &Sources) -> bool {
    framework.told.iter().any(|told| {
        let mut words = subject.line.words();
        sources.mention(told)
            || words.any(|word| word.starts_with(told))
            || subject.variable(told).is_some()
    })
}
