//! Looks at what boxes take of the disk as long as there are any, and ends those that take too much.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::container::{self, LABEL_BOX};
use crate::disk::{self, Look, Room, Taken};
use crate::inner::Inner;

/// How often it is seen how much is free.
const LOOK: Duration = Duration::from_secs(1);
const SIGKILL: i32 = 9;

/// Begins to look, unless somebody does. To be called in a tokio runtime.
pub fn begin(inner: &Arc<Inner>) {
    if inner.guarding.swap(true, Ordering::AcqRel) {
        return;
    }
    let this = Arc::clone(inner);
    inner.tasks.spawn(async move {
        guard(&this).await;
        this.guarding.store(false, Ordering::Release);
        // One that came while this came to its end.
        if !this.closing.is_cancelled() && ids(&this).is_ok_and(|ids| !ids.is_empty()) {
            begin(&this);
        }
    });
}

async fn guard(inner: &Arc<Inner>) {
    let mut looks = BTreeMap::new();
    let mut due = Instant::now();
    loop {
        tokio::select! {
            () = inner.closing.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let (this, before) = (Arc::clone(inner), looks.clone());
        let is_due = Instant::now() >= due;
        let looked = tokio::task::spawn_blocking(move || look(&this, before, is_due)).await;
        let seen = match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(Some(seen)) => seen,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot see what jobs take of the disk");
                continue;
            }
        };
        if let Some(took) = seen.took {
            due = Instant::now() + disk::pause(took);
        }
        looks = seen.looks;
        let decided = disk::decide(&looks, seen.room, &inner.config.disk);
        if let Some((id, why)) = decided {
            looks.remove(&id);
            end(inner, &id, &why).await;
        }
    }
}

struct Seen {
    looks: BTreeMap<String, Look>,
    room: Room,
    /// How long the look at boxes took, where they were looked at.
    took: Option<Duration>,
}

fn ids(inner: &Inner) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(&inner.config.dir)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// `None`: there are no boxes. Blocks.
fn look(inner: &Inner, before: BTreeMap<String, Look>, is_due: bool) -> io::Result<Option<Seen>> {
    let ids = ids(inner)?;
    if ids.is_empty() {
        return Ok(None);
    }
    let room = Room::of(&inner.config.dir)?;
    let short = room.refusal(&inner.config.disk).is_some();
    if !is_due && !short {
        let (looks, took) = (before, None);
        return Ok(Some(Seen { looks, room, took }));
    }
    let begun = Instant::now();
    let containers = inner.engine.containers().into_iter();
    let groups = containers.filter_map(|it| {
        let of = it.labels.get(LABEL_BOX)?.clone();
        Some((format!("{}.c", it.id.0), of))
    });
    let open = disk::of_processes(&groups.collect(), &inner.config.dir)?;
    let mut looks = BTreeMap::new();
    for id in ids {
        // Its end is under way.
        if inner.why_ended(&id).is_some() {
            continue;
        }
        let taken: Taken = match disk::of_tree(&inner.dir(&id)) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let taken = taken.and(open.get(&id).copied().unwrap_or_default());
        let before = before.get(&id).copied().unwrap_or_default();
        looks.insert(id, before.next(taken));
    }
    let took = Some(begun.elapsed());
    Ok(Some(Seen { looks, room, took }))
}

/// Ends all of a box at once; its note comes first, so that it is said why.
async fn end(inner: &Inner, id: &str, why: &str) {
    tracing::warn!(box_id = id, why, "a job is ended");
    inner.note_end(id, why);
    inner.starting.cancel(id);
    let runner = container::runner_id(id);
    let of_box = |it: &havre_engine::Observed| it.labels.get(LABEL_BOX).is_some_and(|of| of == id);
    let mut all = inner.engine.containers();
    all.retain(of_box);
    // Services first: none restarts, and the runner's end is the box's.
    all.sort_by_key(|it| it.id == runner);
    for observed in all {
        if let Err(error) = inner.engine.signal(&observed.id, SIGKILL).await {
            tracing::debug!(
                box_id = id,
                error = havre_base::one_line(&error),
                "it has ended"
            );
        }
    }
}
