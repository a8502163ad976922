//! Containers that run beside a box's own for a while: they share its network and folders of it, and end with it at the
//! latest.

use std::path::PathBuf;

use havre_engine::{Exit, LogChanges, LogLine, LogQuery, MountSpec, State, read_logs};
use havre_image::overlay::Overlay;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::boxes::Boxes;
use crate::container;
use crate::error::BoxError;
use crate::request::{self, Beside};

/// The most at once in a box.
const MOST: usize = 16;

impl Boxes {
    /// Runs a container beside a box to its end, or until it is cancelled; nothing of it stays. What it prints is told
    /// as fast as it is taken.
    pub async fn beside(
        &self,
        id: &str,
        beside: Beside,
        lines: mpsc::Sender<LogLine>,
        cancel: &CancellationToken,
    ) -> Result<Exit, BoxError> {
        request::check_id(id)?;
        let all = self.engine().containers();
        let runner_id = container::runner_id(id);
        let runner = all.iter().find(|one| one.id == runner_id);
        let Some(State::Running { pid, .. }) = runner.map(|one| one.state.clone()) else {
            return Err(BoxError::NotFound(id.to_owned()));
        };
        let number = (0..MOST).find(|number| {
            let wanted = container::beside_id(id, *number);
            all.iter().all(|one| one.id != wanted)
        });
        let Some(number) = number else {
            let text = format!("{MOST} containers run beside the job already, which is the most");
            return Err(BoxError::refused(text));
        };
        let of_runner = self.engine().spec(&runner_id).await;
        let of_runner = of_runner.ok_or_else(|| BoxError::NotFound(id.to_owned()))?;
        let dir = self.folder_beside(id, number)?;
        let mounts = beside.folders.iter().map(|(path, target)| MountSpec::Seen {
            by: pid,
            path: path.clone(),
            target: target.clone(),
        });
        let upper = crate::layout::writable(&dir, "root");
        let rootfs = Overlay {
            lower: beside.image.lower.clone(),
            upper: Some(upper.map_err(BoxError::files("make the folders of a container"))?),
        };
        let own = container::beside_id(id, number);
        let log = dir.join("log");
        let spec = container::beside(
            of_runner,
            own.clone(),
            (rootfs, mounts.collect(), log.clone()),
            &beside,
        );
        let spec = spec.map_err(BoxError::refused)?;
        let created = self.engine().create(&spec).await.map_err(BoxError::Beside);
        let ended = match created {
            Ok(()) => {
                let changes = self.engine().log_changes();
                self.until_ended(&own, &log, changes, &lines, cancel).await
            }
            Err(error) => Err(error),
        };
        let left = self.engine().remove(&own).await;
        for error in &left {
            tracing::warn!(
                id,
                error = havre_base::one_line(error),
                "a container beside a job stays"
            );
        }
        let gone = tokio::task::spawn_blocking(move || havre_image::remove_tree(&dir)).await?;
        if let Err(error) = gone {
            tracing::warn!(id, %error, "files of a container beside a job stay");
        }
        ended
    }

    /// Tells what it prints, in its order.
    async fn until_ended(
        &self,
        own: &havre_engine::ContainerId,
        log: &std::path::Path,
        changes: LogChanges,
        lines: &mpsc::Sender<LogLine>,
        cancel: &CancellationToken,
    ) -> Result<Exit, BoxError> {
        // Whoever listens no more cancels it.
        let tell = async |line| {
            tokio::select! {
                _ = lines.send(line) => Ok(()),
                () = cancel.cancelled() => Err(BoxError::Cancelled),
            }
        };
        let mut told = 0;
        let follow = LogQuery {
            follow: Some(changes),
            ..LogQuery::default()
        };
        let exit = {
            let mut live = read_logs(log, follow);
            let mut ended = std::pin::pin!(self.engine().wait(own));
            let mut is_live = true;
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return Err(BoxError::Cancelled),
                    line = live.next(), if is_live => match line {
                        Ok(Some(line)) => {
                            told += 1;
                            tell(line).await?;
                        }
                        // All of it is read at the end.
                        Ok(None) | Err(_) => is_live = false,
                    },
                    exit = &mut ended => break exit,
                }
            }
        };
        let exit = exit.map_err(|error| BoxError::refused(havre_base::one_line(&error)))?;
        let mut all = read_logs(log, LogQuery::default());
        let mut index = 0;
        let cannot = |error| BoxError::refused(format!("its output cannot be read: {error}"));
        while let Some(line) = all.next().await.map_err(cannot)? {
            if index >= told {
                tell(line).await?;
            }
            index += 1;
        }
        Ok(exit)
    }

    /// Removes those that an earlier daemon has run, and nobody waits for any more.
    pub async fn end_beside(&self, id: &str) -> Vec<String> {
        let mut errors = Vec::new();
        for number in 0..MOST {
            let own = container::beside_id(id, number);
            if self.engine().containers().iter().any(|one| one.id == own) {
                let left = self.engine().remove(&own).await;
                errors.extend(left.iter().map(|error| havre_base::one_line(error)));
            }
        }
        errors
    }

    /// A folder of a box for one of them, empty.
    fn folder_beside(&self, id: &str, number: usize) -> Result<PathBuf, BoxError> {
        let dir = self.folder(id).join(format!("beside{number}"));
        let make = || {
            havre_image::remove_tree(&dir)?;
            std::fs::create_dir(&dir)
        };
        let what = format!("make {}", dir.display());
        havre_base::in_place(make).map_err(BoxError::files(what))?;
        Ok(dir)
    }
}
