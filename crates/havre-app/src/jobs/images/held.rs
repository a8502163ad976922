//! Images that a job has: found by their names, kept until it is gone.

use havre_base::{blocking, one_line};
use havre_image::{Image, ImageRef};
use havre_job::images::{Failed, Image as Told};

use super::talk::failed;
use super::{OfBox, lease_of};

/// What a job is told of an image.
pub(super) fn told(image: &Image) -> Told {
    Told {
        id: image.config_digest.to_string(),
        digest: image.manifest_digest.to_string(),
        bytes: image.size(),
    }
}

/// An image of the job.
pub(super) fn find(of: &OfBox, name: &str) -> Result<Image, Failed> {
    let Some(digest) = of.names.find(name) else {
        let mut failure = failed(format!("this job has no image {name:?}"));
        failure.hint = Some(
            "build or pull it in a step before; images of other jobs are in registries".to_owned(),
        );
        return Err(failure);
    };
    let images = of.images().map_err(failed)?;
    images
        .image(digest)
        .map_err(|error| failed(one_line(&error)))
}

/// Names of images that a job writes.
pub(super) fn names(texts: &[String]) -> Result<Vec<ImageRef>, Failed> {
    let mut names = Vec::with_capacity(texts.len());
    for text in texts {
        let name: ImageRef = text
            .parse()
            .map_err(|error| failed(format!("the name {text:?}: {}", one_line(&error))))?;
        names.push(name);
    }
    Ok(names)
}

/// Keeps an image for as long as the job is there.
pub(super) async fn keep(of: &OfBox, names: &[ImageRef], image: &Image) -> Result<(), Failed> {
    let images = of.images().map_err(failed)?;
    let plain: Vec<ImageRef> = names
        .iter()
        .filter(|it| it.digest().is_none())
        .cloned()
        .collect();
    let held = of.names.give(&plain, image.manifest_digest);
    let held = held.map_err(|error| failed(format!("the image is not kept: {error}")))?;
    let holder = lease_of(&of.id);
    let leased = blocking(move || {
        // One that is gone nobody can hold.
        let held: Vec<Image> = held
            .into_iter()
            .flat_map(|it| images.image(it).ok())
            .collect();
        images.lease(&holder, &held.iter().collect::<Vec<_>>())
    });
    let leased = leased.await.map_err(|error| failed(one_line(&error)))?;
    leased.map_err(|error| failed(one_line(&error)))
}
