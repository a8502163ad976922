//! What may not run at once, across runs: runs and legs that name the same group wait for each other.

use std::collections::BTreeMap;

use havre_pipeline::group::{Member, Ruling, Stage, decide};
use havre_pipeline::run::Event;

use crate::book::{Book, Inner, key};
use crate::error::RunsError;
use crate::ports::{LegKey, RunId};

/// A run, or a leg of one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    Run(RunId),
    Leg(LegKey),
}

/// Who is in or before a group, and since when: those inside first.
type Members = Vec<(u64, Member<Id>)>;

pub(super) fn settle(inner: &Inner, book: &mut Book) -> Result<bool, RunsError> {
    let mut changed = dead_locks(inner, book)?;
    for mut members in groups(book).into_values() {
        members.sort_by_key(|(since, _)| *since);
        let members: Vec<Member<Id>> = members.into_iter().map(|(_, member)| member).collect();
        for (id, ruling) in decide(&members) {
            changed |= carry_out(inner, book, id, ruling)?;
        }
    }
    Ok(changed)
}

/// By project and name, which is the same in any case.
fn groups(book: &Book) -> BTreeMap<(String, String), Members> {
    let mut groups: BTreeMap<(String, String), Members> = BTreeMap::new();
    for (run, live) in &book.live {
        let change = &live.row.change;
        if change.conclusion().is_some() {
            continue;
        }
        let mut add = |name: &str, since: u64, member: Member<Id>| {
            let group = (live.row.project.clone(), name.to_lowercase());
            groups.entry(group).or_default().push((since, member));
        };
        if let Some(group) = &live.row.facts.group {
            let (since, stage) = match (change.entered, change.state.cancelled) {
                (false, true) => continue,
                (false, false) => (live.row.queued_ms, Stage::Waiting),
                (true, false) => (0, Stage::Active),
                (true, true) => (0, Stage::Ending),
            };
            let member = Member {
                id: Id::Run(*run),
                stage,
                cancel_in_progress: group.cancel_in_progress,
                queue_all: group.queue_all,
            };
            add(&group.name, since, member);
        }
        if !change.entered {
            continue;
        }
        for (name, since, member) in change.state.members() {
            let member = Member {
                id: Id::Leg(key(*run, member.id)),
                stage: member.stage,
                cancel_in_progress: member.cancel_in_progress,
                queue_all: member.queue_all,
            };
            add(name, since.unwrap_or(0), member);
        }
    }
    groups
}

fn carry_out(inner: &Inner, book: &mut Book, id: Id, ruling: Ruling) -> Result<bool, RunsError> {
    let newer = "a newer run of its concurrency group came";
    match (id, ruling) {
        (Id::Leg(leg), Ruling::Admit) => inner.event(book, leg.run, None, Event::Admitted(leg.leg)),
        (Id::Leg(leg), Ruling::Cancel | Ruling::Displace) => {
            let why = Some((leg.clone(), newer.to_owned()));
            inner.event(book, leg.run, why, Event::Superseded(leg.leg))
        }
        (Id::Run(run), Ruling::Admit) => inner.change(book, run, None, |mut change, _, _| {
            change.entered = true;
            change
        }),
        (Id::Run(run), Ruling::Cancel) => end(inner, book, run, Event::Cancel, newer),
        (Id::Run(run), Ruling::Displace) => end(inner, book, run, Event::CancelAtOnce, newer),
    }
}

fn end(
    inner: &Inner,
    book: &mut Book,
    run: RunId,
    event: Event,
    why: &str,
) -> Result<bool, RunsError> {
    inner.change(book, run, None, |mut change, of, now| {
        change.state = havre_pipeline::run::step(change.state, of, now, event).0;
        change.why = Some(why.to_owned());
        change
    })
}

/// Who waits for a group that a run is in which waits for it, would wait for ever.
fn dead_locks(inner: &Inner, book: &mut Book) -> Result<bool, RunsError> {
    let mut stuck = Vec::new();
    for (run, live) in &book.live {
        let change = &live.row.change;
        let above = held_above(book, *run);
        let is_held = |name: &str| above.contains(&name.to_lowercase());
        if let (Some(group), false, false) = (
            &live.row.facts.group,
            change.entered,
            change.state.cancelled,
        ) && is_held(&group.name)
        {
            stuck.push(Id::Run(*run));
        }
        let own = live
            .row
            .facts
            .group
            .as_ref()
            .map(|group| group.name.to_lowercase());
        for (name, since, member) in change.state.members() {
            let held = is_held(name) || own.as_ref() == Some(&name.to_lowercase());
            if since.is_some() && held {
                stuck.push(Id::Leg(key(*run, member.id)));
            }
        }
    }
    let why =
        "it would wait for itself: the run that it belongs to is in the same concurrency group";
    let mut changed = false;
    for id in stuck {
        changed |= match id {
            Id::Run(run) => end(inner, book, run, Event::CancelAtOnce, why)?,
            Id::Leg(leg) => {
                let told = Some((leg.clone(), why.to_owned()));
                inner.event(book, leg.run, told, Event::Superseded(leg.leg))?
            }
        };
    }
    Ok(changed)
}

/// Groups of the runs and legs that called a run.
fn held_above(book: &Book, run: RunId) -> Vec<String> {
    let mut held = Vec::new();
    let mut at = book.live.get(&run);
    while let Some(live) = at {
        let Some(parent) = &live.row.parent else {
            break;
        };
        at = book.live.get(&parent.run);
        if let Some(caller) = at {
            let group = caller.row.facts.group.as_ref();
            held.extend(group.map(|group| group.name.to_lowercase()));
            let mut legs = caller.row.change.state.legs();
            let leg = legs.find(|(id, _)| *id == parent.leg);
            let group = leg.and_then(|(_, leg)| leg.group.as_ref());
            held.extend(group.map(|group| group.name.to_lowercase()));
        }
    }
    held
}
