//! Values that tests share.

use std::path::PathBuf;

use havre_api::*;
use havre_model::*;
use havre_testing::api::{FakeDaemon, Script};

pub fn daemon(backend: Script) -> (FakeDaemon, Client) {
    let daemon = FakeDaemon::start(backend);
    let client = Client::new(daemon.socket());
    (daemon, client)
}

pub fn environment() -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new("shop"),
        environment: EnvironmentName::new("production"),
    }
}

pub fn project(name: &str) -> Project {
    Project {
        sent: false,
        gates: Vec::new(),
        name: ProjectName::new(name),
        environment: EnvironmentName::new("production"),
        directory: PathBuf::from("/srv/shop"),
        services: Default::default(),
        networks: Default::default(),
        volumes: Default::default(),
        secrets: Default::default(),
        configs: Default::default(),
        hosts: vec!["shop.localhost".into()],
        tls: Tls::LocalCa,
        rollout: Default::default(),
        routes: Vec::new(),
    }
}

pub fn up(name: &str) -> UpRequest {
    UpRequest {
        project: project(name),
        options: UpOptions::default(),
        origin: None,
        overridden: None,
        entry: None,
        elsewhere: Vec::new(),
    }
}

pub fn up_outcome() -> UpOutcome {
    UpOutcome {
        environment: environment(),
        release: ReleaseId(7),
        previous: Some(ReleaseId(6)),
        changed: true,
        urls: vec!["https://shop.localhost/".into()],
        elapsed_ms: 5,
    }
}

pub fn warning(message: &str) -> Event {
    Event::Warning {
        message: message.into(),
        hint: None,
    }
}

pub fn refusal(error: ClientError) -> ApiError {
    match error {
        ClientError::Refused(error) => error,
        other => panic!("expected a refusal, got {other:?}"),
    }
}
