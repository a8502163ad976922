//! Whether a trail is whole. Pure: it is shown the rows in order, and what vouches for them.

use std::collections::BTreeMap;
use std::fmt;

use crate::anchor::Lines;
use crate::chain::{Hash, Key, Purpose, link};
use crate::head::Head;
use crate::record::Record;
use crate::tables::{Signed, StoredRow};

/// The action of the record that says that older ones were cut off, and up to which: its subject.
pub(crate) const CUT_ACTION: &str = "audit/cut";
/// The action of the record that says that heads are signed from then on.
pub(crate) const KEY_ACTION: &str = "audit/key";
/// The action of the record that says that the one before it was not where the daemon had left off.
pub(crate) const GAP_ACTION: &str = "audit/gap";
/// Faults that are told one by one.
const MAX_FAULTS: usize = 100;
/// Notes about keys that are told.
const MAX_NOTES: usize = 100;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A record's hash is not the one that its text, and the hash before it, give.
    Altered {
        /// The record.
        sequence: u64,
    },
    /// A record stands in another's place.
    Misplaced {
        /// The place.
        sequence: u64,
        /// What the record says; `None`: it cannot be read.
        says: Option<u64>,
    },
    /// Records are gone.
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Records at the end are gone.
    Truncated {
        /// The first.
        from: u64,
        /// The last, by what vouches for it.
        to: u64,
    },
    /// The record is another than the one that was noted when it was the newest.
    Rewritten {
        /// The record.
        sequence: u64,
        /// Where that was noted.
        noted: String,
    },
    /// There are records, and nothing says which is the newest.
    NoHead,
    /// The newest record is not the one that the database has as the newest.
    OtherHead {
        /// Which it has.
        says: u64,
    },
    /// What vouches for the newest record was not signed by this machine.
    ForgedHead,
    /// Heads are signed, and the newest is not.
    UnsignedHead,
    /// A line of the file of heads was not signed by this machine.
    ForgedLine {
        /// Its number.
        line: usize,
    },
    /// The file of heads is not there.
    NoAnchor,
    /// What says that older records were cut off was not signed by this machine.
    ForgedCut,
    /// No record says that they were.
    UnrecordedCut,
    /// The daemon found the trail changed when it wrote the next record.
    Gap {
        /// The record that says so.
        sequence: u64,
        /// What it says.
        detail: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered { sequence } => write!(
                f,
                "record {sequence} does not match its hash: it, or the one before it, was changed"
            ),
            Self::Misplaced {
                sequence,
                says: Some(says),
            } => write!(f, "in the place of record {sequence} stands number {says}"),
            Self::Misplaced {
                sequence,
                says: None,
            } => write!(f, "record {sequence} cannot be read"),
            Self::Missing { from, to } if from == to => write!(f, "record {from} is missing"),
            Self::Missing { from, to } => write!(f, "records {from} to {to} are missing"),
            Self::Truncated { from, to } if from == to => {
                write!(f, "record {from}, at the end, is missing")
            }
            Self::Truncated { from, to } => {
                write!(f, "records {from} to {to}, at the end, are missing")
            }
            Self::Rewritten { sequence, noted } => {
                write!(f, "record {sequence} is another than {noted} says")
            }
            Self::NoHead => f.write_str("the database does not say which record is the newest"),
            Self::OtherHead { says } => {
                write!(
                    f,
                    "the database has record {says} as the newest, with another hash"
                )
            }
            Self::ForgedHead => {
                f.write_str("this machine has not signed what says which record is the newest")
            }
            Self::UnsignedHead => f.write_str(
                "what says which record is the newest is not signed, though it was before",
            ),
            Self::ForgedLine { line } => {
                write!(f, "this machine has not signed line {line} of audit.head")
            }
            Self::NoAnchor => f.write_str("audit.head is not there: the copy of the newest record"),
            Self::ForgedCut => {
                f.write_str("this machine has not signed what says that older records were removed")
            }
            Self::Gap { sequence, detail } => {
                write!(f, "before record {sequence} was written, {detail}")
            }
            Self::UnrecordedCut => f.write_str("no record says that older records were removed"),
        }
    }
}

/// What came of verifying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The records that are there.
    pub records: u64,
    /// The newest one, for noting elsewhere.
    pub head: Head,
    /// The newest one of those that were removed for their age.
    pub cut: Option<u64>,
    /// The key that signs heads, where it is known.
    pub key: Option<String>,
    /// What is wrong; the first hundred.
    pub faults: Vec<Fault>,
    /// How much is wrong.
    pub fault_count: u64,
    /// What could not be checked, and why that may be.
    pub notes: Vec<String>,
}

/// Verifies a trail, row by row.
pub(crate) struct Verifier<'a> {
    key: Option<&'a Key>,
    /// What is noted of a record elsewhere, by its number, with where.
    noted: BTreeMap<u64, Vec<(Hash, String)>>,
    cut: Option<Signed>,
    cut_is_recorded: bool,
    /// The first record that says that heads are signed.
    keyed_at: Option<u64>,
    before: Head,
    records: u64,
    /// The last of the lines of heads, where there are any.
    anchored: Option<u64>,
    faults: Vec<Fault>,
    fault_count: u64,
    notes: Vec<String>,
}

impl<'a> Verifier<'a> {
    pub(crate) fn new(
        cut: Option<Signed>,
        anchor: &Lines,
        expected: &[Head],
        key: Option<&'a Key>,
    ) -> Self {
        let mut new = Self {
            key,
            noted: BTreeMap::new(),
            cut,
            cut_is_recorded: false,
            keyed_at: None,
            before: cut.map_or(Head::START, |cut| cut.head),
            records: 0,
            anchored: None,
            faults: Vec::new(),
            fault_count: 0,
            notes: Vec::new(),
        };
        for head in expected {
            new.note(*head, "the head that was given".to_owned());
        }
        for line in &anchor.lines {
            let place = format!("line {} of audit.head", line.number);
            if line.mac.is_some() && key.is_some_and(|key| !line.is_by(key, Purpose::Copy)) {
                new.fault(Fault::ForgedLine { line: line.number });
                continue;
            }
            new.anchored = new.anchored.max(Some(line.head.sequence));
            new.note(line.head, place);
        }
        for line in &anchor.unreadable {
            new.notes
                .push(format!("line {line} of audit.head cannot be read"));
        }
        new
    }

    /// The next row.
    pub(crate) fn row(&mut self, row: &StoredRow) {
        let next = self.before.sequence + 1;
        if row.sequence > next {
            self.fault(Fault::Missing {
                from: next,
                to: row.sequence - 1,
            });
        }
        let record: Option<Record> = serde_json::from_str(&row.record).ok();
        let says = record.as_ref().map(|record| record.sequence);
        if says != Some(row.sequence) {
            self.fault(Fault::Misplaced {
                sequence: row.sequence,
                says,
            });
        }
        if row.sequence == next && link(&self.before.hash, &row.record) != row.hash {
            self.fault(Fault::Altered {
                sequence: row.sequence,
            });
        }
        for (hash, place) in self.noted.remove(&row.sequence).unwrap_or_default() {
            if hash != row.hash {
                self.fault(Fault::Rewritten {
                    sequence: row.sequence,
                    noted: place,
                });
            }
        }
        if let Some(record) = record {
            self.look_at(&record);
        }
        self.records += 1;
        self.before = Head {
            sequence: row.sequence,
            hash: row.hash,
        };
    }

    /// After the last row.
    pub(crate) fn finish(mut self, head: Option<Signed>, has_anchor: bool) -> Verdict {
        let newest = self.before;
        self.check_head(head, newest);
        let missing = self.noted.last_key_value().map(|(&last, _)| last);
        let said = head.map(|head| head.head.sequence);
        if let Some(last) = missing.max(said).filter(|&last| last > newest.sequence) {
            self.fault(Fault::Truncated {
                from: newest.sequence + 1,
                to: last,
            });
        }
        if !has_anchor && newest != Head::START {
            self.fault(Fault::NoAnchor);
        }
        if let Some(behind) = self
            .anchored
            .and_then(|last| newest.sequence.checked_sub(last))
            .filter(|&behind| behind > 0)
        {
            self.notes.push(format!(
                "audit.head is {behind} behind, as after a crash or on a full disk"
            ));
        }
        self.check_cut();
        if let (Some(at), None) = (self.keyed_at.filter(|&at| at > 1), self.cut) {
            let last = at - 1;
            self.notes
                .push(format!("records 1 to {last} are older than the key"));
        }
        Verdict {
            records: self.records,
            head: newest,
            cut: self.cut.map(|cut| cut.head.sequence),
            key: self.key.map(Key::id),
            faults: self.faults,
            fault_count: self.fault_count,
            notes: self.notes,
        }
    }

    fn check_head(&mut self, head: Option<Signed>, newest: Head) {
        let Some(head) = head else {
            if newest != Head::START {
                self.fault(Fault::NoHead);
            }
            return;
        };
        // A later one is told as what is missing at the end.
        if head.head != newest && head.head.sequence <= newest.sequence {
            self.fault(Fault::OtherHead {
                says: head.head.sequence,
            });
        }
        match (head.mac, self.key) {
            (Some(mac), Some(key)) => {
                if !key.vouches(Purpose::Head, head.head.sequence, &head.head.hash, &mac) {
                    self.fault(Fault::ForgedHead);
                }
            }
            (None, Some(_)) => self.fault(Fault::UnsignedHead),
            (Some(_), None) => {
                let note = "signatures were not checked: the key is sealed";
                self.notes.push(note.to_owned());
            }
            (None, None) if self.keyed_at.is_some() => {
                let note = "the newest records are not signed: the key is sealed";
                self.notes.push(note.to_owned());
            }
            (None, None) => self
                .notes
                .push("nothing is signed: there is no key".to_owned()),
        }
    }

    fn check_cut(&mut self) {
        let Some(cut) = self.cut else { return };
        if !self.cut_is_recorded {
            self.fault(Fault::UnrecordedCut);
        }
        let is_forged = match (cut.mac, self.key) {
            (Some(mac), Some(key)) => {
                !key.vouches(Purpose::Cut, cut.head.sequence, &cut.head.hash, &mac)
            }
            (None, Some(_)) => self.keyed_at.is_none_or(|at| at <= cut.head.sequence),
            (_, None) => false,
        };
        if is_forged {
            self.fault(Fault::ForgedCut);
        }
    }

    fn look_at(&mut self, record: &Record) {
        if record.action == KEY_ACTION {
            self.keyed_at.get_or_insert(record.sequence);
            // No key signed what it tells of.
            if let Some(detail) = &record.detail
                && self.notes.len() < MAX_NOTES
            {
                let note = format!("record {}: {detail}", record.sequence);
                self.notes.push(note);
            }
        }
        if record.action == GAP_ACTION {
            self.fault(Fault::Gap {
                sequence: record.sequence,
                detail: record.detail.clone().unwrap_or_default(),
            });
        }
        if record.action == CUT_ACTION {
            let cut = self.cut.map(|cut| cut.head.to_string());
            self.cut_is_recorded |= cut.is_some() && record.subject == cut;
        }
    }

    fn note(&mut self, head: Head, place: String) {
        // What was cut off is gone, by our own word.
        if head.sequence > self.before.sequence {
            let of_it = self.noted.entry(head.sequence).or_default();
            of_it.push((head.hash, place));
        } else if head.sequence == self.before.sequence && head.hash != self.before.hash {
            self.fault(Fault::Rewritten {
                sequence: head.sequence,
                noted: place,
            });
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}
