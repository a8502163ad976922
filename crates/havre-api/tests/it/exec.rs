//! Commands in replicas: frames in both directions.

use std::time::Duration;

use bytes::Bytes;
use havre_api::*;
use havre_testing::api::Script;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::fixtures::*;

const SOON: Duration = Duration::from_secs(10);

fn request() -> ExecRequest {
    ExecRequest {
        environment: environment(),
        service: havre_model::ServiceName::new("web"),
        replica: None,
        argv: vec!["cat".into()],
        env: Default::default(),
        user: None,
        working_dir: None,
        stdin: true,
        tty: Some(TerminalSize {
            columns: 80,
            rows: 24,
        }),
    }
}

#[tokio::test]
async fn input_output_size_and_exit_code_travel() {
    let backend = Script::default().exec(async |asked, mut session| {
        assert_eq!(asked, request());
        let size = TerminalSize {
            columns: 132,
            rows: 43,
        };
        assert_eq!(session.input.recv().await, Some(ExecInput::Resize(size)));
        while let Some(piece) = session.input.recv().await {
            match piece {
                ExecInput::Stdin(bytes) => {
                    session
                        .output
                        .send(ExecOutput::Stdout(bytes))
                        .await
                        .unwrap();
                }
                ExecInput::StdinClosed => break,
                ExecInput::Resize(_) => panic!("one resize was sent"),
            }
        }
        let last = ExecOutput::Stderr(Bytes::from_static(b"bye"));
        session.output.send(last).await.unwrap();
        Ok(42)
    });
    let (_daemon, client) = daemon(backend);
    let ExecConnection {
        mut reader,
        mut writer,
    } = client.exec(&request()).await.unwrap();
    let size = TerminalSize {
        columns: 132,
        rows: 43,
    };
    writer.send(ExecInput::Resize(size)).await.unwrap();
    let chunk = Bytes::from(vec![7; EXEC_CHUNK_BYTES]);
    let sent = chunk.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..100 {
            writer.send(ExecInput::Stdin(sent.clone())).await.unwrap();
        }
        writer.send(ExecInput::StdinClosed).await.unwrap();
        writer
    });
    let mut received = 0;
    let exit = loop {
        match timeout(SOON, reader.next()).await.unwrap().unwrap() {
            ExecNews::Output(ExecOutput::Stdout(bytes)) => received += bytes.len(),
            ExecNews::Output(ExecOutput::Stderr(bytes)) => assert_eq!(&bytes[..], b"bye"),
            ExecNews::Exit(code) => break code,
        }
    };
    assert_eq!((received, exit), (100 * EXEC_CHUNK_BYTES, 42));
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_command_that_cannot_run_says_why() {
    let backend = Script::default().exec(async |_, _session| {
        Err(ApiError::new(
            ErrorCode::NotFound,
            "shop/production has no service web",
        ))
    });
    let (_daemon, client) = daemon(backend);
    let mut connection = client.exec(&request()).await.unwrap();
    let error = refusal(connection.reader.next().await.unwrap_err());
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_silent_command_learns_that_its_client_left_though_it_reads_nothing() {
    let (told, tell) = oneshot::channel::<()>();
    let backend = Script::default().exec(async |_, session| {
        session.output.closed().await;
        told.send(()).unwrap();
        Ok(0)
    });
    let (_daemon, client) = daemon(backend);
    let ExecConnection { reader, mut writer } = client.exec(&request()).await.unwrap();
    // More than the server holds for a command that reads nothing.
    let chunk = Bytes::from(vec![0; EXEC_CHUNK_BYTES]);
    let full = async {
        loop {
            writer.send(ExecInput::Stdin(chunk.clone())).await.unwrap();
        }
    };
    assert!(timeout(Duration::from_millis(500), full).await.is_err());
    drop((reader, writer));
    timeout(SOON, tell).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_the_server_ends_a_command() {
    let (arrived, arrival) = oneshot::channel::<()>();
    let backend = Script::default().exec(async |_, mut session| {
        arrived.send(()).unwrap();
        session.output.closed().await;
        assert_eq!(session.input.recv().await, None);
        Ok(137)
    });
    let (daemon, client) = daemon(backend);
    let mut connection = client.exec(&request()).await.unwrap();
    arrival.await.unwrap();
    daemon.stop();
    let news = timeout(SOON, connection.reader.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(news, ExecNews::Exit(137));
}

#[tokio::test]
async fn closing_its_outputs_does_not_end_a_command() {
    let backend = Script::default().exec(async |_, mut session| {
        drop(session.output);
        let piece = session.input.recv().await;
        assert_eq!(piece, Some(ExecInput::Stdin(Bytes::from_static(b"late"))));
        Ok(7)
    });
    let (_daemon, client) = daemon(backend);
    let ExecConnection {
        mut reader,
        mut writer,
    } = client.exec(&request()).await.unwrap();
    // Longer than the server would take to mistake one for the other.
    assert!(
        timeout(Duration::from_millis(200), reader.next())
            .await
            .is_err()
    );
    writer
        .send(ExecInput::Stdin(Bytes::from_static(b"late")))
        .await
        .unwrap();
    let news = timeout(SOON, reader.next()).await.unwrap().unwrap();
    assert_eq!(news, ExecNews::Exit(7));
}

/// An upgraded connection without the client's manners.
async fn raw_session(daemon: &havre_testing::api::FakeDaemon) -> UnixStream {
    let body = serde_json::to_vec(&request()).unwrap();
    let head = format!(
        "POST {EXEC_PATH} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n\
         upgrade: {EXEC_PROTOCOL}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    stream
}

#[tokio::test]
async fn frames_that_make_no_sense_end_the_session() {
    for nonsense in [
        // A frame of 4 GiB, an unknown kind, a size without its numbers, one that is not a
        // client's to send.
        &[0, 255, 255, 255, 255][..],
        &[99, 0, 0, 0, 0],
        &[2, 0, 0, 0, 1, 7],
        &[18, 0, 0, 0, 4, 0, 0, 0, 0],
    ] {
        let backend = Script::default().exec(async |_, mut session| {
            assert_eq!(session.input.recv().await, None);
            session.output.closed().await;
            Ok(0)
        });
        let (daemon, _client) = daemon(backend);
        let mut stream = raw_session(&daemon).await;
        stream.write_all(nonsense).await.unwrap();
        let mut last = Vec::new();
        timeout(SOON, stream.read_to_end(&mut last))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(last, [18, 0, 0, 0, 4, 0, 0, 0, 0], "{nonsense:?}");
    }
}

#[tokio::test]
async fn exec_without_an_upgrade_is_refused() {
    let (daemon, _client) = daemon(Script::default());
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
    let head = format!(
        "POST {EXEC_PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}
