//! Downloads: streamed from their files, whole or in part.

use axum::body::Body;
use axum::extract::{Path, Query as Asked, State};
use axum::http::response::Builder;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use futures_util::stream::try_unfold;
use havre_base::blocking;

use super::Server;
use super::blob::{Query, refuse};
use super::range::{Part, parse};
use crate::blobs::Content;
use crate::error::ResultsError;
use crate::failure::{Code, Failure};
use crate::link::Purpose;
use crate::service::Results;

/// What is downloaded.
struct Found {
    content: Content,
    mime: String,
    /// The name that it is to be saved under.
    name: Option<String>,
}

/// Answers a GET, and a HEAD.
pub(super) async fn get(
    State(server): State<Server>,
    Path((purpose, folder)): Path<(String, String)>,
    query: Result<Asked<Query>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let Asked(query) =
            query.map_err(|error| Failure::new(Code::InvalidArgument, error.body_text()))?;
        server.check(Purpose::Download, (&purpose, &folder), &query)?;
        let tag = format!("\"{folder}\"");
        let found = server.run(move |results| find(results, &folder)).await?;
        respond(found, &tag, &headers)
    };
    match answer.await {
        Ok(response) => response,
        Err(failure) => refuse(&failure),
    }
}

fn find(results: &Results, folder: &str) -> Result<Found, Failure> {
    let (mime, name) = match results.tables().artifact_in(folder)? {
        Some(row) => (row.mime, Some(row.name)),
        None if results.tables().cache_in(folder)? => ("application/octet-stream".to_owned(), None),
        None => return Err(missing()),
    };
    let content = results
        .blobs()
        .read(folder)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(),
            _ => ResultsError::io("open a blob")(error).into(),
        })?;
    Ok(Found {
        content,
        mime,
        name,
    })
}

fn respond(found: Found, tag: &str, headers: &HeaderMap) -> Result<Response, Failure> {
    let Found {
        mut content,
        mime,
        name,
    } = found;
    let size = content.size();
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, &mime)
        .header(header::ETAG, tag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header("x-ms-request-id", "havre");
    if let Some(name) = name {
        response = response.header(header::CONTENT_DISPOSITION, disposition(&name, &mime));
    }
    match asked(headers, tag, size) {
        Part::All => send(response.header(header::CONTENT_LENGTH, size), content),
        Part::Some { start, length } => {
            content.cut(start, length);
            let range = format!("bytes {start}-{}/{size}", start + length - 1);
            let response = response
                .status(206)
                .header(header::CONTENT_RANGE, range)
                .header(header::CONTENT_LENGTH, length);
            send(response, content)
        }
        Part::Never => {
            let response = response
                .status(416)
                .header(header::CONTENT_RANGE, format!("bytes */{size}"));
            made(response.body(Body::empty()))
        }
    }
}

/// The part that is asked for, of what is still the same.
fn asked(headers: &HeaderMap, tag: &str, size: u64) -> Part {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("if-range") {
        Some(other) if other != tag => Part::All,
        Some(_) | None => parse(text("x-ms-range").or_else(|| text("range")), size),
    }
}

fn send(response: Builder, content: Content) -> Result<Response, Failure> {
    let chunks = try_unfold(content, |mut content| async {
        let read = blocking(move || content.chunk().map(|chunk| (chunk, content))).await;
        let (chunk, content) = read.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>(chunk.map(|chunk| (chunk, content)))
    });
    made(response.body(Body::from_stream(chunks)))
}

fn made(response: Result<Response, axum::http::Error>) -> Result<Response, Failure> {
    response.map_err(|error| Failure::internal(&error))
}

/// The name to save it under; clients prefer the form that may be more than ASCII.
fn disposition(name: &str, mime: &str) -> String {
    let is_zip = mime == "application/zip" && !name.ends_with(".zip");
    let name = if is_zip {
        format!("{name}.zip")
    } else {
        name.to_owned()
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
    let plain = name.replace(|c| !is_plain(c), "_");
    let mut full = String::new();
    for byte in name.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            true => full.push(char::from(byte)),
            false => full.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{full}")
}

fn missing() -> Failure {
    Failure::new(Code::NotFound, "it is not there any more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_saved_under_its_own_name() {
        assert_eq!(
            disposition("dist é", "application/zip"),
            "attachment; filename=\"dist _.zip\"; filename*=UTF-8''dist%20%C3%A9.zip"
        );
        assert_eq!(
            disposition("a'b;c", "text/plain"),
            "attachment; filename=\"a_b_c\"; filename*=UTF-8''a%27b%3Bc"
        );
    }
}
