//! Calls that answer with one document, and the socket itself.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use havre_api::*;
use havre_model::{Capabilities, EnvironmentName, Lack, ProjectName, ServiceName};
use havre_testing::api::Script;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixtures::*;

#[tokio::test]
async fn a_query_and_its_answer_arrive_whole() {
    let (daemon, client) = daemon(Script::default().call::<Status, _>(async |query| {
        assert_eq!(query.project, Some(ProjectName::new("shop")));
        Ok(vec![EnvironmentStatus {
            id: environment(),
            state: EnvironmentState::Running,
            release: Some(ReleaseId(3)),
            since: "2024-05-01T10:00:00Z".parse().ok(),
            operation: None,
            routes: Vec::new(),
            services: Vec::new(),
            secrets: Vec::new(),
            waiting: Vec::new(),
            runs: None,
            problems: vec!["disk is nearly full".into()],
        }])
    }));
    let query = StatusQuery {
        project: Some(ProjectName::new("shop")),
        environment: None,
    };
    let answer = client.call::<Status>(&query).await.unwrap();
    assert_eq!(answer[0].id.to_string(), "shop/production");
    assert_eq!(answer[0].since.unwrap().to_string(), "2024-05-01T10:00:00Z");
    assert_eq!(daemon.calls(), ["status"]);
}

#[tokio::test]
async fn what_a_target_cannot_do_arrives_whole() {
    let lack = |key: &str, values: &[&str]| Lack {
        key: key.to_owned(),
        values: values.iter().map(ToString::to_string).collect(),
        reason: "replicas are on many machines".into(),
        hint: "remove it".into(),
    };
    let lacks = vec![
        lack("services.*.network_mode", &["service:*", "host"]),
        lack("havre.yaml: rollout.hold", &[]),
    ];
    let sent = TargetInfo {
        capabilities: Capabilities::new("Docker Swarm", lacks).unwrap(),
        host_ca_detected: true,
    };
    let expected = sent.clone();
    let script = Script::default().call::<TargetCapabilities, _>(async |_| Ok(sent));
    let (daemon, client) = daemon(script);
    let answer = client.call::<TargetCapabilities>(&Empty {}).await.unwrap();
    assert_eq!(answer, expected);
    assert_eq!(daemon.calls(), ["target"]);
}

#[tokio::test]
async fn an_error_keeps_its_code_causes_and_hint() {
    let sent = ApiError::from_error(
        ErrorCode::Conflict,
        &std::io::Error::other("staging holds the lock since 10:04"),
    )
    .with_hint("wait, or `havre rollout abort`");
    let expected = sent.clone();
    let (_daemon, client) = daemon(Script::default().call::<Images, _>(async |_| Err(sent)));
    let error = client.call::<Images>(&MachineQuery {}).await.unwrap_err();
    assert_eq!(refusal(error), expected);
}

#[tokio::test]
async fn names_that_could_leave_a_folder_are_refused() {
    let (daemon, client) = daemon(Script::default());
    for name in [
        "..",
        "../etc",
        "a/b",
        "",
        ".",
        "Shop",
        "a\n",
        &"x".repeat(64),
    ] {
        let query = StatusQuery {
            project: Some(ProjectName::new("shop")),
            environment: Some(EnvironmentName::new(name)),
        };
        let error = refusal(client.call::<Status>(&query).await.unwrap_err());
        assert_eq!(error.code, ErrorCode::Invalid, "{name:?}");
        let error = refusal(client.start::<Up>(&up(name)).await.err().unwrap());
        assert_eq!(error.code, ErrorCode::Invalid, "{name:?}");
    }
    assert_eq!(daemon.calls(), [""; 0]);
}

/// Sends the request and expects that it is refused before anybody sees it.
async fn refused<C: Call>(client: &Client, request: &C::Request, word: &str) {
    let error = refusal(client.call::<C>(request).await.err().unwrap());
    assert_eq!(error.code, ErrorCode::Invalid, "{error}");
    assert!(format!("{error:?}").contains(word), "{word}: {error:?}");
}

/// The same of an operation.
async fn refused_to_start<O: Operation>(client: &Client, request: &O::Request, word: &str) {
    let error = refusal(client.start::<O>(request).await.err().unwrap());
    assert_eq!(error.code, ErrorCode::Invalid, "{error}");
    assert!(format!("{error:?}").contains(word), "{word}: {error:?}");
}

#[tokio::test]
async fn numbers_lists_and_texts_have_bounds() {
    let (daemon, client) = daemon(Script::default());
    let client = &client;
    let (id, web) = (environment(), || ServiceName::new("web"));
    for count in [1001, 2_147_483_648, u32::MAX] {
        let request = ScaleRequest {
            environment: id.clone(),
            replicas: [(web(), count)].into(),
        };
        refused_to_start::<Scale>(client, &request, "more than 1000").await;
    }
    let numbered = |n| (ServiceName::new(format!("s{n}")), 1);
    let request = ScaleRequest {
        environment: id.clone(),
        replicas: (0..1001).map(numbered).collect(),
    };
    refused_to_start::<Scale>(client, &request, "1001 services").await;
    let request = RestartRequest {
        environment: id,
        services: vec![web(); 1001],
    };
    refused_to_start::<Restart>(client, &request, "1001 services").await;
    let mut request = ImageRemoveRequest {
        images: vec!["a".to_owned(); 1001],
    };
    refused::<ImageRemove>(client, &request, "1001 images").await;
    request.images = vec!["a".repeat(513)];
    refused::<ImageRemove>(client, &request, "513 bytes").await;
    for name in ["", ".", "a/b", "a b", "-a", "a@shared", &"a".repeat(64)] {
        let name = name.to_owned();
        let request = NetworkRemoveRequest { name: name.clone() };
        refused::<NetworkRemove>(client, &request, "not a name for a network").await;
        let internal = false;
        let request = NetworkCreateRequest { name, internal };
        refused::<NetworkCreate>(client, &request, "not a name for a network").await;
    }
    for (seconds, word) in [(0, "no time"), (u64::MAX, "a hundred years")] {
        let request = TokenCreateRequest {
            name: "ci".to_owned(),
            grant: Grant::everywhere(Role::Viewer),
            lifetime_s: Some(seconds),
        };
        refused::<TokenCreate>(client, &request, word).await;
    }
    let mut request = ImageImportRequest {
        path: format!("/{}", "x".repeat(4096)).into(),
        reference: None,
    };
    refused::<ImageImport>(client, &request, "4097 bytes").await;
    request.path = "/image.tar".into();
    request.reference = Some("a".repeat(513));
    refused::<ImageImport>(client, &request, "513 bytes").await;
    let mut request = up("shop");
    let shared = havre_model::Network {
        shared: Some("../x".to_owned()),
        ..Default::default()
    };
    let key = havre_model::NetworkName::new("x");
    request.project.networks.insert(key.clone(), shared);
    refused_to_start::<Up>(client, &request, "networks.x").await;
    request.project.networks.remove(&key);
    request.project.rollout.ready_timeout = Duration::MAX;
    refused_to_start::<Up>(client, &request, "rollout.ready_timeout").await;
    let project = request.project;
    refused::<Plan>(client, &PlanRequest { project }, "rollout.ready_timeout").await;
    let mut request = up("shop");
    request.project.hosts = vec!["x".repeat((8 << 20) + 1)];
    refused_to_start::<Up>(client, &request, "a text is longer").await;
    request.project.hosts = vec![String::new(); 1_000_000];
    refused_to_start::<Up>(client, &request, "more than 1000000 values").await;
    assert_eq!(daemon.calls(), [""; 0]);
}

type Change = fn(&mut ExecRequest);

#[tokio::test]
async fn what_a_command_is_given_has_bounds() {
    let (daemon, client) = daemon(Script::default());
    let sound = || ExecRequest {
        environment: environment(),
        service: ServiceName::new("web"),
        replica: None,
        argv: vec!["sh".into()],
        env: Default::default(),
        user: None,
        working_dir: None,
        stdin: false,
        tty: None,
    };
    let changes: [(&str, Change); 10] = [
        ("no command", |request| request.argv.clear()),
        ("100001 arguments", |request| {
            request.argv = vec![String::new(); 100_001]
        }),
        ("131072 bytes", |request| {
            request.argv.push("x".repeat(128 * 1024))
        }),
        ("of arguments", |request| {
            request.argv = vec!["x".repeat(1024); 2049];
        }),
        ("NUL", |request| {
            request.env.insert("A".to_owned(), "a\0b".to_owned());
        }),
        ("a name for a variable", |request| {
            request.env.insert("A=B".to_owned(), String::new());
        }),
        ("a name for a variable", |request| {
            request.env.insert(String::new(), "B".to_owned());
        }),
        ("user", |request| request.user = Some("x".repeat(257))),
        ("replica", |request| request.replica = Some("x".repeat(257))),
        ("directory", |request| {
            request.working_dir = Some("x".repeat(4097));
        }),
    ];
    for (word, change) in changes {
        let mut request = sound();
        change(&mut request);
        let error = refusal(client.exec(&request).await.err().unwrap());
        assert_eq!(error.code, ErrorCode::Invalid, "{error}");
        assert!(format!("{error:?}").contains(word), "{word}: {error:?}");
    }
    assert_eq!(daemon.calls(), [""; 0]);
}

#[tokio::test]
async fn a_path_of_another_version_is_explained() {
    struct Future;
    impl Call for Future {
        const PATH: &'static str = "/v1/not-yet";
        const ROLE: Option<Role> = Some(Role::Viewer);
        type Request = Empty;
        type Answer = Empty;
    }
    let (_daemon, client) = daemon(Script::default());
    let error = refusal(client.call::<Future>(&Empty {}).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::NotFound);
    assert!(error.hint.unwrap().contains("older"));
}

#[tokio::test]
async fn a_request_that_is_no_json_is_refused() {
    let (daemon, _client) = daemon(Script::default());
    let mut stream = tokio::net::UnixStream::connect(daemon.socket())
        .await
        .unwrap();
    let request = "POST /v1/info HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\
                   connection: close\r\n\r\n{,}";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains(r#""code":"invalid""#), "{answer}");
}

#[tokio::test]
async fn nobody_listening_is_its_own_error() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new(folder.path().join("api.sock"));
    let error = client.call::<Info>(&Empty {}).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_replaces_only_a_dead_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let first = bind(&path, None).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = bind(&path, None).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    drop(first);
    bind(&path, None).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
