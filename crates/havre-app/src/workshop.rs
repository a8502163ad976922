//! Where images are built, for projects and for jobs: one after the other, within the caps of builds.

use std::path::PathBuf;
use std::sync::Arc;

use havre_api::ApiError;
use havre_engine::{Engine, SharedFilter};
use havre_image::builder::{self, BaseImages, BuildError, BuildRequest, Progress};
use havre_image::{Image, Images};
use havre_net::Net;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::pressure;
use crate::root::Root;
use crate::steps::{BuildLimits, Steps};

/// Builds on this machine, in containers that leave room for what serves.
pub(crate) struct Workshop {
    engine: Engine,
    net: Arc<Net>,
    exe: PathBuf,
    state_dir: PathBuf,
    /// A build has ended, or found no room.
    ended: Box<dyn Fn() + Send + Sync>,
    /// One build at a time: builds must not starve what serves.
    one_at_a_time: Mutex<()>,
}

/// The right to build now.
pub(crate) struct Turn<'a> {
    workshop: &'a Workshop,
    _guard: MutexGuard<'a, ()>,
}

/// Why there is no image.
pub(crate) enum Unbuilt {
    NoRoom(ApiError),
    Build(BuildError),
}

impl Workshop {
    pub(crate) fn new(
        engine: Engine,
        net: Arc<Net>,
        exe: PathBuf,
        root: &Root,
        ended: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            engine,
            net,
            exe,
            state_dir: root.state_dir().to_owned(),
            ended: Box::new(ended),
            one_at_a_time: Mutex::default(),
        }
    }

    /// Waits until nobody else builds.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        Turn {
            _guard: self.one_at_a_time.lock().await,
            workshop: self,
        }
    }

    /// The same, where nobody does.
    pub(crate) fn turn_now(&self) -> Option<Turn<'_>> {
        let guard = self.one_at_a_time.try_lock().ok()?;
        Some(Turn {
            _guard: guard,
            workshop: self,
        })
    }
}

impl Turn<'_> {
    /// Builds an image; `name` is what it is called, `mask` what is secret in the output of its steps. Await it to its
    /// end: cancel by the token.
    pub(crate) async fn build(
        &self,
        images: &Images,
        bases: &dyn BaseImages,
        (request, name, mask): (&BuildRequest, &str, SharedFilter),
        progress: Progress<'_>,
        cancel: &CancellationToken,
    ) -> Result<Image, Unbuilt> {
        let workshop = self.workshop;
        let steps = Steps {
            engine: workshop.engine.clone(),
            net: Arc::clone(&workshop.net),
            exe: workshop.exe.clone(),
            dir: workshop.state_dir.join("build"),
            limits: BuildLimits::of_this_machine(),
            mask,
        };
        // What ends for want of room is not what the user cancelled.
        let cancel = cancel.child_token();
        let building = builder::build(images, bases, &steps, request, progress, &cancel);
        let what = format!("image {name} is not built");
        tokio::pin!(building);
        let built = tokio::select! {
            built = &mut building => built,
            refusal = pressure::short(&workshop.state_dir, &what) => {
                cancel.cancel();
                // It takes its steps down and lets go of what it holds.
                drop(building.await);
                // What can go makes room.
                (workshop.ended)();
                return Err(Unbuilt::NoRoom(refusal));
            }
        };
        (workshop.ended)();
        built.map_err(Unbuilt::Build)
    }
}
