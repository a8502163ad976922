//! A leg in its box: its gate, its start, what it tells, and its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use havre_base::clipped;
use havre_job::{JobResult, MAX_SUMMARY, Told};
use havre_pipeline::run::{Event, LegResult};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::tasks::Stop;
use crate::book::{Inner, LegEnd, Wait};
use crate::error::RunsError;
use crate::logs::Writer;
use crate::ports::{Answer, BoxEnd, Followed, LegKey, LegStart, Opened, StartError};
use crate::record::{MAX_SUMMARIES, Record};
use crate::start;

/// How long a gate may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a gate that does not say so is not asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How often a start is tried that may come to something.
const TRIES: u32 = 5;
/// How long it is waited before a start is tried again, times the tries before.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a box may take to end that is to end at once.
const KILL_GRACE: Duration = Duration::from_secs(60);
/// How often what a leg tells is kept, beside its log: whatever it tells, the database is written no more often.
const PACE: Duration = Duration::from_millis(200);
/// Summaries that are kept of a leg, those that are told again among them.
const MOST_SUMMARIES: usize = 4 * MAX_SUMMARIES;
/// How long a box may take to be asked to end.
const ASKED: Duration = Duration::from_secs(30);

/// Asks a gate until it is open.
pub(super) async fn gate(inner: Arc<Inner>, key: LegKey) -> Result<(), RunsError> {
    let mut gates = inner.gates.subscribe();
    loop {
        gates.mark_unchanged();
        let (why, until) = match ask(&inner, &key).await {
            None => return Ok(()),
            Some(Answer::Open(_)) => {
                let mut book = inner.book();
                book.ready.insert(key.clone());
                book.waits.remove(&key);
                inner.poke.notify_one();
                return Ok(());
            }
            Some(Answer::Refused { why }) => {
                let mut book = inner.book();
                return inner.finish(&mut book, &key, LegEnd::failed(why)).map(drop);
            }
            Some(Answer::Waits { why, until }) => (why, until),
        };
        {
            let mut book = inner.book();
            book.waits.insert(key.clone(), Wait { why, until });
            if let Some(live) = book.live.get(&key.run) {
                live.changed.send_modify(|count| *count += 1);
            }
        }
        let pause = match until {
            None => ASK_AGAIN,
            Some(until) => Duration::from_millis(until.saturating_sub(inner.now()).max(100)),
        };
        tokio::select! {
            // The sender lives as long as this does.
            _ = gates.changed() => {}
            () = tokio::time::sleep(pause.min(ASK_AGAIN)) => {}
        }
    }
}

/// `None` where there is no such leg any more.
async fn ask(inner: &Inner, key: &LegKey) -> Option<Answer> {
    let link = inner.book().chain(key.run).into_iter().next()?;
    let asked = start::asked(&link, key);
    match timeout(ANSWER, inner.ports.gate.ask(&asked)).await {
        Ok(answer) => Some(answer),
        Err(_) => Some(Answer::Waits {
            why: "its gate does not answer".to_owned(),
            until: None,
        }),
    }
}

/// Starts a leg, if it is not there, and follows it to its end.
pub(super) async fn drive(
    inner: Arc<Inner>,
    key: LegKey,
    mut stop: watch::Receiver<Stop>,
    there: bool,
) -> Result<(), RunsError> {
    if !there {
        let opened = match ask(&inner, &key).await {
            None => return Ok(()),
            Some(Answer::Open(opened)) => opened,
            // Asked again as if it had never been open.
            Some(Answer::Waits { .. } | Answer::Refused { .. }) => {
                inner.book().ready.remove(&key);
                inner.poke.notify_one();
                return Ok(());
            }
        };
        let told = match told_of(&inner, &key, &opened) {
            Ok(told) => told,
            Err(why) => return ended(&inner, &key, LegEnd::failed(why)).await,
        };
        inner.book().there.insert(key.clone());
        if let Err(end) = begin(&inner, told, &mut stop).await {
            // Where its end cannot be kept, it is started again.
            inner.book().there.remove(&key);
            return ended(&inner, &key, end).await;
        }
    }
    {
        let mut book = inner.book();
        inner.event(&mut book, key.run, None, Event::Started(key.leg.clone()))?;
    }
    let end = follow(&inner, &key, &mut stop).await?;
    ended(&inner, &key, end).await
}

fn told_of(inner: &Inner, key: &LegKey, opened: &Opened) -> Result<LegStart, String> {
    let chain = inner.book().chain(key.run);
    start::start(&chain, key, opened)
}

/// Starts a box, a few times where that may help; how the leg ended, where it did not start.
async fn begin(
    inner: &Inner,
    told: LegStart,
    stop: &mut watch::Receiver<Stop>,
) -> Result<(), LegEnd> {
    let within = inner.settings.start_within;
    let mut tries = 0;
    let starting = async {
        loop {
            tries += 1;
            match inner.ports.legs.start(told.clone()).await {
                Ok(()) => return Ok(()),
                Err(StartError { passing: true, .. }) if tries < TRIES => {
                    tokio::time::sleep(PAUSE * tries).await;
                }
                Err(error) => return Err(LegEnd::failed(error.why)),
            }
        }
    };
    tokio::select! {
        // What started is followed, and ends by being asked to.
        biased;
        started = timeout(within, starting) => started.unwrap_or_else(|_| {
            Err(LegEnd::failed(format!("it did not start within {} seconds", within.as_secs())))
        }),
        () = stopped(stop) => Err(LegEnd::cancelled()),
    }
}

async fn stopped(stop: &mut watch::Receiver<Stop>) {
    let is_gone = stop.wait_for(|stop| *stop != Stop::Not).await.is_err();
    if is_gone {
        std::future::pending().await
    }
}

/// The end is kept before the box goes: whoever comes next takes away what is left.
async fn ended(inner: &Inner, key: &LegKey, end: LegEnd) -> Result<(), RunsError> {
    {
        let mut book = inner.book();
        inner.finish(&mut book, key, end)?;
    }
    inner.ports.legs.remove(key).await;
    inner.book().there.remove(key);
    Ok(())
}

/// How far a leg is asked to end.
enum Ending {
    Not,
    /// Asked; at this time, it ends at once.
    Softly(Instant),
    /// Asked to end at once; at this time it is given up.
    AtOnce(Instant),
}

/// Takes all that a leg tells, to its end.
async fn follow(
    inner: &Inner,
    key: &LegKey,
    stop: &mut watch::Receiver<Stop>,
) -> Result<LegEnd, RunsError> {
    // Also where nothing can be written.
    let wanted = *stop.borrow_and_update();
    let mut ending = asked(inner, key, wanted, Ending::Not).await;
    let mut taken = Taken::new(inner, key)?;
    let mut stream = inner.ports.legs.follow(key);
    loop {
        let wanted = *stop.borrow_and_update();
        ending = asked(inner, key, wanted, ending).await;
        tokio::task::consume_budget().await;
        let next = match stream.next().now_or_never() {
            Some(next) => next,
            None => {
                let due = taken.keep_in_time(inner, key)?;
                let deadline = match &ending {
                    Ending::Not => None,
                    Ending::Softly(at) | Ending::AtOnce(at) => Some(*at),
                };
                tokio::select! {
                    next = stream.next() => next,
                    // The driver lives as long as this does.
                    _ = stop.changed() => continue,
                    () = until(due) => continue,
                    () = until(deadline) => match ending {
                        Ending::AtOnce(_) => {
                            taken.keep(inner, key)?;
                            let mut end = LegEnd::cancelled();
                            end.why = Some("it did not end when it was told to, and was removed".to_owned());
                            return Ok(end);
                        }
                        Ending::Softly(_) | Ending::Not => {
                            ending = end(inner, key, true).await;
                            continue;
                        }
                    },
                }
            }
        };
        match next {
            Some(Followed::Told(told)) => {
                let result = match &told {
                    Told::Ended { result, .. } => Some(*result),
                    _ => None,
                };
                taken.take(inner, key, told)?;
                if let Some(result) = result {
                    taken.keep(inner, key)?;
                    return Ok(taken.end(result));
                }
            }
            Some(Followed::Ended { how }) => {
                taken.keep(inner, key)?;
                return Ok(LegEnd::failed(words(&how)));
            }
            None => {
                taken.keep(inner, key)?;
                return Ok(LegEnd::failed(words(&BoxEnd::Lost)));
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        None => std::future::pending().await,
        Some(deadline) => sleep_until(deadline).await,
    }
}

/// Passes on that a leg is to end, once for each way.
async fn asked(inner: &Inner, key: &LegKey, stop: Stop, ending: Ending) -> Ending {
    match (stop, ending) {
        (Stop::Softly, Ending::Not) => end(inner, key, false).await,
        (Stop::AtOnce, Ending::Not | Ending::Softly(_)) => end(inner, key, true).await,
        (_, ending) => ending,
    }
}

async fn end(inner: &Inner, key: &LegKey, at_once: bool) -> Ending {
    if timeout(ASKED, inner.ports.legs.cancel(key, at_once))
        .await
        .is_err()
    {
        tracing::warn!(leg = %key, "a box does not take that it is to end");
    }
    match at_once {
        true => Ending::AtOnce(Instant::now() + KILL_GRACE),
        false => Ending::Softly(Instant::now() + inner.settings.cancel_grace),
    }
}

fn words(how: &BoxEnd) -> String {
    match how {
        BoxEnd::Exited(Some(status)) => {
            format!("its runner ended with status {status}, and did not say how the job went")
        }
        BoxEnd::Exited(None) => "its runner was killed, and did not say how the job went".to_owned(),
        BoxEnd::Stopped(why) => why.clone(),
        BoxEnd::OutOfMemory => "it needed more memory than it may have".to_owned(),
        BoxEnd::Lost => {
            "its box is gone: the machine was restarted while it ran, or somebody removed it; run it again".to_owned()
        }
    }
}

/// What a leg told so far.
struct Taken {
    log: Writer,
    record: Record,
    is_kept: bool,
    kept_at: Option<Instant>,
    summaries: BTreeSet<u32>,
    summaries_told: usize,
}

impl Taken {
    fn new(inner: &Inner, key: &LegKey) -> Result<Self, RunsError> {
        let project = inner
            .book()
            .live
            .get(&key.run)
            .map(|live| live.row.project.clone());
        let project = project.ok_or(RunsError::NoSuchRun(key.run))?;
        let log = inner.logs.write(&project, key, inner.settings.log_bytes);
        Ok(Self {
            log: log.map_err(|source| unwritten(key, source))?,
            record: Record::default(),
            is_kept: true,
            kept_at: None,
            summaries: BTreeSet::new(),
            summaries_told: 0,
        })
    }

    fn take(&mut self, inner: &Inner, key: &LegKey, told: Told) -> Result<(), RunsError> {
        if let Told::Summary { step, text } = &told {
            let many = self.summaries.len() >= MAX_SUMMARIES && !self.summaries.contains(step);
            self.summaries_told += 1;
            if !many && self.summaries_told <= MOST_SUMMARIES {
                self.summaries.insert(*step);
                inner
                    .tables
                    .put_summary(key, *step, clipped(text, MAX_SUMMARY))?;
            }
            return Ok(());
        }
        self.is_kept &= !self.record.take(&told);
        let many = self
            .log
            .take(&told)
            .map_err(|source| unwritten(key, source))?;
        match many {
            true => self.log.flush().map_err(|source| unwritten(key, source)),
            false => Ok(()),
        }
    }

    /// The same as [`Taken::keep`], but for what was kept just now: when that is due.
    fn keep_in_time(&mut self, inner: &Inner, key: &LegKey) -> Result<Option<Instant>, RunsError> {
        let due = self.kept_at.map(|at| at + PACE);
        let due = due.filter(|due| !self.is_kept && *due > Instant::now());
        match due {
            None => self.keep(inner, key)?,
            Some(_) => self.keep_log(inner, key)?,
        }
        Ok(due)
    }

    fn keep_log(&mut self, inner: &Inner, key: &LegKey) -> Result<(), RunsError> {
        self.log.flush().map_err(|source| unwritten(key, source))?;
        if let Some(live) = inner.book().live.get(&key.run) {
            live.logged.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Keeps what was told, and tells who follows.
    fn keep(&mut self, inner: &Inner, key: &LegKey) -> Result<(), RunsError> {
        self.keep_log(inner, key)?;
        if self.is_kept {
            return Ok(());
        }
        inner.tables.put_record(key, &self.record)?;
        self.is_kept = true;
        self.kept_at = Some(Instant::now());
        if let Some(live) = inner.book().live.get(&key.run) {
            live.changed.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    fn end(self, result: JobResult) -> LegEnd {
        LegEnd {
            result: match result {
                JobResult::Success => LegResult::Success,
                JobResult::Failure => LegResult::Failure,
                JobResult::Cancelled => LegResult::Cancelled,
            },
            outputs: self.record.outputs,
            why: None,
        }
    }
}

fn unwritten(key: &LegKey, source: std::io::Error) -> RunsError {
    RunsError::Log {
        attempt: "write",
        of: key.to_string(),
        source,
    }
}
