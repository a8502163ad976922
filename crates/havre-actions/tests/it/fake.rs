//! A fake of what serves artifacts and caches, stricter than it: whatever is not as the protocol has it panics, is
//! answered with 500, and fails the test.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::job::Job;

/// What is kept, and what went wrong.
#[derive(Default)]
pub(crate) struct Kept {
    /// By key and version.
    pub(crate) caches: BTreeMap<(String, String), Vec<u8>>,
    /// By name: id, kind and content.
    pub(crate) artifacts: BTreeMap<String, (u64, String, Vec<u8>)>,
    /// Requests of artifacts that began.
    pub(crate) begun: Vec<Value>,
    /// Methods that were called, and uploads.
    pub(crate) calls: Vec<String>,
    pub(crate) faults: Vec<String>,
    /// Instead of the true one.
    pub(crate) digest: Option<String>,
    blocks: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, Vec<u8>>,
    next: u64,
}

pub(crate) struct Fake {
    pub(crate) kept: Arc<Mutex<Kept>>,
    origin: String,
}

struct Request {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Fake {
    /// Serves a job, until the test ends.
    pub(crate) fn of(job: &mut Job) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self {
            kept: Arc::default(),
            origin,
        };
        job.set("ACTIONS_RESULTS_URL", format!("{}/", fake.origin));
        job.set("ACTIONS_RUNTIME_TOKEN", token());
        let (kept, origin) = (Arc::clone(&fake.kept), fake.origin.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, origin) = (Arc::clone(&kept), origin.clone());
                thread::spawn(move || serve(stream.unwrap(), &kept, &origin));
            }
        });
        fake
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.kept.lock().unwrap().calls)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !thread::panicking() {
            assert!(kept.faults.is_empty(), "{:?}", kept.faults);
        }
    }
}

fn token() -> String {
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let claims = r#"{"scp":"Actions.Results:run-1:job-2"}"#;
    format!(
        "{}.{}.{}",
        part(r#"{"alg":"HS256"}"#),
        part(claims),
        part("signature")
    )
}

fn serve(stream: TcpStream, kept: &Mutex<Kept>, origin: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        let (status, headers, body) = answer(&request, &mut kept.lock().unwrap(), origin);
        let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = &stream;
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return None;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some(Request {
        method,
        target,
        headers,
        body,
    })
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn answer(request: &Request, kept: &mut Kept, origin: &str) -> Answer {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let result = if let Some(call) = path.strip_prefix("/twirp/github.actions.results.api.v1.") {
        twirp(request, call, kept, origin)
    } else if request.method == "PUT" {
        put(request, path, query, kept)
    } else {
        get(request, path, query, kept)
    };
    result.unwrap_or_else(|fault| {
        kept.faults
            .push(format!("{} {}: {fault}", request.method, request.target));
        (500, Vec::new(), fault.into_bytes())
    })
}

fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn said(status: u16, body: &Value) -> Result<Answer, String> {
    Ok((
        status,
        vec![("content-type", "application/json".to_owned())],
        body.to_string().into_bytes(),
    ))
}

/// What a request must hold, and nothing else.
fn fields(asked: &Value, needed: &[&str], optional: &[&str]) -> Result<(), String> {
    let names: Vec<&String> = asked.as_object().ok_or("no object")?.keys().collect();
    for name in needed {
        expect(!asked[name].is_null(), &format!("{name} is missing"))?;
    }
    let known =
        |name: &&&String| needed.contains(&name.as_str()) || optional.contains(&name.as_str());
    expect(
        names.iter().all(|name| known(&name)),
        &format!("unknown fields: {names:?}"),
    )
}

fn twirp(request: &Request, call: &str, kept: &mut Kept, origin: &str) -> Result<Answer, String> {
    expect(request.method == "POST", "a call is a POST")?;
    expect(
        request.headers.get("authorization") == Some(&format!("Bearer {}", token())),
        "no token",
    )?;
    expect(
        request
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "application/json"),
        "no JSON",
    )?;
    let asked: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    let (_, method) = call.split_once('/').ok_or("no method")?;
    kept.calls.push(method.to_owned());
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let signed = |at: &str| format!("{origin}/acct/results/{at}?sig=secret");
    const IDS: [&str; 2] = ["workflow_run_backend_id", "workflow_job_run_backend_id"];
    if call.starts_with("ArtifactService/") {
        expect(
            text(IDS[0]) == "run-1" && text(IDS[1]) == "job-2",
            "other ids than the token's",
        )?;
    } else {
        expect(call.starts_with("CacheService/"), "an unknown service")?;
        expect(text("version").len() == 64, "no version")?;
    }
    let (key, version, name) = (text("key"), text("version"), text("name"));
    match method {
        "GetCacheEntryDownloadURL" => {
            fields(&asked, &["key", "restore_keys", "version"], &[])?;
            let mut keys: Vec<String> = kept
                .caches
                .keys()
                .filter(|k| k.1 == version)
                .map(|k| k.0.clone())
                .collect();
            let wanted: Vec<&str> = asked["restore_keys"]
                .as_array()
                .ok_or("no keys")?
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let exact = keys.iter().find(|k| **k == key).cloned();
            keys.retain(|k| wanted.iter().any(|prefix| k.starts_with(prefix)));
            match exact.or_else(|| keys.pop()) {
                None => said(200, &json!({"ok": false})),
                Some(key) => {
                    let url = signed(&format!("cache-{key}-{version}"));
                    said(
                        200,
                        &json!({"ok": true, "signed_download_url": url, "matched_key": key}),
                    )
                }
            }
        }
        "CreateCacheEntry" => {
            fields(&asked, &["key", "version"], &[])?;
            if kept.caches.contains_key(&(key.clone(), version.clone())) {
                return said(
                    409,
                    &json!({"code": "already_exists", "msg": "there is one"}),
                );
            }
            said(
                200,
                &json!({"ok": true, "signed_upload_url": signed(&format!("cache-{key}-{version}")), "message": ""}),
            )
        }
        "FinalizeCacheEntryUpload" => {
            fields(&asked, &["key", "version", "size_bytes"], &[])?;
            let content = kept
                .uploads
                .remove(&format!("cache-{key}-{version}"))
                .ok_or("nothing was uploaded")?;
            expect(
                text("size_bytes") == content.len().to_string(),
                "another size",
            )?;
            kept.caches.insert((key, version), content);
            said(200, &json!({"ok": true, "entry_id": "1", "message": ""}))
        }
        "CreateArtifact" => {
            fields(
                &asked,
                &[IDS[0], IDS[1], "name", "version"],
                &["expires_at", "mime_type"],
            )?;
            kept.begun.push(asked.clone());
            if kept.artifacts.contains_key(&name) {
                return said(
                    409,
                    &json!({"code": "already_exists", "msg": "an artifact with this name"}),
                );
            }
            said(
                200,
                &json!({"ok": true, "signed_upload_url": signed(&format!("artifact-{name}"))}),
            )
        }
        "FinalizeArtifact" => {
            fields(&asked, &[IDS[0], IDS[1], "name", "size", "hash"], &[])?;
            let content = kept
                .uploads
                .remove(&format!("artifact-{name}"))
                .ok_or("nothing was uploaded")?;
            expect(text("size") == content.len().to_string(), "another size")?;
            expect(text("hash") == digest(&content), "another hash")?;
            kept.next += 1;
            let kind = kept
                .begun
                .last()
                .and_then(|begun| begun["mime_type"].as_str())
                .unwrap_or_default()
                .to_owned();
            kept.artifacts.insert(name, (kept.next, kind, content));
            said(
                200,
                &json!({"ok": true, "artifact_id": kept.next.to_string()}),
            )
        }
        "DeleteArtifact" => {
            fields(&asked, &[IDS[0], IDS[1], "name"], &[])?;
            match kept.artifacts.remove(&name) {
                None => said(404, &json!({"code": "not_found", "msg": "there is none"})),
                Some((id, ..)) => said(200, &json!({"ok": true, "artifact_id": id.to_string()})),
            }
        }
        "ListArtifacts" => {
            fields(&asked, &IDS, &["name_filter", "id_filter"])?;
            let list = kept.artifacts.iter().map(|(name, (id, _, content))| {
                json!({
                    "workflow_run_backend_id": "run-1", "workflow_job_run_backend_id": "job-2",
                    "database_id": id.to_string(), "name": name, "size": content.len().to_string(),
                    "created_at": "2026-11-30T12:00:00Z", "digest": kept.digest.clone().unwrap_or(digest(content)),
                })
            });
            said(200, &json!({"artifacts": list.collect::<Vec<_>>()}))
        }
        "GetSignedArtifactURL" => {
            fields(&asked, &[IDS[0], IDS[1], "name"], &[])?;
            said(
                200,
                &json!({"signed_url": signed(&format!("artifact-{name}"))}),
            )
        }
        other => Err(format!("an unknown method {other}")),
    }
}

fn put(request: &Request, path: &str, query: &str, kept: &mut Kept) -> Result<Answer, String> {
    expect(
        !request.headers.contains_key("authorization"),
        "the token is not for uploads",
    )?;
    let place = path
        .strip_prefix("/acct/results/")
        .ok_or("another place than was said")?;
    let query: BTreeMap<&str, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (
                name,
                value
                    .replace("%3D", "=")
                    .replace("%2B", "+")
                    .replace("%2F", "/"),
            )
        })
        .collect();
    expect(
        query.get("sig").is_some_and(|sig| sig == "secret"),
        "no signature",
    )?;
    let comp = query.get("comp").ok_or("no comp")?;
    kept.calls.push(format!("PUT {comp}"));
    match comp.as_str() {
        "block" => {
            let id = query.get("blockid").ok_or("no block id")?;
            expect(BASE64.decode(id.as_bytes()).is_ok(), "a block id is base64")?;
            expect(!request.body.is_empty(), "an empty block")?;
            kept.blocks
                .insert(format!("{place} {id}"), request.body.clone());
        }
        "blocklist" => {
            let list =
                String::from_utf8(request.body.clone()).map_err(|error| error.to_string())?;
            let inner = list
                .split_once("<BlockList>")
                .and_then(|(_, rest)| rest.strip_suffix("</BlockList>"));
            let mut content = Vec::new();
            for item in inner.ok_or("no list")?.split_terminator("</Latest>") {
                let id = item.strip_prefix("<Latest>").ok_or("no <Latest>")?;
                content.extend(
                    kept.blocks
                        .remove(&format!("{place} {id}"))
                        .ok_or("an unknown block")?,
                );
            }
            kept.uploads.insert(place.to_owned(), content);
        }
        other => return Err(format!("unknown comp {other}")),
    }
    Ok((201, vec![("x-ms-request-id", "1".to_owned())], Vec::new()))
}

fn get(request: &Request, path: &str, query: &str, kept: &mut Kept) -> Result<Answer, String> {
    expect(request.method == "GET", "neither GET nor PUT")?;
    expect(
        !request.headers.contains_key("authorization"),
        "the token is not for downloads",
    )?;
    expect(query == "sig=secret", "no signature")?;
    let place = path
        .strip_prefix("/acct/results/")
        .ok_or("another place than was said")?;
    if let Some(name) = place.strip_prefix("artifact-") {
        let (_, kind, content) = kept.artifacts.get(name).ok_or("no such artifact")?;
        let name = format!("attachment; filename=\"{name}\"");
        return Ok((
            200,
            vec![
                ("content-type", kind.clone()),
                ("content-disposition", name),
            ],
            content.clone(),
        ));
    }
    let found = kept
        .caches
        .iter()
        .find(|((key, version), _)| place == format!("cache-{key}-{version}"));
    let (_, content) = found.ok_or("no such cache")?;
    Ok((
        200,
        vec![("content-type", "application/octet-stream".to_owned())],
        content.clone(),
    ))
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(content)))
}
