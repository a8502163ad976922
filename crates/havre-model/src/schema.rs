//! Every key of `havre.yaml`: what the reader takes, and what editors are told of it as a JSON
//! Schema. A key is added in one place: an entry below, read in `settings.rs`.

use serde_json::{Map, Value, json};

use crate::keys::{Key, Section, Support};

pub mod machine;

/// Where the documents can be fetched from.
const FOLDER: &str = "https://github.com/havre/havre/raw/main/docs";

/// One key.
#[derive(Clone, Copy, Debug)]
struct Described {
    name: &'static str,
    shape: Shape,
    text: &'static str,
    /// In JSON.
    example: &'static str,
}

/// What a key may hold.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// A text of this pattern, or a number that reads like one.
    Text {
        pattern: &'static str,
        longest: u32,
    },
    /// A file, relative to the folder of havre.yaml.
    File,
    Port,
    Truth,
    /// This one word.
    Word(&'static str),
    /// A number, or a text of this pattern.
    Number(&'static str),
    /// One, or a list that is not empty.
    OneOrMany(&'static Shape),
    /// A list that is not empty.
    Many(&'static Shape),
    List(&'static Mapping),
    Mapping(&'static Mapping),
    /// Names of one's own, of this pattern, each with such a mapping or nothing.
    Named {
        pattern: &'static str,
        each: &'static Mapping,
    },
    Either(&'static [Shape]),
    /// Names of one's own, each with a text.
    Pairs,
}

/// The keys of one kind of mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    /// As the reader checks it.
    pub section: Section,
    keys: &'static [Described],
    required: &'static [&'static str],
    /// At most one of them.
    exclusive: &'static [&'static str],
}

const DOMAIN: Shape = Shape::Text {
    pattern: "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
    longest: 253,
};

const COMPOSE: Described = Described {
    name: "compose",
    shape: Shape::OneOrMany(&Shape::File),
    text: "Compose files, each laid over those before it. Without it: those that docker compose would find.",
    example: r#"["docker-compose.yml", "docker-compose.prod.yml"]"#,
};
const DOMAIN_KEY: Described = Described {
    name: "domain",
    shape: Shape::OneOrMany(&DOMAIN),
    text: "The domain that requests are served for, without scheme, port and path. Default: <project>.localhost; \
           in an environment: its name before the project's domain.",
    example: r#""shop.example.org""#,
};
const DOMAINS: Described = Described {
    name: "domains",
    shape: Shape::OneOrMany(&DOMAIN),
    text: "Several domains, in place of `domain`.",
    example: r#"["shop.example.org", "www.shop.example.org"]"#,
};
const ENV_FILE: Described = Described {
    name: "env_file",
    shape: Shape::OneOrMany(&Shape::File),
    text: "Files with variables for the compose files, beside .env; later ones win, and an environment's come last.",
    example: r#""prod.env""#,
};
const ROUTES: Described = Described {
    name: "routes",
    shape: Shape::List(&ROUTE),
    text: "Which service answers which requests; the longest path wins. Without it the front end and the back end \
           are found by their names and ports.",
    example: r#"[{"path": "/", "service": "frontend", "port": 3000}, {"path": "/api", "service": "backend", "port": 5000}]"#,
};
const TLS_KEY: Described = Described {
    name: "tls",
    shape: Shape::Either(&[
        Shape::Word("acme"),
        Shape::Word("local"),
        Shape::Mapping(&TLS),
    ]),
    text: "The certificate: `acme`, from an authority of the machine's configuration (Let's Encrypt where that names \
           none), `local`, from this machine's own, or files. Default: `acme` for names of the internet, `local` \
           for others.",
    example: r#"{"certificate": "./tls/chain.pem", "key": "./tls/key.pem"}"#,
};

const NETWORKS: Described = Described {
    name: "networks",
    shape: Shape::Named {
        pattern: "^(?!x-)[A-Za-z0-9][A-Za-z0-9._-]*$",
        each: &NETWORK,
    },
    text: "What a compose file cannot say of its networks. What an environment says of a network comes before what \
           the top of the file says.",
    example: r#"{"proxy": {"shared": true}}"#,
};

const NETWORK_KEYS: [Described; 1] = [Described {
    name: "shared",
    shape: Shape::Truth,
    text: "Whether it is the machine's network of that name (the compose file's `name`, else its key), on which every \
           environment that says so, or has it as an `external` one, reaches the others; it is made where there is \
           none. Default: false, a network of the environment alone.",
    example: "true",
}];

const ROLLOUT_KEY: Described = Described {
    name: "rollout",
    shape: Shape::Mapping(&ROLLOUT),
    text: "How the environment moves from one release to the next, and what makes it go back. What an environment \
           does not say is as at the top of the file.",
    example: r#"{"strategy": "canary", "steps": ["5%", "25%"], "step": "1m", "bake": "30s"}"#,
};

const SERVICES: Described = Described {
    name: "services",
    shape: Shape::Named {
        pattern: "^(?!x-)[A-Za-z0-9][A-Za-z0-9._-]*$",
        each: &SERVICE,
    },
    text: "What a compose file cannot say of its services. What an environment says of a service comes before what \
           the top of the file says.",
    example: r#"{"backend": {"liveness": {"test": "curl -f localhost:5000/live"}}}"#,
};

const TOP_KEYS: [Described; 12] = [
    Described {
        name: "build",
        shape: Shape::Mapping(&BUILD),
        text: "How images are built.",
        example: r#"{"host_ca": "auto"}"#,
    },
    COMPOSE,
    DOMAIN_KEY,
    DOMAINS,
    ENV_FILE,
    Described {
        name: "environments",
        shape: Shape::Named {
            pattern: "^(?!x-)[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
            each: &ENVIRONMENT,
        },
        text: "Environments beside production, for `-E NAME`; each with containers, a network and volumes of its own.",
        example: r#"{"staging": {"domain": "staging.example.org"}}"#,
    },
    Described {
        name: "name",
        shape: Shape::Text {
            pattern: "^[a-z0-9][a-z0-9_-]*$",
            longest: 63,
        },
        text: "The project's name. Default: the compose file's, else the folder's.",
        example: r#""shop""#,
    },
    NETWORKS,
    ROLLOUT_KEY,
    ROUTES,
    SERVICES,
    TLS_KEY,
];

const ENVIRONMENT_KEYS: [Described; 16] = [
    Described {
        name: "approval",
        shape: Shape::Either(&[Shape::Truth, Shape::Mapping(&APPROVAL)]),
        text: "Who has to agree before a release comes in: `true`, one who may deploy there, or who and how many.",
        example: r#"{"by": ["anna", "admins"], "count": 1, "not_author": true}"#,
    },
    Described {
        name: "branch",
        shape: Shape::OneOrMany(&LINE),
        text: "The branches that deploy there: names, or patterns with `*` (no `/`) and `**`.",
        example: r#""main""#,
    },
    COMPOSE,
    DOMAIN_KEY,
    DOMAINS,
    Described {
        name: "e2e",
        shape: LINE,
        text: "A workflow or command that has to have passed where the release comes from; the run that tests it reports \
               so, or `havre env report`.",
        example: r#""e2e.yml""#,
    },
    ENV_FILE,
    Described {
        name: "freeze",
        shape: Shape::List(&FREEZE),
        text: "Times in which nothing new comes in: between two dates, or every week.",
        example: r#"[{"from": "2026-12-20", "to": "2027-01-02", "reason": "holidays"}, {"from": "fri 16:00", "to": "mon 08:00", "timezone": "Europe/Berlin"}]"#,
    },
    Described {
        name: "needs",
        shape: Shape::OneOrMany(&ENVIRONMENT_NAME),
        text: "Environments that stand above this one, in each of which the same images have to have served.",
        example: r#""staging""#,
    },
    NETWORKS,
    Described {
        name: "previews",
        shape: Shape::Either(&[Shape::Truth, Shape::Mapping(&PREVIEWS)]),
        text: "Whether each branch has an environment of its own by this name and the branch's, into which jobs with \
               this environment get; removed with the branch, or some time after its last job.",
        example: r#"{"after": "3d", "most": 5}"#,
    },
    ROLLOUT_KEY,
    ROUTES,
    SERVICES,
    TLS_KEY,
    Described {
        name: "wait",
        shape: DURATION,
        text: "How long a release waits since somebody asked for it. At most 30d.",
        example: r#""10m""#,
    },
];

/// One line.
const LINE: Shape = Shape::Text {
    pattern: "",
    longest: 200,
};
const ENVIRONMENT_NAME: Shape = Shape::Text {
    pattern: "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
    longest: 40,
};

const APPROVAL_KEYS: [Described; 3] = [
    Described {
        name: "by",
        shape: Shape::OneOrMany(&LINE),
        text: "Who may: people and tokens as `havre releases` shows them (`anna`, `token ops`, `github:anna`), \
               `deployers`, `admins`. Default: whoever may deploy there.",
        example: r#"["anna", "admins"]"#,
    },
    Described {
        name: "count",
        shape: Shape::Number("^[0-9]+$"),
        text: "How many different ones. Default: 1.",
        example: "2",
    },
    Described {
        name: "not_author",
        shape: Shape::Truth,
        text: "Whether neither who asked for it nor who pushed it counts. Default: false.",
        example: "true",
    },
];

const PREVIEWS_KEYS: [Described; 2] = [
    Described {
        name: "after",
        shape: DURATION,
        text: "How long one stays after the last job that got into it. From 1m to 30d. Default: 3d.",
        example: r#""3d""#,
    },
    Described {
        name: "most",
        shape: Shape::Number("^[0-9]+$"),
        text: "How many there are at once, at most. From 1 to 50. Default: 10.",
        example: "5",
    },
];

/// `2026-12-20`, `2026-12-20T18:00`, `fri 16:00`
const MOMENT: Shape = Shape::Text {
    pattern: "^([0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{1,2}:[0-9]{1,2})?|[A-Za-z]{3,9} +[0-9]{1,2}:[0-9]{1,2})$",
    longest: 32,
};

const FREEZE_KEYS: [Described; 4] = [
    Described {
        name: "from",
        shape: MOMENT,
        text: "Its beginning: a date, a date and a time, or of every week a day and a time.",
        example: r#""2026-12-20""#,
    },
    Described {
        name: "reason",
        shape: LINE,
        text: "Why, for those who have to wait.",
        example: r#""holidays""#,
    },
    Described {
        name: "timezone",
        shape: Shape::Text {
            pattern: "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z][A-Za-z0-9_+-]*)*$",
            longest: 200,
        },
        text: "The time zone of its clock, by its IANA name. Default: UTC.",
        example: r#""Europe/Berlin""#,
    },
    Described {
        name: "to",
        shape: MOMENT,
        text: "Its end, of the same kind as `from`; a date alone is part of it.",
        example: r#""2027-01-02""#,
    },
];

/// `1m30s`
const DURATION: Shape = Shape::Text {
    pattern: "^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+$",
    longest: 64,
};
/// `2.5%`
const SHARE: Shape = Shape::Text {
    pattern: "^[0-9]{1,3}([.][0-9])? *%$",
    longest: 16,
};

const ROLLOUT_KEYS: [Described; 10] = [
    Described {
        name: "bake",
        shape: DURATION,
        text: "How long a new release is watched when it has all requests; the old replicas wait meanwhile. Default: \
               the longest deploy.update_config.monitor, else 10s.",
        example: r#""30s""#,
    },
    Described {
        name: "drain_timeout",
        shape: DURATION,
        text: "Requests and streams of a replica that leaves are given up after this. Default: 30s.",
        example: r#""2m""#,
    },
    Described {
        name: "hold",
        shape: DURATION,
        text: "How long requests wait for a service whose replica had to end before the next one starts; then they are \
               answered with 503. At most 10m. Default: drain_timeout and stop_grace_period of the one that ends, one \
               and a half times as long as the last start, and 15s; 30s at least.",
        example: r#""2m""#,
    },
    Described {
        name: "max_errors",
        shape: SHARE,
        text: "So many more requests may fail than with the release before. Default: 1%.",
        example: r#""0.5%""#,
    },
    Described {
        name: "max_slowdown",
        shape: Shape::Number("^[0-9]+([.][0-9]{1,2})?x?$"),
        text: "So many times the latency of the release before is borne (95th percentile). Default: 3.",
        example: "2.5",
    },
    Described {
        name: "on_failure",
        shape: Shape::Either(&[Shape::Word("rollback"), Shape::Word("pause")]),
        text: "What becomes of a rollout that fails: the release before serves again, or it is paused until \
               `havre rollout abort` or `havre rollout resume`. Default: rollback, or what deploy.update_config.failure_action says.",
        example: r#""pause""#,
    },
    Described {
        name: "ready_timeout",
        shape: DURATION,
        text: "How long a replica may take until it is ready. Default: 5m, or as long as a service's own healthcheck \
               bears.",
        example: r#""90s""#,
    },
    Described {
        name: "step",
        shape: DURATION,
        text: "How long each share of a canary is watched. Default: 30s.",
        example: r#""1m""#,
    },
    Described {
        name: "steps",
        shape: Shape::Many(&SHARE),
        text: "The shares of the visitors that a canary gets, one after the other. Default: 5%, 25%, 50%.",
        example: r#"["5%", "25%", "50%"]"#,
    },
    Described {
        name: "strategy",
        shape: Shape::Either(&[Shape::Word("blue-green"), Shape::Word("canary")]),
        text: "How requests move to a new release: all at once when every service is ready, or a share of the \
               visitors first. Default: blue-green.",
        example: r#""canary""#,
    },
];

/// [`crate::Allow`]
const ALLOW: Shape = Shape::Either(&[
    Shape::Word("capabilities"),
    Shape::Word("devices"),
    Shape::Word("docker-socket"),
    Shape::Word("host-ipc"),
    Shape::Word("host-network"),
    Shape::Word("host-paths"),
    Shape::Word("host-pid"),
    Shape::Word("privileged"),
]);

const SERVICE_KEYS: [Described; 4] = [
    Described {
        name: "allow",
        shape: Shape::OneOrMany(&ALLOW),
        text: "What the service may have of the machine where its compose file asks for it: capabilities \
           (`cap_add` of SYS_ADMIN and others that hand the machine over), devices (`devices`), docker-socket (a mount of the socket), host-ipc (`ipc: host`), host-network (`network_mode: host`), \
           host-paths (mounts of folders by which the machine can be taken over), host-pid (`pid: host`), \
           privileged (`privileged: true`). Whoever may change such a service owns the machine. Default: nothing.",
        example: r#"["devices"]"#,
    },
    Described {
        name: "environment",
        shape: Shape::Named {
            pattern: "^[A-Za-z_][A-Za-z0-9_]*$",
            each: &VARIABLE,
        },
        text: "Variables whose values are secrets, for programs that read no files. The value is in the environment of \
           the service's processes alone: no answer of Havre, no log and no record has it. It takes the place of \
           what the compose file says of the variable.",
        example: r#"{"DB_PASSWORD": {"secret": "db-password"}}"#,
    },
    Described {
        name: "liveness",
        shape: Shape::Mapping(&LIVENESS),
        text: "A second probe, in the form of a compose `healthcheck`: a replica that fails it is replaced. The health \
           check then only decides whether a replica gets requests; without `liveness` it decides both.",
        example: r#"{"test": ["CMD", "curl", "-f", "localhost:5000/live"], "interval": "10s"}"#,
    },
    Described {
        name: "secrets",
        shape: Shape::Mapping(&SECRETS),
        text: "What becomes of the service's replicas when its secrets change.",
        example: r#"{"reload": "SIGHUP"}"#,
    },
];

/// [`crate::Reload`]
const RELOAD: Shape = Shape::Either(&[
    Shape::Word("none"),
    Shape::Word("restart"),
    Shape::Text {
        pattern: "^(([Ss][Ii][Gg])?[A-Za-z]{2,6}([0-9]|[+-][0-9]{1,2})?|[0-9]{1,2})$",
        longest: 16,
    },
    Shape::Many(&Shape::Text {
        pattern: "",
        longest: 4096,
    }),
]);

const SECRETS_KEYS: [Described; 1] = [Described {
    name: "reload",
    shape: RELOAD,
    text: "How replicas learn of other contents of secrets below /run/secrets: a signal to the first process, a command \
           that is run in the container (as a list), `none` where the program reads the files each time, or `restart`: \
           new replicas take their place. Secrets as variables or elsewhere always take a restart. Default: restart.",
    example: r#"["nginx", "-s", "reload"]"#,
}];

const VARIABLE_KEYS: [Described; 1] = [Described {
    name: "secret",
    shape: Shape::Text {
        pattern: "^(?!x-)[A-Za-z0-9][A-Za-z0-9._-]*$",
        longest: 255,
    },
    text: "A key of the compose file's `secrets`.",
    example: r#""db-password""#,
}];

const LIVENESS_KEYS: [Described; 6] = [
    Described {
        name: "interval",
        shape: DURATION,
        text: "Time between two probes. Default: 30s.",
        example: r#""10s""#,
    },
    Described {
        name: "retries",
        shape: Shape::Number("^[0-9]+$"),
        text: "So many failures in a row make the replica be replaced. Default: 3.",
        example: "2",
    },
    Described {
        name: "start_interval",
        shape: DURATION,
        text: "Time between two probes in the start period, until one has passed. Default: 1s.",
        example: r#""500ms""#,
    },
    Described {
        name: "start_period",
        shape: DURATION,
        text: "Failures do not count so long after the start. Default: 0s.",
        example: r#""1m""#,
    },
    Described {
        name: "test",
        shape: Shape::OneOrMany(&Shape::Text {
            pattern: "",
            longest: 65536,
        }),
        text: "What is run inside the replica: a line for its shell, or [CMD, program, argument, …].",
        example: r#"["CMD", "curl", "-f", "localhost:5000/live"]"#,
    },
    Described {
        name: "timeout",
        shape: DURATION,
        text: "A probe that takes longer has failed. Default: 30s.",
        example: r#""3s""#,
    },
];

const ROUTE_KEYS: [Described; 6] = [
    Described {
        name: "host",
        shape: DOMAIN,
        text: "Only requests for this one of the domains, or for a name below one.",
        example: r#""www.shop.example.org""#,
    },
    Described {
        name: "path",
        shape: Shape::Text {
            pattern: "^/([^/?# ]+/)*([^/?# ]+/?)?$",
            longest: 4096,
        },
        text: "Only requests whose path starts with these segments. Default: `/`, all of them.",
        example: r#""/api""#,
    },
    Described {
        name: "port",
        shape: Shape::Port,
        text: "The service's port inside its container; it needs no published port. Default: the one that the \
               compose file publishes or exposes.",
        example: "5000",
    },
    Described {
        name: "protocol",
        shape: Shape::Either(&[Shape::Word("http"), Shape::Word("h2c")]),
        text: "What the service speaks there: `http`, the default, is HTTP/1.1; `h2c` is HTTP/2 without TLS, as \
               gRPC servers speak it; over it no WebSocket is passed on (501), nor an answer before the answer (103).",
        example: r#""h2c""#,
    },
    Described {
        name: "service",
        shape: Shape::Text {
            pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$",
            longest: 63,
        },
        text: "The service that answers.",
        example: r#""backend""#,
    },
    Described {
        name: "strip_prefix",
        shape: Shape::Truth,
        text: "Whether the path is taken away before the request is passed on. Default: false.",
        example: "true",
    },
];

const TLS_KEYS: [Described; 2] = [
    Described {
        name: "certificate",
        shape: Shape::File,
        text: "The certificate and those above it, in PEM, the site's own first.",
        example: r#""./tls/chain.pem""#,
    },
    Described {
        name: "key",
        shape: Shape::File,
        text: "Its key, in PEM.",
        example: r#""./tls/key.pem""#,
    },
];

const BUILD_KEYS: [Described; 1] = [Described {
    name: "host_ca",
    shape: Shape::Either(&[Shape::Word("auto"), Shape::Truth]),
    text: "Whether RUN steps trust the authorities that this machine trusts, as builds behind a proxy that reads \
           TLS need. Default: `auto`, where somebody has added one.",
    example: r#""auto""#,
}];

/// The file itself.
pub(crate) const TOP: Mapping = Mapping {
    section: section("havre.yaml", &names(&TOP_KEYS)),
    keys: &TOP_KEYS,
    required: &[],
    exclusive: &["domain", "domains"],
};
/// `environments.*`
pub(crate) const ENVIRONMENT: Mapping = Mapping {
    section: section("havre.yaml: environments.*", &names(&ENVIRONMENT_KEYS)),
    keys: &ENVIRONMENT_KEYS,
    required: &[],
    exclusive: &["domain", "domains"],
};
/// `environments.*.approval`
pub(crate) const APPROVAL: Mapping = Mapping {
    section: section(
        "havre.yaml: environments.*.approval",
        &names(&APPROVAL_KEYS),
    ),
    keys: &APPROVAL_KEYS,
    required: &[],
    exclusive: &[],
};
/// `environments.*.previews`
pub(crate) const PREVIEWS: Mapping = Mapping {
    section: section(
        "havre.yaml: environments.*.previews",
        &names(&PREVIEWS_KEYS),
    ),
    keys: &PREVIEWS_KEYS,
    required: &[],
    exclusive: &[],
};
/// `environments.*.freeze[]`
pub(crate) const FREEZE: Mapping = Mapping {
    section: section("havre.yaml: environments.*.freeze[]", &names(&FREEZE_KEYS)),
    keys: &FREEZE_KEYS,
    required: &["from", "to"],
    exclusive: &[],
};
/// `routes[]`
pub(crate) const ROUTE: Mapping = Mapping {
    section: section("havre.yaml: routes[]", &names(&ROUTE_KEYS)),
    keys: &ROUTE_KEYS,
    required: &["service"],
    exclusive: &[],
};
/// `tls`
pub(crate) const TLS: Mapping = Mapping {
    section: section("havre.yaml: tls", &names(&TLS_KEYS)),
    keys: &TLS_KEYS,
    required: &["certificate", "key"],
    exclusive: &[],
};
/// `rollout`
pub(crate) const ROLLOUT: Mapping = Mapping {
    section: section("havre.yaml: rollout", &names(&ROLLOUT_KEYS)),
    keys: &ROLLOUT_KEYS,
    required: &[],
    exclusive: &[],
};
/// `services.*`
pub(crate) const SERVICE: Mapping = Mapping {
    section: section("havre.yaml: services.*", &names(&SERVICE_KEYS)),
    keys: &SERVICE_KEYS,
    required: &[],
    exclusive: &[],
};
/// `networks.*`
pub(crate) const NETWORK: Mapping = Mapping {
    section: section("havre.yaml: networks.*", &names(&NETWORK_KEYS)),
    keys: &NETWORK_KEYS,
    required: &[],
    exclusive: &[],
};
/// `services.*.environment.*`
pub(crate) const VARIABLE: Mapping = Mapping {
    section: section(
        "havre.yaml: services.*.environment.*",
        &names(&VARIABLE_KEYS),
    ),
    keys: &VARIABLE_KEYS,
    required: &["secret"],
    exclusive: &[],
};
/// `services.*.secrets`
pub(crate) const SECRETS: Mapping = Mapping {
    section: section("havre.yaml: services.*.secrets", &names(&SECRETS_KEYS)),
    keys: &SECRETS_KEYS,
    required: &[],
    exclusive: &[],
};
/// `services.*.liveness`
pub(crate) const LIVENESS: Mapping = Mapping {
    section: section("havre.yaml: services.*.liveness", &names(&LIVENESS_KEYS)),
    keys: &LIVENESS_KEYS,
    required: &["test"],
    exclusive: &[],
};
/// `build`
pub(crate) const BUILD: Mapping = Mapping {
    section: section("havre.yaml: build", &names(&BUILD_KEYS)),
    keys: &BUILD_KEYS,
    required: &[],
    exclusive: &[],
};

/// Every section; what stands in `environments.*` is as at the top.
pub(crate) const SECTIONS: [Section; 13] = [
    TOP.section,
    APPROVAL.section,
    PREVIEWS.section,
    FREEZE.section,
    ROUTE.section,
    TLS.section,
    ROLLOUT.section,
    SERVICE.section,
    NETWORK.section,
    VARIABLE.section,
    SECRETS.section,
    LIVENESS.section,
    BUILD.section,
];

const fn section(path: &'static str, keys: &'static [Key]) -> Section {
    Section { path, keys }
}

/// The keys as the reader looks them up.
const fn names<const N: usize>(described: &[Described; N]) -> [Key; N] {
    let mut keys = [Key {
        name: "",
        support: Support::Honoured,
    }; N];
    let mut index = 0;
    while index < N {
        keys[index].name = described[index].name;
        index += 1;
    }
    keys
}

/// The JSON Schema (2020-12) of `havre.yaml`. A key that is there without a value is for the reader
/// as if it were not; the schema takes it for unfinished.
pub fn document() -> Value {
    of_file(
        &TOP,
        "havre",
        "havre.yaml",
        "What a compose file cannot say. Every key is optional, and so is the file.",
    )
}

fn of_file(top: &Mapping, name: &str, title: &str, description: &str) -> Value {
    let mut schema = mapping(top);
    // An empty file says as much as none.
    schema["type"] = json!(["object", "null"]);
    for (key, value) in [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("$id", &format!("{FOLDER}/{name}.schema.json")),
        ("title", title),
        ("description", description),
    ] {
        schema[key] = json!(value);
    }
    schema
}

fn mapping(mapping: &Mapping) -> Value {
    let mut properties = Map::new();
    for key in mapping.keys {
        let mut schema = shape(&key.shape);
        schema["description"] = json!(key.text);
        let example: Value = serde_json::from_str(key.example).expect("examples are JSON");
        schema["examples"] = json!([example]);
        properties.insert(key.name.to_owned(), schema);
    }
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": {} },
        "additionalProperties": false,
    });
    if !mapping.required.is_empty() {
        schema["required"] = json!(mapping.required);
    }
    if !mapping.exclusive.is_empty() {
        // Nothing at all has no keys either, and passes `required`.
        schema["not"] = json!({ "type": "object", "required": mapping.exclusive });
    }
    schema
}

fn shape(of: &Shape) -> Value {
    match of {
        // Patterns and lengths are for texts, the bounds for numbers.
        Shape::Text { pattern, longest } => {
            json!({ "type": ["string", "integer"], "pattern": pattern, "maxLength": longest })
        }
        Shape::File => json!({ "type": "string", "minLength": 1 }),
        Shape::Port => json!({
            "type": ["integer", "string"], "minimum": 1, "maximum": 65535, "pattern": "^[0-9]{1,5}$",
        }),
        Shape::Truth => json!({ "type": ["boolean", "string"], "pattern": any_case(&TRUTHS) }),
        Shape::Word(word) => json!({ "const": word }),
        Shape::OneOrMany(one) => {
            let one = shape(one);
            let many = json!({ "type": "array", "items": one, "minItems": 1 });
            json!({ "anyOf": [one, many] })
        }
        Shape::Number(pattern) => json!({ "type": ["number", "string"], "pattern": pattern }),
        Shape::Many(one) => json!({ "type": "array", "items": shape(one), "minItems": 1 }),
        Shape::List(each) => json!({ "type": "array", "items": mapping(each) }),
        Shape::Mapping(one) => mapping(one),
        Shape::Named { pattern, each } => {
            let mut each = mapping(each);
            each["type"] = json!(["object", "null"]);
            json!({
                "type": "object",
                "patternProperties": { *pattern: each, "^x-": {} },
                "additionalProperties": false,
            })
        }
        Shape::Pairs => json!({
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] },
            "minProperties": 1,
        }),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(shape).collect::<Vec<_>>() }),
    }
}

/// What the reader takes beside YAML's own truth values.
const TRUTHS: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "y", "n"];

/// One of the words, in small or capital letters; patterns have no flag for that.
fn any_case(words: &[&str]) -> String {
    let letters = |word: &&str| -> String {
        let each = |c: char| format!("[{c}{}]", c.to_ascii_uppercase());
        word.chars().map(each).collect()
    };
    let words: Vec<String> = words.iter().map(letters).collect();
    format!("^({})$", words.join("|"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;
    use crate::files::Files;
    use crate::project::EnvironmentName;
    use crate::{read, settings};

    /// Opens a mapping of every kind.
    const ALL: &str = "\
build: {host_ca: auto}
routes: [{service: web}]
tls: {certificate: havre.yaml, key: havre.yaml}
rollout: {strategy: canary}
services: {web: {liveness: {test: \"true\"}, allow: devices, environment: {A: {secret: b}}, secrets: {reload: SIGHUP}}}
networks: {default: {shared: true}}
environments:
  staging: {routes: [{service: web}], approval: {count: 1}, freeze: [{from: fri 16:00, to: mon 08:00}]}
  preview: {previews: {after: 3d}}
";

    #[test]
    fn every_key_is_read_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("havre.yaml"), ALL).unwrap();
        let mut report = crate::yaml::report(PathBuf::new());
        read::trace::start();
        let read = settings::read(
            folder.path(),
            None,
            &EnvironmentName::new("production"),
            &mut Files::default(),
            &mut report,
        );
        assert!(read.is_some() && !report.has_errors());
        let asked_for = read::trace::stop();
        let all = SECTIONS.iter().chain([&ENVIRONMENT.section]);
        let described: BTreeSet<(&str, String)> = all
            .flat_map(|section| {
                let keys = section.keys.iter();
                let keys = keys.filter(|key| matches!(key.support, Support::Honoured));
                keys.map(|key| (section.path, key.name.to_owned()))
            })
            .collect();
        assert_eq!(asked_for, described);
    }

    #[test]
    fn truth_values_are_those_of_the_reader() {
        for word in TRUTHS {
            assert!(crate::scalar::truth(word).is_some(), "{word}");
        }
        assert_eq!(any_case(&["on", "y"]), "^([oO][nN]|[yY])$");
    }
}
