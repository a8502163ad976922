//! Containers beside a job's: steps that run an image.

use std::path::{Component, Path};

use havre_base::{blocking, one_line};
use havre_box::{Beside, BoxError, Image};
use havre_engine::{LogLine, LogStream};
use havre_job::images::{Answer, Failed, Run};
use havre_job::paths;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::OfBox;
use super::held::find;
use super::talk::{Teller, failed};

/// Where folders of a job are, in such a container.
const BELOW: &str = "/github/";
/// Lines that wait until the job has taken those before.
const WAITING: usize = 64;

/// Runs a container to its end.
pub(super) async fn run(
    of: &OfBox,
    run: &Run,
    teller: &Teller,
    cancel: &CancellationToken,
) -> Result<Answer, Failed> {
    for (path, target) in &run.folders {
        if !is_plain(path) || !Path::new(path).starts_with(paths::WORK) {
            return Err(failed(format!(
                "{path:?} is no folder in which the job works"
            )));
        }
        if !is_plain(target) || !target.starts_with(BELOW) {
            return Err(failed(format!("nothing of a job is at {target:?}")));
        }
    }
    let image = find(of, &run.image)?;
    let images = of.images().map_err(failed)?;
    let config = image.config.run.clone();
    let lower = blocking(move || images.ensure_unpacked(&image)).await;
    let lower = lower.map_err(|error| failed(one_line(&error)))?;
    let beside = Beside {
        image: Image {
            lower: lower.map_err(|error| failed(one_line(&error)))?,
            run: config,
        },
        entrypoint: run.entrypoint.clone(),
        args: run.args.clone(),
        env: run.env.clone(),
        folder: run.folder.clone(),
        folders: run.folders.clone(),
    };
    let (sender, mut lines) = mpsc::channel::<LogLine>(WAITING);
    let tell = async {
        while let Some(line) = lines.recv().await {
            let answer = match line.stream {
                LogStream::Stdout => Answer::Line(line.text),
                LogStream::Stderr => Answer::ErrorLine(line.text),
            };
            teller.tell_each(answer).await;
        }
    };
    let running = of.boxes.beside(&of.id, beside, sender, cancel);
    let (ended, ()) = tokio::join!(running, tell);
    match ended {
        Ok(exit) => Ok(Answer::Exited {
            code: exit.code,
            out_of_memory: exit.oom_killed,
        }),
        Err(BoxError::Cancelled) => Err(failed("the container was cancelled")),
        Err(error) => Err(failed(one_line(&error))),
    }
}

/// Absolute, and leads nowhere else.
fn is_plain(path: &str) -> bool {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    path.starts_with('/') && Path::new(path).components().all(plain)
}
