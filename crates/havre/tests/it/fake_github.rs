//! A fake of GitHub: a repository over HTTP by git's own back end, and the part of the API that takes commit statuses.
//! It lets nobody in without the token, and takes no status that GitHub would not.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use data_encoding::BASE64;
use serde_json::Value;

pub const TOKEN: &str = "t0ken-of-github";

/// A fake of GitHub.
pub struct FakeGitHub {
    address: String,
    folder: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What was told: commit, context, state.
    statuses: Mutex<Vec<(String, String, String)>>,
    /// What the token is now.
    token: Mutex<String>,
}

struct Asked {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl FakeGitHub {
    /// With an empty repository `acme/shop`.
    pub fn start(folder: &Path) -> Self {
        let repository = folder.join("acme/shop.git");
        fs::create_dir_all(&repository).unwrap();
        let init = ["init", "--quiet", "--bare", "--initial-branch=main", "."];
        let made = Command::new("git")
            .args(init)
            .current_dir(&repository)
            .status();
        assert!(made.unwrap().success());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        *shared.token.lock().unwrap() = TOKEN.to_owned();
        let (of_thread, root) = (Arc::clone(&shared), folder.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, root) = (Arc::clone(&of_thread), root.clone());
                std::thread::spawn(move || serve(stream, &shared, &root));
            }
        });
        Self {
            address,
            folder: folder.to_owned(),
            shared,
        }
    }

    pub fn url(&self) -> String {
        format!("{}/acme/shop.git", self.address)
    }

    /// The repository, for whoever is there.
    pub fn path(&self) -> String {
        self.folder.join("acme/shop.git").display().to_string()
    }

    pub fn set_token(&self, token: &str) {
        token.clone_into(&mut self.shared.token.lock().unwrap());
    }

    /// States of a commit in the order in which they were told.
    pub fn told(&self, commit: &str, context: &str) -> Vec<String> {
        let all = self.shared.statuses.lock().unwrap();
        let of = all
            .iter()
            .filter(|(sha, by, _)| (sha.as_str(), by.as_str()) == (commit, context));
        of.map(|(_, _, state)| state.clone()).collect()
    }

    pub fn head(&self, branch: &str) -> String {
        let mut command = Command::new("git");
        let args = ["rev-parse", "--verify", "--quiet", branch];
        let output = command
            .args(args)
            .current_dir(self.path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

fn serve(mut stream: TcpStream, shared: &Shared, root: &Path) {
    let Some(asked) = read(&stream) else { return };
    let token = shared.token.lock().unwrap().clone();
    let shown = asked.header("authorization").unwrap_or_default();
    let answer = match asked.path.strip_prefix("/api/v3/repos/acme/shop/statuses/") {
        Some(_) if shown != format!("Bearer {token}") => {
            answer("401 Unauthorized", "{\"message\": \"Bad credentials\"}")
        }
        Some(commit) => take(commit, &asked, shared),
        None => {
            let basic = BASE64.encode(format!("x-access-token:{token}").as_bytes());
            match shown == format!("Basic {basic}") {
                true => git(&asked, root),
                false => b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"GitHub\"\r\nContent-Length: 0\r\n\
                          Connection: close\r\n\r\n"
                    .to_vec(),
            }
        }
    };
    // Whoever left is not told.
    drop(stream.write_all(&answer));
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Asked {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    })
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = "Content-Type: application/json\r\nConnection: close";
    format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn take(commit: &str, asked: &Asked, shared: &Shared) -> Vec<u8> {
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let (state, context) = (text("state"), text("context"));
    let is_sound = asked.method == "POST"
        && commit.len() == 40
        && ["pending", "success", "failure", "error"].contains(&state.as_str())
        && !context.is_empty()
        && text("description").chars().count() <= 140
        && asked.header("user-agent").is_some();
    if !is_sound {
        return answer(
            "422 Unprocessable Entity",
            "{\"message\": \"Validation Failed\"}",
        );
    }
    shared
        .statuses
        .lock()
        .unwrap()
        .push((commit.to_owned(), context, state));
    answer("201 Created", "{}")
}

/// As the web server in front of git's back end does (git-http-backend(1)).
fn git(asked: &Asked, root: &Path) -> Vec<u8> {
    let mut child = Command::new("git")
        .args([
            "-c",
            "safe.directory=*",
            "-c",
            "http.receivepack=true",
            "http-backend",
        ])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &asked.path)
        .env("QUERY_STRING", &asked.query)
        .env("REQUEST_METHOD", &asked.method)
        .env(
            "CONTENT_TYPE",
            asked.header("content-type").unwrap_or_default(),
        )
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .env(
            "HTTP_CONTENT_ENCODING",
            asked.header("content-encoding").unwrap_or_default(),
        )
        .env(
            "GIT_PROTOCOL",
            asked.header("git-protocol").unwrap_or_default(),
        )
        .env("REMOTE_USER", "acme")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git http-backend");
    // It may have heard enough.
    drop(child.stdin.take().unwrap().write_all(&asked.body));
    let output = child.wait_with_output().unwrap().stdout;
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(0);
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: "));
    let status = status.unwrap_or("200 OK");
    let body = &output[(end + 4).min(output.len())..];
    let length = body.len();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    .into_bytes();
    answer.extend(body);
    answer
}
