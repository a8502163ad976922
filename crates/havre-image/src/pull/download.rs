//! One blob from a registry to the store, in as many goes as it takes.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use havre_base::blocking;
use http::header::CONTENT_RANGE;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tempfile::TempPath;
use tokio::sync::{Mutex, mpsc};

use super::tries::Tries;
use super::{Pull, PullFault};
use crate::Digest;
use crate::digest::Hashing;
use crate::images::{Images, locked};
use crate::manifest::Descriptor;
use crate::progress::TransferPhase;
use crate::registry::{self, IDLE_TIMEOUT, RequestError};

/// Chunks between the network and the disk.
const QUEUE: usize = 16;

/// A download as far as it got.
struct Partial {
    file: Hashing<File>,
    path: PathBuf,
    at: u64,
}

impl Pull<'_> {
    /// Fetches a blob unless it is there.
    pub(super) async fn blob(&self, descriptor: &Descriptor) -> Result<(), PullFault> {
        let digest = descriptor.digest;
        let lock = self.download_lock(digest);
        let _guard = lock.lock().await;
        let images = self.images.clone();
        if blocking(move || images.inner.blobs.touch(&digest)).await?? {
            self.emit(descriptor, TransferPhase::Present, descriptor.size);
            return Ok(());
        }
        let path = self.images.inner.root.join("partial").join(digest.hex());
        let mut tries = Tries::default();
        let mut fresh = false;
        loop {
            let mut partial = open_partial(path.clone(), descriptor.size).await?;
            partial = self.fetch(partial, descriptor, &mut tries).await?;
            let images = self.images.clone();
            match blocking(move || finish(&images, partial, digest)).await? {
                // A resumed download may have started from damaged bytes: once more from scratch.
                Err(PullFault::Digest { .. }) if !fresh => fresh = true,
                other => {
                    other?;
                    self.emit(descriptor, TransferPhase::Done, descriptor.size);
                    return Ok(());
                }
            }
        }
    }

    /// Reads on until all bytes are there.
    async fn fetch(
        &self,
        mut partial: Partial,
        descriptor: &Descriptor,
        tries: &mut Tries,
    ) -> Result<Partial, PullFault> {
        let path = format!("blobs/{}", descriptor.digest);
        while partial.at < descriptor.size {
            let before = partial.at;
            let error = match self.registry.get(&path, "*/*", before).await {
                Err(error) => error,
                Ok(response) => {
                    if starts_at(&response, before) {
                        let (back, result) = self.receive(partial, response, descriptor).await?;
                        partial = back;
                        match result {
                            Ok(()) => continue,
                            Err(error) => error,
                        }
                    } else if response.status() == StatusCode::OK {
                        // No ranges here: everything comes again.
                        let (back, result) = self
                            .receive(partial.restart().await?, response, descriptor)
                            .await?;
                        partial = back;
                        match result {
                            Ok(()) => continue,
                            Err(error) => error,
                        }
                    } else {
                        partial = partial.restart().await?;
                        registry::cut(self.host)
                    }
                }
            };
            self.emit(descriptor, TransferPhase::Retrying, partial.at);
            tries.pause(error, partial.at > before).await?;
        }
        Ok(partial)
    }

    /// Writes a body behind what is there. The partial download comes back also when the
    /// connection breaks.
    async fn receive(
        &self,
        partial: Partial,
        response: Response<Incoming>,
        descriptor: &Descriptor,
    ) -> Result<(Partial, Result<(), RequestError>), PullFault> {
        let (chunks, queue) = mpsc::channel(QUEUE);
        let mut at = partial.at;
        let writer = tokio::task::spawn_blocking(move || partial.write(queue));
        let mut body = response.into_body();
        let result = loop {
            match tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await {
                Err(_) => {
                    break Err(RequestError::Timeout {
                        host: self.host.to_owned(),
                        limit: IDLE_TIMEOUT,
                    });
                }
                Ok(None) if at < descriptor.size => break Err(registry::cut(self.host)),
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => break Err(registry::broken(self.host, error)),
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    at += data.len() as u64;
                    if at > descriptor.size {
                        return Err(PullFault::TooLong {
                            digest: descriptor.digest,
                            size: descriptor.size,
                        });
                    }
                    // A closed queue means that the writer failed; it tells why below.
                    if chunks.send(data).await.is_err() {
                        break Ok(());
                    }
                    self.emit(descriptor, TransferPhase::Transferring, at);
                }
            }
        };
        drop(chunks);
        let partial = writer.await.map_err(|_| PullFault::ShuttingDown)??;
        Ok((partial, result))
    }

    fn download_lock(&self, digest: Digest) -> Arc<Mutex<()>> {
        let mut downloads = locked(&self.images.inner.downloads);
        downloads.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = downloads.get(&digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(Mutex::new(()));
        downloads.insert(digest, Arc::downgrade(&lock));
        lock
    }
}

impl Partial {
    fn write(mut self, mut queue: mpsc::Receiver<Bytes>) -> Result<Self, PullFault> {
        while let Some(chunk) = queue.blocking_recv() {
            self.file
                .write_all(&chunk)
                .map_err(partial_error("write", &self.path))?;
            self.at += chunk.len() as u64;
        }
        Ok(self)
    }

    /// From the first byte again.
    async fn restart(self) -> Result<Self, PullFault> {
        blocking(move || {
            let (_, _, file) = self.file.finish();
            file.set_len(0)
                .and_then(|()| (&file).seek(SeekFrom::Start(0)))
                .map_err(partial_error("empty", &self.path))?;
            Ok(Self {
                file: Hashing::new(file),
                path: self.path,
                at: 0,
            })
        })
        .await?
    }
}

/// Opens what an earlier try left and hashes it.
async fn open_partial(path: PathBuf, size: u64) -> Result<Partial, PullFault> {
    blocking(move || {
        let error = |operation| partial_error(operation, &path);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(error("open"))?;
        if file.metadata().map_err(error("look at"))?.len() > size {
            file.set_len(0).map_err(error("empty"))?;
        }
        let mut hashing = Hashing::new(io::sink());
        io::copy(&mut file, &mut hashing).map_err(error("read"))?;
        Ok(Partial {
            at: hashing.passed(),
            file: hashing.replace(file),
            path: path.clone(),
        })
    })
    .await?
}

/// Makes the complete download a blob; one with other bytes is removed.
fn finish(images: &Images, partial: Partial, digest: Digest) -> Result<(), PullFault> {
    let (found, _, file) = partial.file.finish();
    if found != digest {
        fs::remove_file(&partial.path).map_err(partial_error("remove", &partial.path))?;
        return Err(PullFault::Digest {
            expected: digest,
            found,
        });
    }
    let path =
        TempPath::try_from_path(&partial.path).map_err(partial_error("find", &partial.path))?;
    Ok(images.inner.blobs.adopt_file(&file, path, &digest)?)
}

fn partial_error(
    operation: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> PullFault + use<> {
    let path = path.to_owned();
    move |source| PullFault::Partial {
        operation,
        path,
        source,
    }
}

/// The answer continues at byte `at`.
fn starts_at(response: &Response<Incoming>, at: u64) -> bool {
    match response.status() {
        StatusCode::OK => at == 0,
        StatusCode::PARTIAL_CONTENT => response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-'))
            .is_some_and(|(start, _)| start.parse() == Ok(at)),
        _ => false,
    }
}
