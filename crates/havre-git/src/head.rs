//! What the head of a request says. Pure, but for the bytes that are unpacked.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, header};

use crate::Name;
use crate::service::Service;

/// Longest `Git-Protocol` that is passed on.
const MOST_PROTOCOL_BYTES: usize = 200;
/// Unpacked at once: they may become a thousand times as many.
const PACKED_PIECE: usize = 4096;

/// The repository that a path's first part names: `shop.git`.
pub(crate) fn repository(part: &str) -> Option<Name> {
    part.strip_suffix(".git")?.parse().ok()
}

/// What git is to know of the client's protocol; only what is harmless in a variable.
pub(crate) fn protocol(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("git-protocol")?.to_str().ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '=' | ':' | '.' | '-' | '_');
    let is_sound = text.len() <= MOST_PROTOCOL_BYTES && text.chars().all(is_plain);
    is_sound.then(|| text.to_owned())
}

/// Whether the client speaks the protocol that needs no line about the service before all else.
pub(crate) fn is_version_2(protocol: Option<&str>) -> bool {
    protocol.is_some_and(|text| text.split(':').any(|part| part == "version=2"))
}

/// Before git's references: `# service=…` and a flush packet.
pub(crate) fn announcement(service: Service) -> Bytes {
    let line = format!("# service=git-{}\n", service.command());
    format!("{:04x}{line}0000", line.len() + 4).into()
}

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Plain,
    Gzip,
}

/// `None`: in a way that nobody knows.
pub(crate) fn coding(headers: &HeaderMap) -> Option<Coding> {
    match headers
        .get(header::CONTENT_ENCODING)
        .map(|it| it.as_bytes())
    {
        None | Some(b"identity") => Some(Coding::Plain),
        Some(b"gzip" | b"x-gzip") => Some(Coding::Gzip),
        Some(_) => None,
    }
}

/// A body as it was before it was packed. It grows by pieces, each of which is bounded.
pub(crate) fn unpacked(
    body: BoxStream<'static, io::Result<Bytes>>,
    coding: Coding,
) -> BoxStream<'static, io::Result<Bytes>> {
    if coding == Coding::Plain {
        return body;
    }
    let mut decoder = GzDecoder::new(Vec::new());
    body.map_ok(|chunk| stream::iter(pieces(chunk)).map(io::Result::Ok))
        .try_flatten()
        .map(move |piece| {
            decoder.write_all(&piece?)?;
            decoder.flush()?;
            Ok(std::mem::take(decoder.get_mut()).into())
        })
        .boxed()
}

fn pieces(mut chunk: Bytes) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while !chunk.is_empty() {
        pieces.push(chunk.split_to(chunk.len().min(PACKED_PIECE)));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_repository_is_named_by_a_path() {
        assert_eq!(repository("shop.git").expect("named").as_str(), "shop");
        for bad in [
            "shop", ".git", "..git", "../x.git", "a/b.git", "v1", "Shop.git",
        ] {
            assert_eq!(repository(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_a_harmless_protocol_is_passed_on() {
        let told = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("git-protocol", HeaderValue::from_static(text));
            protocol(&headers)
        };
        assert!(is_version_2(told("version=2:x=y").as_deref()));
        assert!(!is_version_2(told("version=1").as_deref()));
        assert_eq!(told("version=2;rm"), None);
        assert_eq!(protocol(&HeaderMap::new()), None);
    }

    #[test]
    fn an_announcement_is_a_packet_and_a_flush() {
        let expected = "001f# service=git-receive-pack\n0000";
        assert_eq!(announcement(Service::Push), expected);
    }

    #[tokio::test]
    async fn a_packed_body_is_unpacked_piece_by_piece() {
        let text: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&text).expect("packed");
        let packed = packed.finish().expect("packed");
        let chunks: Vec<_> = packed
            .chunks(10_000)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let pieces: Vec<_> = unpacked(stream::iter(chunks).boxed(), Coding::Gzip)
            .collect()
            .await;
        let pieces: io::Result<Vec<Bytes>> = pieces.into_iter().collect();
        let pieces = pieces.expect("unpacked");
        assert!(
            pieces
                .iter()
                .all(|piece| piece.len() <= PACKED_PIECE * 1040)
        );
        assert_eq!(pieces.concat(), text);
        let broken = stream::iter([Ok(Bytes::from_static(b"no gzip at all"))]).boxed();
        let read: Vec<_> = unpacked(broken, Coding::Gzip).collect().await;
        assert!(read.iter().any(Result::is_err));
    }
}
