//! Ports in the box: for what serves artifacts and caches, and those of the machine's proxy.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use havre_job::{Door, LineKind, Results, Told};
use libtest_mimic::{Failed, Trial};

use crate::runner::Given;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("results: connections are passed on", passed_on),
        Trial::test(
            "results: a client that has said all is answered",
            half_closed,
        ),
        Trial::test("results: identity only where it may be asked for", identity),
        Trial::test("doors: a port of the loopback leads out", door),
        Trial::test("doors: a port that is taken is told", taken_door),
    ]
}

fn given(identity: bool, steps: &str) -> Given {
    let mut given = Given::steps(steps);
    given.document.results = Some(Results {
        socket: given.folder.path().join("s").to_string_lossy().into_owned(),
        token: "token-of-the-runtime".to_owned(),
        identity: identity.then(|| "token-of-identity".to_owned()),
    });
    given
}

/// A job with that port as a door to the socket `d`.
fn with_door(port: u16, steps: &str) -> Given {
    let mut given = Given::steps(steps);
    let socket = given.folder.path().join("d");
    given.document.doors.push(Door {
        port,
        socket: socket.to_string_lossy().into_owned(),
    });
    given
}

fn door() -> Result<(), Failed> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let steps = format!("- run: exec 3<>/dev/tcp/127.0.0.1/{port}; echo asked >&3; head -n 1 <&3");
    let given = with_door(port, &format!("{steps}\n  shell: bash"));
    let listener = UnixListener::bind(given.folder.path().join("d"))?;
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 6];
            connection.read_exact(&mut asked).expect("asked");
            connection.write_all(b"the proxy was ").expect("answered");
            connection.write_all(&asked).expect("answered");
        }
    });
    let text = given.shown();
    match text.contains("the proxy was asked\n") {
        true => Ok(()),
        false => Err(text.into()),
    }
}

fn taken_door() -> Result<(), Failed> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let (told, code) = with_door(port, "- run: echo went on").run();
    let says = |told: &Told| matches!(told, Told::Line { kind: LineKind::Notice, text, .. } if text.contains(&port.to_string()));
    match code == 0 && told.iter().any(says) {
        true => Ok(()),
        false => Err(format!("{code}: {told:?}").into()),
    }
}

fn passed_on() -> Result<(), Failed> {
    let given = given(false, "- uses: ./js");
    given.file("js/action.yml", "runs: {using: node20, main: m.js}");
    given.file(
        "js/m.js",
        "const body = '~'.repeat(300000);\n\
         const ask = () => fetch(process.env.ACTIONS_RESULTS_URL + 'p', {method: 'POST', body}).then(a => a.text());\n\
         Promise.all([ask(), ask(), ask()]).then(all => console.log(all.join(' '), process.env.ACTIONS_CACHE_SERVICE_V2));",
    );
    let listener = UnixListener::bind(given.folder.path().join("s"))?;
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(connection));
        }
    });
    let text = given.shown();
    match text.contains("0   got 300000 got 300000 got 300000 true\n") {
        true => Ok(()),
        false => Err(text.into()),
    }
}

fn serve(mut connection: std::os::unix::net::UnixStream) {
    let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
    let counted = |seen: &[u8]| seen.iter().filter(|byte| **byte == b'~').count();
    while counted(&seen) < 300_000 {
        match connection.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => seen.extend_from_slice(&chunk[..count]),
        }
    }
    let body = format!("got {}", counted(&seen));
    let length = body.len();
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    connection
        .write_all(answer.as_bytes())
        .expect("it takes the answer");
}

fn identity() -> Result<(), Failed> {
    let steps = "- run: echo \"[$ACTIONS_RUNTIME_TOKEN] [$ACTIONS_ID_TOKEN_REQUEST_TOKEN] [${ACTIONS_ID_TOKEN_REQUEST_URL%%:*}]\"";
    for (identity, expected) in [(true, "0   [] [***] [http]\n"), (false, "0   [] [] []\n")] {
        let text = given(identity, steps).shown();
        if !text.contains(expected) {
            return Err(text.into());
        }
    }
    Ok(())
}

fn half_closed() -> Result<(), Failed> {
    let given = given(false, "- uses: ./js\n  timeout-minutes: 0.2");
    given.file("js/action.yml", "runs: {using: node20, main: m.js}");
    given.file(
        "js/m.js",
        "const {port, hostname} = new URL(process.env.ACTIONS_RESULTS_URL);\n\
         const c = require('net').connect({port, host: hostname, allowHalfOpen: true});\n\
         c.end('a question'); c.on('data', d => console.log(String(d)));",
    );
    let listener = UnixListener::bind(given.folder.path().join("s"))?;
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let mut question = String::new();
            connection
                .read_to_string(&mut question)
                .expect("it comes to its end");
            connection
                .write_all(format!("answered {question}").as_bytes())
                .expect("sent");
        }
    });
    let text = given.shown();
    match text.contains("0   answered a question\n0 < success") {
        true => Ok(()),
        false => Err(text.into()),
    }
}
