//! Uploads: blocks in any order, the list of blocks, or all at once.

use axum::body::{Body, BodyDataStream};
use axum::extract::{Path, Query as Asked, State};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use havre_base::body::Gathered;

use super::blob::{Query, plain, refuse};
use super::{PATIENCE, Server, blocklist};
use crate::blobs::{BlobError, Part};
use crate::failure::{Code, Failure};
use crate::link::Purpose;

/// Most bytes of a block list.
const MAX_LIST: usize = 8 << 20;
/// Bytes that are written at a time.
const BATCH: usize = 1 << 20;
/// The file of what is put all at once.
const WHOLE: &str = "whole";
/// Bytes that are read of a body that is refused, so that its sender reads why: it takes a connection that ends
/// while it sends for a broken one, and sends all of it again.
const DRAINED: usize = 256 << 20;

/// What is put.
enum What {
    Block(String),
    List,
    Whole,
}

/// Answers a PUT.
pub(super) async fn put(
    State(server): State<Server>,
    Path((purpose, folder)): Path<(String, String)>,
    query: Result<Asked<Query>, axum::extract::rejection::QueryRejection>,
    request: Request<Body>,
) -> Response {
    let query = match query {
        Ok(Asked(query)) => query,
        Err(error) => return refuse(&invalid(&error.body_text())),
    };
    if let Err(failure) = server.check(Purpose::Upload, (&purpose, &folder), &query) {
        return refuse(&failure);
    }
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = request.into_body().into_data_stream();
    match take(&server, folder, &query, length, &mut body).await {
        Ok(()) => created(),
        Err(failure) => {
            drain(&mut body).await;
            refuse(&failure)
        }
    }
}

async fn take(
    server: &Server,
    folder: String,
    query: &Query,
    length: Option<u64>,
    body: &mut BodyDataStream,
) -> Result<(), Failure> {
    match what(query)? {
        What::Block(name) => receive(server, folder, name, length, body).await,
        What::Whole => {
            receive(server, folder.clone(), WHOLE.to_owned(), length, body).await?;
            list(server, folder, vec![WHOLE.to_owned()]).await
        }
        What::List => {
            let read = gather(body);
            let text = tokio::time::timeout(PATIENCE, read)
                .await
                .map_err(|_| invalid("the block list did not come"))??;
            let text = std::str::from_utf8(&text).ok();
            let names = text.and_then(blocklist::parse);
            let names = names.ok_or_else(|| invalid("the block list is not complete XML"))?;
            list(server, folder, names).await
        }
    }
}

fn what(query: &Query) -> Result<What, Failure> {
    match (query.comp.as_deref(), query.blockid.as_deref()) {
        (None, None) => Ok(What::Whole),
        (Some("blocklist"), None) => Ok(What::List),
        (Some("block"), Some(id)) => {
            let file = blocklist::file(id);
            let file =
                file.ok_or_else(|| invalid("the block's id is no base64 of 1 to 64 bytes"))?;
            Ok(What::Block(file))
        }
        _ => Err(invalid(
            "blocks, block lists and whole blobs can be put, nothing else",
        )),
    }
}

async fn list(server: &Server, folder: String, names: Vec<String>) -> Result<(), Failure> {
    let put = move |results: &crate::Results| results.blobs().list(&folder, &names);
    server.run(put).await
}

/// Writes a body to a file, a batch at a time.
async fn receive(
    server: &Server,
    folder: String,
    name: String,
    length: Option<u64>,
    body: &mut BodyDataStream,
) -> Result<(), Failure> {
    let length = length.ok_or_else(|| invalid("a Content-Length is needed"))?;
    let begin = move |results: &crate::Results| begin(results, &folder, &name, length);
    let mut part = server.run(begin).await?;
    while let Some(first) = next(body).await? {
        // Who sends slowly has no turn while others wait for what he sends.
        let turn = tokio::time::timeout(PATIENCE, server.writes.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Failure::new(
                Code::Internal,
                "the disk is too slow; try again",
            ));
        };
        let pieces = at_hand(first, body)?;
        part = server
            .run(move |_| part.write(&pieces).map(|()| part))
            .await?;
    }
    server.run(move |_| part.finish()).await
}

/// Has caches give way to a block where they must.
fn begin(results: &crate::Results, folder: &str, name: &str, length: u64) -> Result<Part, Failure> {
    // Nothing gives way to what will be refused.
    results.blobs().awaits(folder, length)?;
    if !results.make_room(length)? {
        return Err(BlobError::NoRoom.into());
    }
    Ok(results.blobs().part(folder, name, length)?)
}

async fn gather(body: &mut BodyDataStream) -> Result<Bytes, Failure> {
    let mut gathered = Gathered::new(MAX_LIST);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| invalid("the block list ended early"))?;
        gathered
            .add(piece)
            .map_err(|error| invalid(&error.to_string()))?;
    }
    Ok(gathered.into_bytes())
}

/// What comes next; `None`: nothing more.
async fn next(body: &mut BodyDataStream) -> Result<Option<Bytes>, Failure> {
    let next = tokio::time::timeout(PATIENCE, body.next()).await;
    match next.map_err(|_| invalid("the body stands still"))? {
        Some(piece) => piece.map(Some).map_err(|_| invalid("the body ended early")),
        None => Ok(None),
    }
}

/// A piece, and what has come behind it already, up to a batch.
fn at_hand(first: Bytes, body: &mut BodyDataStream) -> Result<Vec<Bytes>, Failure> {
    let mut size = first.len();
    let mut pieces = vec![first];
    while size < BATCH {
        match body.next().now_or_never() {
            Some(Some(piece)) => {
                let piece = piece.map_err(|_| invalid("the body ended early"))?;
                size += piece.len();
                pieces.push(piece);
            }
            // What ends here, ends for who asks next too.
            Some(None) | None => break,
        }
    }
    Ok(pieces)
}

async fn drain(body: &mut BodyDataStream) {
    let mut left = DRAINED;
    while left > 0 {
        match tokio::time::timeout(PATIENCE, body.next()).await {
            Ok(Some(Ok(piece))) => left = left.saturating_sub(piece.len()),
            Ok(Some(Err(_)) | None) | Err(_) => return,
        }
    }
}

fn created() -> Response {
    let mut response = plain(StatusCode::CREATED);
    let id = header::HeaderValue::from_static("havre");
    response.headers_mut().insert("x-ms-request-id", id);
    response
}

fn invalid(why: &str) -> Failure {
    Failure::new(Code::InvalidArgument, why)
}
