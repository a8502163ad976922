//! The trail: the one place where records are written, read and verified.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use havre_store::rusqlite::{self, Connection, Transaction};
use havre_store::{Store, StoreError};

use crate::anchor::{Anchor, Line};
use crate::chain::{Hash, Key, Purpose};
use crate::flood::Flood;
use crate::head::Head;
use crate::record::{Entry, Kind, Outcome, Principal};
use crate::retention::{Retention, cut_after};
use crate::tables::{self, Query, Shown, Signed, StoredRow};
use crate::verify::{CUT_ACTION, GAP_ACTION, KEY_ACTION, Verdict, Verifier};

/// Rows that are read at once: the database's thread has others to serve.
const PAGE: u32 = 1000;
/// Records that are cut off at once.
const MAX_CUT: u32 = 50_000;

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the audit trail")]
pub struct AppendError {
    #[from]
    source: StoreError,
}

/// A record with its place in the chain, as it is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// Its number.
    pub sequence: u64,
    /// Its canonical text.
    pub record: String,
    /// The hash of the record before it.
    pub previous: Hash,
    /// Its own.
    pub hash: Hash,
}

/// Records were removed for their age, or their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The newest of them.
    pub sequence: u64,
}

/// The audit trail of a machine. Its clones are the same trail.
#[derive(Clone, Debug)]
pub struct Trail(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    anchor: Anchor,
    key: Mutex<Option<Key>>,
    flood: Mutex<Flood>,
    /// The newest record, as far as this process knows: what the database has to go back to.
    last: Mutex<Option<Head>>,
    /// What tells, elsewhere, that the trail was begun before this process.
    begun: Mutex<Option<String>>,
    /// Held by who reads the trail from one end to the other, and by who cuts it.
    whole: Mutex<()>,
}

impl Trail {
    /// The trail in that database, with a copy of its head in the file `anchor`.
    pub fn new(store: Arc<Store>, anchor: PathBuf) -> Self {
        Self(Arc::new(Inner {
            store,
            anchor: Anchor::new(anchor),
            key: Mutex::new(None),
            flood: Mutex::new(Flood::new(Instant::now())),
            last: Mutex::new(None),
            begun: Mutex::new(None),
            whole: Mutex::new(()),
        }))
    }

    /// The id of the key that it signs with.
    pub fn key_id(&self) -> Option<String> {
        lock(&self.0.key).as_ref().map(Key::id)
    }

    /// Takes note, before the first record is written, that the trail was begun before, and what tells so. Where there is
    /// none all the same, a record says so.
    pub fn was_begun(&self, what_tells: String) {
        *lock(&self.0.begun) = Some(what_tells);
    }

    /// The key of its word, as it was sealed.
    pub fn sealed_key(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.0
            .store
            .run("read the audit trail's key", |db| tables::sealed_key(db))
    }

    /// Signs from now on with a new key, whose sealed form is kept, unless it has one by now. A record says so; where a
    /// key has signed before, such as the one that is `noted` elsewhere, it is one of a gap.
    pub fn adopt_key(
        &self,
        key: Key,
        sealed: Vec<u8>,
        noted: Option<String>,
    ) -> Result<(), AppendError> {
        let lines = self.lines();
        let take = move |inner: &Inner, db: &mut Connection| {
            inner.compare(db, &lines, Some(&key), Copies::OfOurs)?;
            let is_signed = noted.is_some()
                || lines.iter().any(|line| line.mac.is_some())
                || tables::is_signed(db, KEY_ACTION)?;
            let entry = match is_signed {
                false => Entry {
                    subject: Some(key.id()),
                    ..Entry::new(Principal::havre(), KEY_ACTION, Outcome::Ok)
                },
                true => gap("it was signed with a key that is gone".to_owned()),
            };
            inner.sign_with(db, key, entry, |change| {
                tables::put_sealed_key(change, &sealed)
            })
        };
        self.take_key("keep the audit trail's key", take)
    }

    /// Keeps the same key sealed anew, unless another one is kept by now.
    pub fn put_sealed_key(&self, before: Vec<u8>, after: Vec<u8>) -> Result<(), StoreError> {
        self.0.store.run("keep the audit trail's key", move |db| {
            let change = db.transaction()?;
            if tables::sealed_key(&change)? == Some(before) {
                tables::put_sealed_key(&change, &after)?;
            }
            change.commit()
        })
    }

    /// Signs from now on with the key that it had before, unless it has it by now. Where records were written without it
    /// meanwhile, one says so; where nothing tells that it was only meanwhile, or the copy of the head is gone, it is one
    /// of a gap. The key that is `noted` elsewhere has had its line in the file of heads; without it, the file may be of
    /// an earlier version, which a record says.
    pub fn use_key(&self, key: Key, noted: Option<String>) -> Result<(), AppendError> {
        let lines = self.lines();
        let take = move |inner: &Inner, db: &mut Connection| {
            let copies = match noted {
                Some(_) => Copies::OfOurs,
                None => Copies::OfEarlierVersionsToo,
            };
            // Before the first record that is signed, which would vouch for all before it.
            let copy = inner.compare(db, &lines, Some(&key), copies)?;
            let head = tables::head(db)?;
            match taken_up(db, &key, head, copy, noted.is_some())? {
                Some(entry) => inner.sign_with(db, key, entry, |_| Ok(())),
                None => {
                    *lock(&inner.key) = Some(key);
                    Ok(())
                }
            }
        };
        self.take_key("take up the audit trail's key", take)
    }

    /// On the database's thread: no record comes in between, and nobody takes a key twice.
    fn take_key(
        &self,
        operation: &'static str,
        take: impl FnOnce(&Inner, &mut Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), AppendError> {
        let inner = Arc::clone(&self.0);
        let taken = self.0.store.run(operation, move |db| {
            let has_key = lock(&inner.key).is_some();
            match has_key {
                true => Ok(()),
                false => take(&inner, db),
            }
        });
        Ok(taken?)
    }

    /// Whether the file of heads has a line by the key.
    pub fn is_copied(&self) -> bool {
        let key = lock(&self.0.key).clone();
        key.is_some_and(|key| {
            let mut lines = self.lines().into_iter();
            lines.any(|line| line.is_by(&key, Purpose::Copy))
        })
    }

    /// Takes over what the file of heads says, before the first record is written: where the database does not go back to
    /// it, that record follows one that says so. Records are gone then, or an older database was put back.
    pub fn resume(&self) {
        let (inner, lines) = (Arc::clone(&self.0), self.lines());
        let compared = self.0.store.run("read the audit trail", move |db| {
            let key = lock(&inner.key).clone();
            inner.compare(db, &lines, key.as_ref(), Copies::OfOurs)
        });
        if let Err(error) = compared {
            tracing::warn!(%error, "the copy of the audit trail's head is not compared");
        }
    }

    /// The lines of the file of heads; none where it cannot be read.
    fn lines(&self) -> Vec<Line> {
        match self.0.anchor.read() {
            Ok(lines) => lines.lines,
            Err(error) => {
                let path = self.0.anchor.path().display();
                tracing::warn!(%error, %path, "the copy of the audit trail's head is not read");
                Vec::new()
            }
        }
    }

    /// Writes a record down; it is on disk when this returns, with its number. A flood of refusals, or of what strangers
    /// try in vain, is counted and not written one by one: then there is no number.
    pub fn append(&self, mut entry: Entry) -> Result<Option<u64>, AppendError> {
        let is_stranger = entry.principal.kind == Kind::Anonymous;
        let is_in_vain = match entry.outcome {
            Outcome::Refused => true,
            Outcome::Failed | Outcome::Cancelled => is_stranger,
            Outcome::Begun | Outcome::Ok => false,
        };
        // What was begun is told the end of: it has taken its place already.
        if is_in_vain && entry.of.is_none() {
            match lock(&self.0.flood).admit(Instant::now()) {
                Some(0) => {}
                Some(dropped) => entry.detail = Some(with_dropped(entry.detail, dropped)),
                None => return Ok(None),
            }
        }
        let head = self.write("write to the audit trail", entry, |_| Ok(()))?;
        Ok(Some(head.sequence))
    }

    /// What is due now and then: says how many attempts were not written one by one, and removes what is older than is
    /// kept.
    pub fn tidy(&self, retention: Retention) -> Result<Option<Cut>, AppendError> {
        let dropped = lock(&self.0.flood).settle(Instant::now());
        if let Some(dropped) = dropped {
            // Not a refusal itself: the flood has made room for it.
            let entry = Entry {
                detail: Some(with_dropped(None, dropped)),
                ..Entry::new(Principal::havre(), "audit/flood", Outcome::Ok)
            };
            self.append(entry)?;
        }
        self.cut(retention, SystemTime::now())
    }

    /// Removes what is older than is kept, or too much.
    fn cut(&self, retention: Retention, now: SystemTime) -> Result<Option<Cut>, AppendError> {
        let _whole = lock(&self.0.whole);
        let key = lock(&self.0.key).clone();
        let is_sealed = key.is_none() && self.sealed_key()?.is_some();
        if is_sealed {
            // What cannot be signed now is cut another time.
            return Ok(None);
        }
        let cut = self.0.store.run("read the audit trail", move |db| {
            let bytes = tables::bytes(db)?;
            // Nothing is due, as nearly always: the others are not asked for.
            if cut_after(retention, &tables::oldest(db, 1)?, bytes, now).is_none() {
                return Ok(None);
            }
            let oldest = tables::oldest(db, MAX_CUT)?;
            let Some(sequence) = cut_after(retention, &oldest, bytes, now) else {
                return Ok(None);
            };
            let hash = tables::row_hash(db, sequence)?;
            Ok(hash.map(|hash| Head { sequence, hash }))
        })?;
        let Some(cut) = cut else {
            return Ok(None);
        };
        let Head { sequence, .. } = cut;
        let entry = Entry {
            subject: Some(cut.to_string()),
            detail: Some(format!(
                "records up to {sequence} were removed: too old, or too many"
            )),
            ..Entry::new(Principal::havre(), CUT_ACTION, Outcome::Ok)
        };
        self.write("shorten the audit trail", entry, move |change| {
            tables::put_cut(change, cut, key.as_ref())
        })?;
        Ok(Some(Cut { sequence }))
    }

    /// Writes a record, and does something else in the same transaction.
    fn write(
        &self,
        operation: &'static str,
        entry: Entry,
        also: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<Head, AppendError> {
        let inner = Arc::clone(&self.0);
        let written = self
            .0
            .store
            .run(operation, move |db| inner.write(db, entry, also))?;
        Ok(written)
    }

    /// The newest records that a query asks for, the oldest of them first.
    pub fn shown(&self, query: Query) -> Result<Vec<Shown>, StoreError> {
        self.0
            .store
            .run("read the audit trail", move |db| tables::shown(db, &query))
    }

    /// Hands on every record from `from` on, in order, until `take` says no, which may take its time: what is removed
    /// for its age meanwhile ends it.
    pub fn export(
        &self,
        from: u64,
        mut take: impl FnMut(Chained) -> bool,
    ) -> Result<(), ExportError> {
        let (mut before, newest) = self.0.store.run("read the audit trail", move |db| {
            let cut = tables::cut(db)?.map_or(Head::START, |cut| cut.head);
            let asked = from.checked_sub(1).filter(|&at| at > cut.sequence);
            let before = match asked {
                Some(sequence) => Head {
                    sequence,
                    hash: tables::row_hash(db, sequence)?.unwrap_or(Hash::START),
                },
                None => cut,
            };
            Ok((before, tables::newest(db)?))
        })?;
        let mut gone = Ok(());
        let mut is_taken = true;
        self.each(before.sequence, newest.sequence, |row| {
            let next = before.sequence + 1;
            // A hole is shown as it is; what was cut off meanwhile is none.
            if row.sequence != next {
                gone = self.not_cut(next);
                if gone.is_err() {
                    return false;
                }
            }
            let previous = before.hash;
            before = Head {
                sequence: row.sequence,
                hash: row.hash,
            };
            is_taken = take(Chained {
                sequence: row.sequence,
                record: row.record,
                previous,
                hash: row.hash,
            });
            is_taken
        })?;
        gone?;
        // All that was left may be gone.
        match is_taken && before.sequence < newest.sequence {
            true => self.not_cut(before.sequence + 1),
            false => Ok(()),
        }
    }

    fn not_cut(&self, sequence: u64) -> Result<(), ExportError> {
        let cut = self
            .0
            .store
            .run("read the audit trail", |db| tables::cut(db))?;
        match cut.is_some_and(|cut| cut.head.sequence >= sequence) {
            true => Err(ExportError::Removed),
            false => Ok(()),
        }
    }

    /// Whether it is whole: every record, the heads in database and file, and that it still goes back to the `expected`
    /// ones. What is written meanwhile is left out.
    pub fn verify(&self, expected: &[Head]) -> Result<Verdict, VerifyError> {
        let _whole = lock(&self.0.whole);
        // In this order: what is written in between must not look as if it were missing.
        let lines = self.0.anchor.read().map_err(|source| VerifyError::Anchor {
            path: self.0.anchor.path().to_owned(),
            source,
        })?;
        let (cut, head, newest) = self.0.store.run("read the audit trail", |db| {
            Ok((tables::cut(db)?, tables::head(db)?, tables::newest(db)?))
        })?;
        let key = lock(&self.0.key).clone();
        let mut verifier = Verifier::new(cut, &lines, expected, key.as_ref());
        let after = cut.map_or(0, |cut| cut.head.sequence);
        self.each(after, newest.sequence, |row| {
            verifier.row(&row);
            true
        })?;
        Ok(verifier.finish(head, lines.is_there))
    }

    fn each(
        &self,
        mut after: u64,
        until: u64,
        mut take: impl FnMut(StoredRow) -> bool,
    ) -> Result<(), StoreError> {
        loop {
            let rows = self.0.store.run("read the audit trail", move |db| {
                tables::rows(db, after, until, PAGE)
            })?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = last.sequence;
            for row in rows {
                if !take(row) {
                    return Ok(());
                }
            }
        }
    }
}

/// Which lines of the file of heads are by the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    OfOurs,
    /// Earlier versions signed them as the database's head: who has an older one of those could put it there.
    OfEarlierVersionsToo,
}

impl Inner {
    /// The newest of the lines that is by the key, or by none where there is none; what is written next is told of it
    /// where the database does not go back to it.
    fn compare(
        &self,
        db: &Connection,
        lines: &[Line],
        key: Option<&Key>,
        copies: Copies,
    ) -> rusqlite::Result<Option<Line>> {
        let is_ours = |line: &&Line| match key {
            Some(key) => {
                line.is_by(key, Purpose::Copy)
                    || (copies == Copies::OfEarlierVersionsToo && line.is_by(key, Purpose::Head))
            }
            // One that is signed is not to be verified now.
            None => line.mac.is_none(),
        };
        let Some(copy) = lines.iter().rev().find(is_ours).copied() else {
            return Ok(None);
        };
        let noted = copy.head;
        // Behind, as a crash leaves it, is no other trail.
        let is_behind = noted.sequence < tables::newest(db)?.sequence;
        let hash = tables::row_hash(db, noted.sequence)?;
        let is_cut = tables::cut(db)?.is_some_and(|cut| cut.head.sequence >= noted.sequence);
        if !(is_behind && (is_cut || hash == Some(noted.hash))) {
            *lock(&self.last) = Some(noted);
        }
        Ok(Some(copy))
    }

    /// Takes the key, with a record that is the first to be signed by it; without the record it is not taken.
    fn sign_with(
        &self,
        db: &mut Connection,
        key: Key,
        entry: Entry,
        also: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let before = lock(&self.key).replace(key);
        let written = self.write(db, entry, also);
        if written.is_err() {
            *lock(&self.key) = before;
        }
        written.map(drop)
    }

    /// On the database's thread, which orders all records.
    fn write(
        &self,
        db: &mut Connection,
        entry: Entry,
        also: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<Head> {
        let key = lock(&self.key).clone();
        let last = *lock(&self.last);
        let begun = lock(&self.begun).clone();
        let now = SystemTime::now();
        let change = db.transaction()?;
        let mut before = tables::newest(&change)?;
        if let Some(why) = broken(&change, before, last, begun, key.as_ref())? {
            tracing::error!(
                why,
                "the audit trail is not as the daemon left it: see `havre audit verify`"
            );
            // What is gone leaves a hole, and is not written anew under its numbers.
            if let Some(last) = last.filter(|last| last.sequence > before.sequence) {
                before = last;
            }
            before = tables::append(&change, before, gap(why), now, key.as_ref())?;
        }
        let head = tables::append(&change, before, entry, now, key.as_ref())?;
        also(&change)?;
        change.commit()?;
        *lock(&self.last) = Some(head);
        // The record is on disk: where this fails the copy is behind, which `verify` tells, until the next record.
        if let Err(error) = self.anchor.put(&head, key.as_ref()) {
            let path = self.anchor.path().display();
            tracing::error!(%error, %path, "the copy of the audit trail's head is behind");
        }
        Ok(head)
    }
}

/// What is to be said when the trail is signed again by the key that it had.
fn taken_up(
    db: &Connection,
    key: &Key,
    head: Option<Signed>,
    copy: Option<Line>,
    is_noted: bool,
) -> rusqlite::Result<Option<Entry>> {
    let said = |detail: String| Entry {
        subject: Some(key.id()),
        detail: Some(detail),
        ..Entry::new(Principal::havre(), KEY_ACTION, Outcome::Ok)
    };
    // The key was kept with the first record.
    let Some(Signed { head, mac }) = head else {
        return Ok(Some(gap("there was a key, and no record".to_owned())));
    };
    let newest = head.sequence;
    Ok(match (mac, copy) {
        (Some(_), Some(copy)) if copy.is_by(key, Purpose::Copy) => None,
        (Some(_), Some(copy)) => Some(said(format!(
            "audit.head was of an earlier version, and went up to record {}",
            copy.head.sequence
        ))),
        // Killed with the record of the key, it had not come to the copy.
        (Some(_), None) if !is_noted && tables::is_of(db, newest, KEY_ACTION)? => None,
        (Some(_), None) => Some(gap(format!(
            "no line of audit.head was by the key, though the newest record was {newest}"
        ))),
        (None, Some(copy)) => Some(said(format!(
            "what follows record {}, up to {newest}, was written without the key",
            copy.head.sequence
        ))),
        (None, None) => Some(gap(format!(
            "the newest record, {newest}, was not signed, and no line of audit.head is by the key"
        ))),
    })
}

/// Why the newest record is not the one that was written last; as far as that can be told without reading all.
fn broken(
    db: &Connection,
    newest: Head,
    last: Option<Head>,
    begun: Option<String>,
    key: Option<&Key>,
) -> rusqlite::Result<Option<String>> {
    if let Some(last) = last.filter(|&last| last != newest) {
        let (is, was) = (newest.sequence, last.sequence);
        return Ok(Some(match is == was {
            true => format!("record {is}, the newest, is another than was written"),
            false => format!("the newest record is {is}, and was {was}"),
        }));
    }
    let Some(head) = tables::head(db)? else {
        return Ok(match newest == Head::START {
            true => begun.map(|what_tells| format!("there was no record, but {what_tells}")),
            false => Some("nothing says which record is the newest".to_owned()),
        });
    };
    if head.head != newest || tables::row_hash(db, newest.sequence)? != Some(newest.hash) {
        return Ok(Some(format!(
            "record {} was the newest, and is not",
            head.head.sequence
        )));
    }
    let is_forged = head
        .mac
        .zip(key)
        .is_some_and(|(mac, key)| !key.vouches(Purpose::Head, newest.sequence, &newest.hash, &mac));
    Ok(is_forged.then(|| "this machine has not signed the newest record".to_owned()))
}

/// Why a trail could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was to come was removed for its age.
    #[error("records were removed meanwhile: export again")]
    Removed,
}

/// Why a trail could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of heads cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Anchor {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

fn gap(why: String) -> Entry {
    Entry {
        detail: Some(why),
        ..Entry::new(Principal::havre(), GAP_ACTION, Outcome::Failed)
    }
}

fn with_dropped(detail: Option<String>, dropped: u64) -> String {
    let before = detail
        .map(|detail| format!("{detail}; "))
        .unwrap_or_default();
    format!("{before}{dropped} attempts in vain before this were too many to record one by one")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they hold is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
