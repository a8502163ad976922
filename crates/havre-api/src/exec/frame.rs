//! Frames of an upgraded connection: kind (1 byte), length (4 bytes, big-endian), payload.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{EXEC_CHUNK_BYTES, ExecFrame, ExecInput, ExecOutput, TerminalSize};

const STDIN: u8 = 0;
const STDIN_CLOSED: u8 = 1;
const RESIZE: u8 = 2;
const STDOUT: u8 = 16;
const STDERR: u8 = 17;
const EXIT: u8 = 18;
const ERROR: u8 = 19;

/// Largest payload: a chunk, or an error with its causes.
const MAX_PAYLOAD_BYTES: usize = 2 * EXEC_CHUNK_BYTES;

/// Arguments of 2 MiB may take six times as much in JSON.
pub(crate) const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed or ended inside a frame.
    #[error("cannot read from the connection")]
    Read(#[from] io::Error),
    /// The peer speaks something else.
    #[error("unexpected frame of kind {kind} with {length} bytes")]
    Malformed {
        /// First byte.
        kind: u8,
        /// Announced length.
        length: usize,
    },
}

/// Writes one frame in one call, so that frames of several writers never mix as long as each
/// holds the connection meanwhile.
pub async fn write_frame(to: &mut (impl AsyncWrite + Unpin), frame: &ExecFrame) -> io::Result<()> {
    let (kind, payload) = encode(frame);
    let mut bytes = Vec::with_capacity(5 + payload.len());
    bytes.push(kind);
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&payload);
    to.write_all(&bytes).await?;
    to.flush().await
}

/// Writes the document that says what to run, where it goes ahead of the frames: its length (4 bytes,
/// big-endian), and JSON.
pub(crate) async fn write_request(
    to: &mut (impl AsyncWrite + Unpin),
    document: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(document.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(document).await?;
    to.flush().await
}

/// Reads how many bytes it has, and leaves them. Not cancel-safe.
pub(crate) async fn read_request_length(from: &mut (impl AsyncRead + Unpin)) -> io::Result<u32> {
    let length = from.read_u32().await?;
    match length as usize <= MAX_REQUEST_BYTES {
        true => Ok(length),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Reads one frame; `None` when the connection ended between two. Not cancel-safe.
pub async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<ExecFrame>, FrameError> {
    let kind = match from.read_u8().await {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = from.read_u32().await? as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Err(FrameError::Malformed { kind, length });
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    decode(kind, payload.into()).map(Some)
}

fn encode(frame: &ExecFrame) -> (u8, Bytes) {
    match frame {
        ExecFrame::Input(ExecInput::Stdin(bytes)) => (STDIN, bytes.clone()),
        ExecFrame::Input(ExecInput::StdinClosed) => (STDIN_CLOSED, Bytes::new()),
        ExecFrame::Input(ExecInput::Resize(size)) => {
            let [c0, c1] = size.columns.to_be_bytes();
            let [r0, r1] = size.rows.to_be_bytes();
            (RESIZE, Bytes::copy_from_slice(&[c0, c1, r0, r1]))
        }
        ExecFrame::Output(ExecOutput::Stdout(bytes)) => (STDOUT, bytes.clone()),
        ExecFrame::Output(ExecOutput::Stderr(bytes)) => (STDERR, bytes.clone()),
        ExecFrame::Exit(code) => (EXIT, Bytes::copy_from_slice(&code.to_be_bytes())),
        ExecFrame::Error(error) => (ERROR, encode_error(error)),
    }
}

/// The error as JSON, without its causes where it would not fit.
fn encode_error(error: &crate::ApiError) -> Bytes {
    let whole = serde_json::to_vec(error).unwrap_or_default();
    if !whole.is_empty() && whole.len() <= MAX_PAYLOAD_BYTES {
        return whole.into();
    }
    let message: String = error.message.chars().take(1024).collect();
    let short = crate::ApiError::new(error.code, message);
    serde_json::to_vec(&short).unwrap_or_default().into()
}

fn decode(kind: u8, payload: Bytes) -> Result<ExecFrame, FrameError> {
    let length = payload.len();
    let malformed = || FrameError::Malformed { kind, length };
    Ok(match kind {
        STDIN => ExecFrame::Input(ExecInput::Stdin(payload)),
        STDIN_CLOSED => ExecFrame::Input(ExecInput::StdinClosed),
        RESIZE => {
            let [c0, c1, r0, r1] = payload[..].try_into().map_err(|_| malformed())?;
            ExecFrame::Input(ExecInput::Resize(TerminalSize {
                columns: u16::from_be_bytes([c0, c1]),
                rows: u16::from_be_bytes([r0, r1]),
            }))
        }
        STDOUT => ExecFrame::Output(ExecOutput::Stdout(payload)),
        STDERR => ExecFrame::Output(ExecOutput::Stderr(payload)),
        EXIT => {
            let code = payload[..].try_into().map_err(|_| malformed())?;
            ExecFrame::Exit(i32::from_be_bytes(code))
        }
        ERROR => ExecFrame::Error(serde_json::from_slice(&payload).map_err(|_| malformed())?),
        _ => return Err(malformed()),
    })
}
