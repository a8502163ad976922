//! The socket: one thing is asked by connection.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use havre_base::{blocking, one_line};
use havre_image::Images;
use havre_job::images::{Answer, Ask, Image as Told, MAX_ASK, SOCKET};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::OfBox;
use super::beside;
use super::build;
use super::context;
use super::held::{self, find, told};
use super::talk::{self, Item, Teller, failed};

/// Most connections of one box at once.
const MAX_CONNECTIONS: usize = 16;
/// The longest pause within what is asked.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until it is tried once more to take a connection.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves the images of one box at a socket.
pub(in crate::jobs) struct Served;

impl Served {
    /// Until `end`; a socket that is there already is replaced.
    pub(in crate::jobs) fn start(
        of: OfBox,
        folder: &Path,
        end: CancellationToken,
        tasks: &TaskTracker,
    ) -> io::Result<()> {
        let path = folder.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        // Users of the box are nobody here; nobody else gets into the folder above.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        let (of, tracker) = (Arc::new(of), tasks.clone());
        tasks.spawn(async move {
            let ended = end.clone();
            tokio::select! {
                () = ended.cancelled() => {}
                () = take_all(of, listener, end, tracker) => {}
            }
        });
        Ok(())
    }
}

async fn take_all(
    of: Arc<OfBox>,
    listener: UnixListener,
    end: CancellationToken,
    tasks: TaskTracker,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await;
        match (permit, listener.accept().await) {
            (Ok(permit), Ok((stream, _))) => {
                let (of, end) = (Arc::clone(&of), end.clone());
                tasks.spawn(async move {
                    if let Err(error) = connection(&of, stream, &end).await {
                        tracing::debug!(id = of.id, %error, "a job asked, and went away");
                    }
                    drop(permit);
                });
            }
            // Out of descriptors, or gone before it was taken.
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What is asked, with the folder of its context.
type Taken = (Ask, Option<tempfile::TempDir>);

async fn connection(of: &OfBox, stream: UnixStream, end: &CancellationToken) -> io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let images = of.images();
    let taking = blocking(move || {
        let taken = take(&stream, images);
        stream.set_nonblocking(true)?;
        Ok::<_, io::Error>((taken, stream))
    });
    let (taken, stream) = taking.await.map_err(io::Error::other)??;
    let (reader, writer) = UnixStream::from_std(stream)?.into_split();
    let (teller, items) = Teller::new();
    let cancel = end.child_token();
    let work = async {
        let last = match taken {
            Ok(taken) => answer(of, &taken, &teller, &cancel).await,
            Err(why) => Item::Answer(Answer::Failed(Box::new(failed(why)))),
        };
        teller.clone().end(last).await;
        drop(teller);
    };
    let working = async {
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => return,
            () = gone(reader) => {}
            () = end.cancelled() => {}
        }
        cancel.cancel();
        work.await;
    };
    tokio::join!(working, talk::write(items, writer));
    Ok(())
}

/// Ends when nobody is there who waits.
async fn gone(mut reader: OwnedReadHalf) {
    // Nothing follows what was asked; whatever does is as good as an end.
    let mut byte = [0];
    drop(reader.read(&mut byte).await);
}

/// Reads what is asked. Blocks.
fn take(stream: &StdStream, images: Result<Images, String>) -> Result<Taken, String> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    let cannot = |error: io::Error| format!("what is asked cannot be read: {error}");
    let mut bounded = (&mut reader).take(MAX_ASK);
    bounded.read_until(b'\n', &mut line).map_err(cannot)?;
    if line.pop() != Some(b'\n') {
        return Err(format!(
            "what is asked is cut, or longer than {MAX_ASK} bytes"
        ));
    }
    let ask = serde_json::from_slice(&line);
    let ask: Ask = ask.map_err(|error| format!("what is asked cannot be understood: {error}"))?;
    if !matches!(ask, Ask::Build(_)) {
        return Ok((ask, None));
    }
    let folder = images?.scratch();
    let folder = folder.map_err(|error| format!("cannot make room for the context: {error}"))?;
    context::receive(reader, folder.path())
        .map_err(|error| format!("the build context is not taken: {error}"))?;
    Ok((ask, Some(folder)))
}

async fn answer(
    of: &OfBox,
    (ask, context): &Taken,
    teller: &Teller,
    cancel: &CancellationToken,
) -> Item {
    let answered = match (ask, context) {
        (Ask::Build(build), Some(context)) => {
            let image = build::build(of, build, context.path(), teller, cancel).await;
            image.map(Answer::Image)
        }
        (Ask::Build(_), None) => Err(failed("a build needs a context")),
        (Ask::Pull(pull), _) => {
            let image = build::pull(of, pull, teller, cancel).await;
            image.map(Answer::Image)
        }
        (Ask::Find(name), _) => find(of, name).map(|image| Answer::Image(told(&image))),
        (Ask::Tag { image, names }, _) => tag(of, image, names).await.map(Answer::Image),
        (Ask::Blob { image, blob }, _) => match opened(of, image, blob).await {
            Ok((file, bytes)) => {
                teller.tell(Answer::Bytes(bytes));
                return Item::File(file, bytes);
            }
            Err(failed) => Err(failed),
        },
        (Ask::Run(run), _) => beside::run(of, run, teller, cancel).await,
    };
    Item::Answer(answered.unwrap_or_else(|failed| Answer::Failed(Box::new(failed))))
}

async fn tag(of: &OfBox, image: &str, names: &[String]) -> Result<Told, havre_job::images::Failed> {
    let image = find(of, image)?;
    held::keep(of, &held::names(names)?, &image).await?;
    Ok(told(&image))
}

/// Only what an image of the job is made of.
async fn opened(
    of: &OfBox,
    image: &str,
    blob: &str,
) -> Result<(fs::File, u64), havre_job::images::Failed> {
    let image = find(of, image)?;
    let images = of.images().map_err(failed)?;
    let blob = blob.to_owned();
    let open = move || -> Result<(fs::File, u64), String> {
        let document = [image.manifest_digest, image.config_digest];
        let document = document.into_iter().find(|it| it.to_string() == blob);
        let layer = image.layers.iter().find(|it| it.digest.to_string() == blob);
        let file = match (document, layer) {
            (Some(digest), _) => {
                fs::File::open(images.blob_path(&digest)).map_err(|error| error.to_string())?
            }
            (None, Some(layer)) => images.open_layer(layer).map_err(|error| one_line(&error))?,
            (None, None) => return Err(format!("the image has no blob {blob:?}")),
        };
        let bytes = file.metadata().map_err(|error| error.to_string())?.len();
        Ok((file, bytes))
    };
    let opened = blocking(open).await;
    opened
        .map_err(|error| failed(one_line(&error)))?
        .map_err(failed)
}
