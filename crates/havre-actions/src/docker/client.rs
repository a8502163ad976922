//! Speaks to who builds images, by the socket in the box.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use havre_image::{BlobBytes, BlobSource, Digest, Entry, EntryKind, TarWriter};
use havre_job::images::{Answer, Ask, Failed, Image, MAX_ANSWER, MAX_ASK};

use crate::failure::{Failure, refused};

/// How long a daemon that restarts is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// How often something is asked again that a restart has ended.
const ROUNDS: usize = 4;

/// A build's context.
pub(crate) struct Context {
    /// A folder.
    pub(crate) folder: PathBuf,
    /// The Dockerfile; it may be elsewhere.
    pub(crate) dockerfile: PathBuf,
}

/// Hears what is told on the way: lines and warnings.
pub(crate) type Hear<'a> = &'a dyn Fn(&Answer);

/// Who builds images.
#[derive(Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: &str) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Asks for something that comes to an image.
    pub(crate) fn image(
        &self,
        ask: &Ask,
        context: Option<&Context>,
        hear: Hear<'_>,
    ) -> Result<Image, Failure> {
        match self.ask(ask, context, hear)? {
            Answer::Image(image) => Ok(image),
            other => strange(&other),
        }
    }

    /// Asks, and asks again where a restart has ended what was asked.
    pub(crate) fn ask(
        &self,
        ask: &Ask,
        context: Option<&Context>,
        hear: Hear<'_>,
    ) -> Result<Answer, Failure> {
        for round in 0..ROUNDS {
            if round > 0 {
                hear(&Answer::Warning(
                    "the daemon was restarted: what it has not finished begins anew".to_owned(),
                ));
            }
            match self.once(ask, context, hear)? {
                Some(Answer::Failed(failed)) => return Err(of_failed(*failed)),
                Some(answer) => return Ok(answer),
                None => {}
            }
        }
        refused("the builder ended without a word; `havre doctor` on the machine says why")
    }

    /// Asks for something that must not be done twice.
    pub(crate) fn ask_once(&self, ask: &Ask, hear: Hear<'_>) -> Result<Answer, Failure> {
        match self.once(ask, None, hear)? {
            Some(Answer::Failed(failed)) => Err(of_failed(*failed)),
            Some(answer) => Ok(answer),
            None => refused("the daemon was restarted meanwhile; run the job again"),
        }
    }

    /// `None`: the other end has gone.
    fn once(
        &self,
        ask: &Ask,
        context: Option<&Context>,
        hear: Hear<'_>,
    ) -> Result<Option<Answer>, Failure> {
        let stream = self.connect(ask)?;
        let sent = match context {
            Some(context) => send(&stream, context),
            None => Ok(()),
        };
        // Whoever takes no more may have said why.
        let mut reader = BufReader::new(&stream);
        loop {
            match answer(&mut reader)? {
                Some(told @ (Answer::Line(_) | Answer::ErrorLine(_) | Answer::Warning(_))) => {
                    hear(&told)
                }
                Some(last) => return Ok(Some(last)),
                None => break,
            }
        }
        match sent {
            Err(Failure::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
                Ok(None)
            }
            Err(failure) => Err(failure),
            Ok(()) => Ok(None),
        }
    }

    /// Connects, and says what is asked.
    fn connect(&self, ask: &Ask) -> Result<UnixStream, Failure> {
        let begun = Instant::now();
        let mut stream = loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => break stream,
                Err(error) => {
                    let passing = matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                    );
                    if !passing || begun.elapsed() > PATIENCE {
                        return Err(Failure::io("reach the builder")(error));
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        };
        let line = serde_json::to_string(ask);
        let line = line.map_err(|error| Failure::Refused(error.to_string()))?;
        if line.len() as u64 >= MAX_ASK {
            return refused(format!(
                "labels, arguments and secrets are too long together: {MAX_ASK} bytes are the most"
            ));
        }
        stream
            .write_all(format!("{line}\n").as_bytes())
            .map_err(Failure::io("ask the builder"))?;
        Ok(stream)
    }

    /// A blob of an image: its bytes, and how many they are.
    pub(crate) fn blob(&self, image: &str, blob: &str) -> Result<(UnixStream, u64), Failure> {
        let (image, blob) = (image.to_owned(), blob.to_owned());
        let stream = self.connect(&Ask::Blob { image, blob })?;
        // What follows the line is not to be taken with it.
        let mut line = Vec::new();
        let mut byte = [0];
        while (&stream)
            .read(&mut byte)
            .map_err(Failure::io("hear the builder"))?
            == 1
        {
            if byte == *b"\n" {
                break;
            }
            line.push(byte[0]);
            if line.len() as u64 > MAX_ANSWER {
                break;
            }
        }
        match serde_json::from_slice(&line) {
            Ok(Answer::Bytes(bytes)) => Ok((stream, bytes)),
            Ok(Answer::Failed(failed)) => Err(of_failed(*failed)),
            Ok(other) => strange(&other),
            Err(_) => refused("the builder ended without a word"),
        }
    }

    /// A small blob, whole.
    pub(crate) fn document(&self, image: &str, blob: &str) -> Result<Vec<u8>, Failure> {
        let (stream, bytes) = self.blob(image, blob)?;
        if bytes > MAX_ASK {
            return refused(format!("{blob} is too long for a document"));
        }
        let mut document = Vec::new();
        stream
            .take(bytes)
            .read_to_end(&mut document)
            .map_err(Failure::io(format!("read {blob}")))?;
        Ok(document)
    }
}

fn answer(reader: &mut BufReader<&UnixStream>) -> Result<Option<Answer>, Failure> {
    let mut line = Vec::new();
    match reader.take(MAX_ANSWER).read_until(b'\n', &mut line) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(Failure::io("hear the builder")(error)),
    }
    match serde_json::from_slice(&line) {
        Ok(answer) => Ok(Some(answer)),
        // Cut in the middle.
        Err(_) if line.last() != Some(&b'\n') => Ok(None),
        Err(error) => refused(format!("what the builder says cannot be read: {error}")),
    }
}

fn strange<T>(answer: &Answer) -> Result<T, Failure> {
    refused(format!("the builder answers something else: {answer:?}"))
}

fn of_failed(failed: Failed) -> Failure {
    let mut why = failed.why;
    if let Some(hint) = &failed.hint {
        why.push_str(&format!("; {hint}"));
    }
    Failure::Built {
        why,
        place: failed.place,
        instruction: failed.instruction,
        log: failed.log,
    }
}

/// Sends what a build can take from its context.
fn send(stream: &UnixStream, context: &Context) -> Result<(), Failure> {
    let Context { folder, dockerfile } = context;
    let paths = havre_image::builder::context_paths(folder, Some(dockerfile))
        .map_err(|error| Failure::Refused(havre_base::one_line(&error)))?;
    let mut tar = TarWriter::new(BufWriter::with_capacity(1 << 18, stream));
    let mut sent = BTreeSet::new();
    for path in paths {
        // The Dockerfile is named twice, where nothing leaves it out.
        if !sent.insert(path.clone()) {
            continue;
        }
        let doing = || Failure::io(format!("send {}", path.display()));
        let full = folder.join(&path);
        let meta = fs::symlink_metadata(&full).map_err(doing())?;
        let kind = meta.file_type();
        let entry = |of| Entry {
            mtime: meta.mtime(),
            mtime_nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(0),
            ..Entry::new(path.as_os_str().as_bytes(), of, meta.mode() & 0o7777)
        };
        if kind.is_dir() {
            tar.append_empty(&entry(EntryKind::Directory))
                .map_err(doing())?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&full).map_err(doing())?;
            let mut link = entry(EntryKind::Symlink);
            link.link = target.as_os_str().as_bytes().to_vec();
            tar.append_empty(&link).map_err(doing())?;
        } else if kind.is_file() {
            let mut file = havre_image::regular::open(&full).map_err(doing())?;
            let mut whole = entry(EntryKind::File);
            whole.size = file.metadata().map_err(doing())?.len();
            tar.append(&whole, &mut file).map_err(doing())?;
        } else if !kind.is_socket() {
            return refused(format!(
                "{} is neither a file, a folder nor a link; leave it out by .dockerignore",
                full.display()
            ));
        }
    }
    let sent = tar.finish().and_then(|mut out| out.flush());
    sent.map_err(Failure::io("send the build context"))
}

/// Blobs of one image, for pushing.
pub(crate) struct Blobs {
    pub(crate) client: Client,
    pub(crate) image: String,
}

impl BlobSource for Blobs {
    fn open(&self, digest: &Digest) -> io::Result<BlobBytes> {
        let opened = self.client.blob(&self.image, &digest.to_string());
        let (stream, _) = opened.map_err(|error| io::Error::other(havre_base::one_line(&error)))?;
        stream.set_nonblocking(true)?;
        Ok(Box::new(tokio::net::UnixStream::from_std(stream)?))
    }
}

/// Where the Dockerfile is for the builder: its name, and its text where it is not in the context.
pub(crate) fn dockerfile(
    context: &Context,
    shown: &Path,
) -> Result<(String, Option<String>), Failure> {
    if let Ok(inside) = context.dockerfile.strip_prefix(&context.folder) {
        return Ok((inside.to_string_lossy().into_owned(), None));
    }
    let text = havre_base::read_small(&context.dockerfile, 4 << 20).map_err(Failure::io(
        format!("read {}", context.dockerfile.display()),
    ))?;
    Ok((shown.to_string_lossy().into_owned(), Some(text)))
}
