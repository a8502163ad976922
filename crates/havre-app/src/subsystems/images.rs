//! Images: their calls of the API, and the budget of the build cache.

use std::sync::Arc;

use havre_api::{ImageImport, ImageProvenance, ImagePrune, ImageRemove, ImageScan, Images, Routes};

use crate::daemon::Daemon;
use crate::subsystem::{Part, Subsystem, Task};
use crate::{housekeeping, images};

pub(crate) const PART: Part = Part {
    schema: Some(havre_image::SCHEMA),
    build: |daemon, _| Box::new(ImageStore(Arc::clone(daemon))),
};

struct ImageStore(Arc<Daemon>);

impl Subsystem for ImageStore {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(Arc::clone(&self.0))
            .call::<Images, _>(async |daemon, _, _| images::list(&daemon).await)
            .call::<ImageImport, _>(async |daemon, _, request| {
                images::import(&daemon, request).await
            })
            .call::<ImageRemove, _>(async |daemon, _, request| {
                images::remove(&daemon, request).await
            })
            .call::<ImageProvenance, _>(async |daemon, _, query| {
                images::provenance(&daemon, query).await
            })
            .call::<ImageScan, _>(async |daemon, _, request| images::scan(&daemon, request).await)
            .call::<ImagePrune, _>(async |daemon, _, request| {
                images::prune(&daemon, request).await
            });
        Some(routes.erased())
    }

    fn tasks(&self) -> Vec<Task> {
        let daemon = Arc::clone(&self.0);
        let keep = move |task| housekeeping::keep(Arc::clone(&daemon), task);
        vec![Task::new("build cache", keep)]
    }
}
