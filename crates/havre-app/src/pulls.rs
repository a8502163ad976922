//! Images fetched from registries.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use havre_api::{Event, EventSink, PullProgress};
use havre_image::progress::Progress;
use havre_image::{
    Credentials, Digest, Image, ImageRef, Images, NameRights, PullError, PullOptions,
};
use tokio_util::sync::CancellationToken;

use crate::clock::elapsed_ms;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the pull of {reference} was cancelled")]
    Cancelled { reference: ImageRef },
    #[error(transparent)]
    Pull(#[from] PullError),
}

/// Fetches an image, for whom `names` are, and tells how far it is.
pub(crate) async fn pull(
    images: &Images,
    reference: &ImageRef,
    names: NameRights,
    events: &EventSink,
    cancel: &CancellationToken,
) -> Result<Image, FetchError> {
    let started = SystemTime::now();
    let name = reference.to_string();
    let tell = {
        let (events, name) = (events.clone(), name.clone());
        move |progress| {
            events.emit(Event::Pull {
                reference: name.clone(),
                progress,
            })
        }
    };
    tell(PullProgress::Started);
    let blobs: Mutex<BTreeMap<Digest, (u64, u64)>> = Mutex::default();
    let progress = {
        let tell = tell.clone();
        move |news: Progress| {
            let mut blobs = blobs.lock().unwrap_or_else(PoisonError::into_inner);
            blobs.insert(news.digest, (news.done, news.total.unwrap_or(news.done)));
            let done = blobs.values().map(|(done, _)| done).sum();
            let total = blobs.values().map(|(_, total)| total).sum();
            tell(PullProgress::Bytes {
                done,
                total: Some(total),
            });
        }
    };
    let options = PullOptions {
        credentials: credentials(),
        names,
        progress: Arc::new(progress),
        ..PullOptions::default()
    };
    let image = tokio::select! {
        image = images.pull(reference, &options) => image?,
        () = cancel.cancelled() => {
            return Err(FetchError::Cancelled { reference: reference.clone() });
        }
    };
    let digest = image.manifest_digest.to_string();
    tell(PullProgress::Done {
        digest,
        elapsed_ms: elapsed_ms(started),
    });
    Ok(image)
}

/// Those that `docker login` keeps for root, where there are any.
pub(crate) fn credentials() -> Credentials {
    let path = Path::new("/root/.docker/config.json");
    if path.exists() {
        Credentials::DockerConfig(path.to_owned())
    } else {
        Credentials::Anonymous
    }
}
