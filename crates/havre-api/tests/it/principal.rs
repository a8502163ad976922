//! Who asks is found out by the server, and handed to every handler.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex};

use havre_api::*;
use havre_testing::api::LetsAllIn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::fixtures::*;

/// Who asked so far.
type Askers = Arc<Mutex<Vec<Principal>>>;

fn note(askers: &Askers, principal: Principal) {
    askers.lock().expect("no panic").push(principal);
}

fn routes(askers: &Askers) -> Routes<Askers> {
    Routes::new(Arc::clone(askers))
        .call::<Images, _>(async |askers: Askers, principal, _| {
            note(&askers, principal);
            Ok(Vec::new())
        })
        .operation::<Up, _>(async |askers: Askers, principal, _, _| {
            note(&askers, principal);
            Ok(up_outcome())
        })
        .feed::<Logs, _>(async |askers: Askers, principal, _, _| {
            note(&askers, principal);
            Ok(())
        })
        .exec(async |askers: Askers, principal, _, _| {
            note(&askers, principal);
            Ok(0)
        })
}

#[tokio::test]
async fn every_handler_is_told_who_asks_and_no_client_can_say_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("api.sock");
    let (askers, stop) = (Askers::default(), CancellationToken::new());
    let server = Server::new(routes(&askers), Arc::new(LetsAllIn), stop.clone());
    let serving = server.serve(bind(&socket, None).expect("bound"));
    let serving = tokio::spawn(serving);
    let client = Client::new(&socket);

    client
        .call::<Images>(&MachineQuery {})
        .await
        .expect("answered");
    let mut running = client.start::<Up>(&up("shop")).await.expect("started");
    running.next().await.expect("done");
    let query = LogQuery {
        environment: environment(),
        services: Vec::new(),
        tail: None,
        since: None,
        follow: false,
    };
    let mut lines = client.feed::<Logs>(&query).await.expect("answered");
    assert_eq!(lines.next().await.expect("an end"), None);
    let request = ExecRequest {
        environment: environment(),
        service: havre_model::ServiceName::new("web"),
        replica: None,
        argv: vec!["true".to_owned()],
        env: Default::default(),
        user: None,
        working_dir: None,
        stdin: false,
        tty: None,
    };
    let mut command = client.exec(&request).await.expect("answered");
    assert_eq!(
        command.reader.next().await.expect("an end"),
        ExecNews::Exit(0)
    );

    // Whatever a client may think of to be somebody else.
    let mut body = serde_json::to_value(up("shop")).expect("JSON");
    body["by"] = "somebody".into();
    body["principal"] = serde_json::json!({ "Local": { "uid": 4242, "name": "somebody" } });
    let body = body.to_string();
    let request = format!(
        "POST /v1/up HTTP/1.1\r\nHost: havre\r\nContent-Type: application/json\r\n\
         X-Forwarded-User: somebody\r\nAuthorization: Basic c29tZWJvZHk6eA==\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut raw = tokio::net::UnixStream::connect(&socket)
        .await
        .expect("connected");
    raw.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    stop.cancel();
    serving.await.expect("no panic").expect("served");
    // Files belong to who makes them.
    let own = std::fs::metadata(folder.path()).expect("it is there").uid();
    let askers = askers.lock().expect("no panic");
    assert_eq!(askers.len(), 5);
    for asker in askers.iter() {
        let Who::Local(LocalPeer { uid, name, .. }) = &asker.who else {
            panic!("{asker:?} came from elsewhere");
        };
        assert_eq!(*uid, own);
        assert_ne!(name.as_deref(), Some("somebody"));
    }
}

#[test]
fn a_call_that_nobody_answers_is_found() {
    let missing = routes(&Askers::default()).missing();
    assert!(missing.contains(&Status::PATH), "{missing:?}");
    for path in [Images::PATH, Up::PATH, Logs::PATH, EXEC_PATH] {
        assert!(!missing.contains(&path), "{path}");
    }
    let rest = Routes::new(()).call::<Status, _>(async |(), _, _| Ok(Vec::new()));
    let missing = routes(&Askers::default()).merge(rest).missing();
    assert!(!missing.contains(&Status::PATH), "{missing:?}");
}
