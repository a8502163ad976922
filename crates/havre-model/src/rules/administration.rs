//! Pages from which everything can be done, open to everybody with a password that everybody knows.

use super::look::{Look, Subject};
use crate::image_name::ImageName;

/// An administration page.
struct Page {
    /// The last part of its image's name.
    image: &'static str,
    /// Where it listens.
    port: u16,
    /// Variables that set its password; one that ends with `_FILE` names a file.
    variables: &'static [&'static str],
    without: Without,
}

/// What a page asks for while no variable sets its password.
#[derive(Clone, Copy)]
enum Without {
    /// Nothing.
    Nothing,
    /// A password that is the same everywhere.
    Usual,
    /// It does not start, or nobody can log in.
    Closed,
}

const PAGES: [Page; 11] = [
    Page {
        image: "flower",
        port: 5555,
        variables: &["FLOWER_BASIC_AUTH", "FLOWER_AUTH_PROVIDER"],
        without: Without::Nothing,
    },
    Page {
        image: "grafana",
        port: 3000,
        variables: &[
            "GF_SECURITY_ADMIN_PASSWORD",
            "GF_SECURITY_ADMIN_PASSWORD__FILE",
        ],
        without: Without::Usual,
    },
    Page {
        image: "grafana-oss",
        port: 3000,
        variables: &[
            "GF_SECURITY_ADMIN_PASSWORD",
            "GF_SECURITY_ADMIN_PASSWORD__FILE",
        ],
        without: Without::Usual,
    },
    Page {
        image: "keycloak",
        port: 8080,
        variables: &["KC_BOOTSTRAP_ADMIN_PASSWORD", "KEYCLOAK_ADMIN_PASSWORD"],
        without: Without::Closed,
    },
    Page {
        image: "minio",
        port: 9001,
        variables: &["MINIO_ROOT_PASSWORD", "MINIO_ROOT_PASSWORD_FILE"],
        without: Without::Usual,
    },
    Page {
        image: "mongo-express",
        port: 8081,
        variables: &[
            "ME_CONFIG_BASICAUTH_PASSWORD",
            "ME_CONFIG_BASICAUTH_PASSWORD_FILE",
        ],
        without: Without::Usual,
    },
    Page {
        image: "neo4j",
        port: 7474,
        variables: &["NEO4J_AUTH"],
        without: Without::Usual,
    },
    Page {
        image: "pgadmin4",
        port: 80,
        variables: &["PGADMIN_DEFAULT_PASSWORD", "PGADMIN_DEFAULT_PASSWORD_FILE"],
        without: Without::Closed,
    },
    Page {
        image: "rabbitmq",
        port: 15672,
        variables: &["RABBITMQ_DEFAULT_PASS", "RABBITMQ_DEFAULT_PASS_FILE"],
        without: Without::Usual,
    },
    Page {
        image: "redis-commander",
        port: 8081,
        variables: &["HTTP_PASSWORD", "HTTP_PASSWORD_FILE", "HTTP_PASSWORD_HASH"],
        without: Without::Nothing,
    },
    Page {
        image: "redisinsight",
        port: 5540,
        variables: &["RI_APP_PASSWORD"],
        without: Without::Nothing,
    },
];
/// Passwords that are tried first.
const KNOWN: [&str; 16] = [
    "",
    "123456",
    "12345678",
    "admin",
    "admin123",
    "changeit",
    "changeme",
    "default",
    "example",
    "guest",
    "minioadmin",
    "neo4j",
    "pass",
    "password",
    "root",
    "secret",
];

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let Some(page) = page(subject) else { return };
    if !is_open(look, subject, page.port) {
        return;
    }
    let name = subject.name;
    let set = page
        .variables
        .iter()
        .find_map(|variable| Some((*variable, subject.variable(variable)?)));
    let first = page.variables[0];
    match (set, page.without) {
        (Some((variable, value)), _) if is_known(variable, value) => {
            let message =
                format!("`{name}` is open to everybody, and {variable} is what everybody tries");
            let place = ["environment", variable];
            look.found("data/default-password", subject, &place, message);
        }
        (Some(_), _) | (None, Without::Closed) => {}
        (None, Without::Usual) => {
            let message = format!(
                "`{name}` is open to everybody with its usual password: nothing sets {first}"
            );
            look.found("data/default-password", subject, &["ports"], message);
        }
        (None, Without::Nothing) => {
            let message =
                format!("`{name}` is open to everybody without a password: nothing sets {first}");
            look.found("data/default-password", subject, &["ports"], message);
        }
    }
}

/// The page that a service is, by its image or by its command.
fn page(subject: &Subject<'_>) -> Option<&'static Page> {
    let line = &subject.line;
    let of_image = |image: &str| {
        let path = ImageName::new(image).path;
        path.rsplit('/').next().unwrap_or(path).to_owned()
    };
    let name = match &subject.service.image {
        _ if line.runs("celery", "flower") => "flower".to_owned(),
        Some(image) if subject.service.build.is_none() => of_image(image),
        _ => return None,
    };
    let with_password = |word: &str| {
        word.starts_with("--basic-auth")
            || word.starts_with("--basic_auth")
            || word.starts_with("--auth")
    };
    if name == "flower" && line.words().any(with_password) {
        return None;
    }
    PAGES.iter().find(|page| page.image == name)
}

/// Anybody reaches the port: it is published on more than the loopback interface, or a route leads
/// to it.
fn is_open(look: &Look<'_>, subject: &Subject<'_>, port: u16) -> bool {
    let published = subject.service.ports.iter().any(|published| {
        let address = published.host_ip.as_deref().unwrap_or_default();
        let local = address.starts_with("127.") || address == "::1";
        published.target == port && published.published.is_some() && !local
    });
    let mut routes = look.project.routes.iter();
    published || routes.any(|route| route.service == *subject.name && route.port == port)
}

/// `user:password` and `user/password` count by what stands behind.
fn is_known(variable: &str, value: &str) -> bool {
    let password = value.rsplit([':', '/']).next().unwrap_or(value);
    let is_file = variable.ends_with("_FILE") || variable.ends_with("_PROVIDER");
    !is_file && KNOWN.contains(&password.to_ascii_lowercase().as_str())
}
