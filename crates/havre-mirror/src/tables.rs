//! What is mirrored, how that went, and what is to be told of commits.

use std::sync::Arc;
use std::time::Duration;

use havre_store::rusqlite::{self, Connection, OptionalExtension as _, Row, params};
use havre_store::{Schema, Store, StoreError};

/// Their versions.
pub const SCHEMA: Schema = Schema {
    name: "mirrors",
    migrations: &[include_str!("schema/001.sql")],
};

/// States of commits that are kept of one project: the oldest go.
const MOST_WORDS: u32 = 2000;
const COLUMNS: &str = "SELECT project, way, url, user, token, every_ms, api, set_by, set_ms, tried_ms, done_ms, \
                       failures, why, said, mark, next_ms FROM mirrors";

/// Which of both has what the other gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// What is elsewhere comes here.
    From,
    /// What is here goes elsewhere.
    To,
}

impl Way {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "from" => Self::From,
            _ => Self::To,
        }
    }
}

/// A repository and its other side, as an admin said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Whose repository.
    pub project: String,
    /// Which way.
    pub way: Way,
    /// The other side.
    pub url: String,
    /// Who we are there, where there is a token.
    pub user: String,
    /// The secret that holds the token.
    pub token: Option<String>,
    /// How often it is asked.
    pub every: Duration,
    /// The API that is told what becomes of commits.
    pub api: Option<String>,
    /// Who said so.
    pub set_by: String,
    /// When.
    pub set_ms: i64,
    /// How it went.
    pub tries: Tries,
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// The last time.
    pub tried_ms: Option<i64>,
    /// The last time that it went well.
    pub done_ms: Option<i64>,
    /// How often it did not since then.
    pub failures: u32,
    /// Why.
    pub why: Option<String>,
    /// What the last time that something moved led to, a line each.
    pub said: Vec<String>,
    /// What the other side was brought to.
    pub mark: Option<String>,
    /// The next time.
    pub next_ms: i64,
}

/// What is said of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Whose.
    pub project: String,
    /// Which.
    pub commit: String,
    /// By whom: `havre / CI`.
    pub context: String,
    /// What.
    pub state: State,
    /// In a few words.
    pub description: String,
    /// Where more is to be seen.
    pub target: Option<String>,
    /// When it became so: what is newer counts.
    pub changed_ms: i64,
    /// Whether it was told.
    pub fate: Fate,
    /// How often in vain.
    pub tries: u32,
    /// Why in vain.
    pub why: Option<String>,
    /// When it is told next.
    pub next_ms: i64,
}

/// GitHub's states of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "GitHub's words")]
pub enum State {
    Pending,
    Success,
    Failure,
    Error,
}

impl State {
    /// As GitHub writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }

    fn of(word: &str) -> Self {
        let all = [Self::Pending, Self::Success, Self::Failure];
        let found = all.into_iter().find(|state| state.word() == word);
        found.unwrap_or(Self::Error)
    }
}

/// What became of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is to be told.
    Waits,
    /// It was.
    Told,
    /// It is not tried any more.
    GivenUp,
}

impl Fate {
    fn word(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Told => "told",
            Self::GivenUp => "given up",
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "waits" => Self::Waits,
            "told" => Self::Told,
            _ => Self::GivenUp,
        }
    }
}

/// The tables. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tables(Arc<Store>);

impl Tables {
    /// Of this database, which has [`SCHEMA`].
    pub fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// Sets a mirror; one that was there begins anew.
    pub fn put(&self, mirror: &Mirror) -> Result<(), StoreError> {
        let one = mirror.clone();
        self.0.run("set a mirror", move |db| {
            let every = millis(one.every);
            db.execute(
                "INSERT OR REPLACE INTO mirrors (project, way, url, user, token, every_ms, api, set_by, set_ms, next_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    one.project, one.way.word(), one.url, one.user, one.token, every, one.api, one.set_by,
                    one.set_ms, one.tries.next_ms
                ],
            )
            .map(drop)
        })
    }

    /// All of them, by project.
    pub fn all(&self) -> Result<Vec<Mirror>, StoreError> {
        self.0.run("list mirrors", |db| {
            let all = format!("{COLUMNS} ORDER BY project, way");
            db.prepare(&all)?.query_map([], mirror)?.collect()
        })
    }

    /// One of them.
    pub fn get(&self, project: &str, way: Way) -> Result<Option<Mirror>, StoreError> {
        let project = project.to_owned();
        self.0.run("look a mirror up", move |db| {
            let one = format!("{COLUMNS} WHERE project = ?1 AND way = ?2");
            db.query_row(&one, params![project, way.word()], mirror)
                .optional()
        })
    }

    /// Removes one, with what was to be told of commits where no other is to tell it; whether there was one.
    pub fn remove(&self, project: &str, way: Way) -> Result<bool, StoreError> {
        let project = project.to_owned();
        self.0.run("remove a mirror", move |db| {
            let change = db.transaction()?;
            let gone = "DELETE FROM mirrors WHERE project = ?1 AND way = ?2";
            let removed = change.execute(gone, params![project, way.word()])?;
            change.execute(
                "DELETE FROM commit_statuses WHERE project = ?1 AND NOT EXISTS \
                 (SELECT 1 FROM mirrors WHERE project = ?1 AND api IS NOT NULL)",
                [&project],
            )?;
            change.commit()?;
            Ok(removed > 0)
        })
    }

    /// A try begins: the next is at `next` at the latest, should nobody say how it went.
    pub fn begin(&self, of: &Mirror, next: i64) -> Result<(), StoreError> {
        let (project, way, set) = (of.project.clone(), of.way, of.set_ms);
        self.0.run("begin with a mirror", move |db| {
            let begun =
                "UPDATE mirrors SET next_ms = ?4 WHERE project = ?1 AND way = ?2 AND set_ms = ?3";
            db.execute(begun, params![project, way.word(), set, next])
                .map(drop)
        })
    }

    /// Keeps how it went, of the mirror as it was set and begun then: one that was to be tried sooner meanwhile is.
    pub fn tried(&self, of: &Mirror, tries: &Tries) -> Result<(), StoreError> {
        let (project, way, set) = (of.project.clone(), of.way, of.set_ms);
        let (begun, tries) = (of.tries.next_ms, tries.clone());
        self.0.run("keep how a mirror went", move |db| {
            db.execute(
                "UPDATE mirrors SET tried_ms = ?4, done_ms = ?5, failures = ?6, why = ?7, said = ?8, mark = ?9, \
                 next_ms = CASE WHEN next_ms = ?11 THEN ?10 ELSE min(next_ms, ?10) END \
                 WHERE project = ?1 AND way = ?2 AND set_ms = ?3",
                params![
                    project,
                    way.word(),
                    set,
                    tries.tried_ms,
                    tries.done_ms,
                    tries.failures,
                    tries.why,
                    tries.said.join("\n"),
                    tries.mark,
                    tries.next_ms,
                    begun
                ],
            )
            .map(drop)
        })
    }

    /// Has a mirror tried at `at` at the latest; whether there is one.
    pub fn hurry(&self, project: &str, way: Way, at: i64) -> Result<bool, StoreError> {
        let project = project.to_owned();
        self.0.run("have a mirror tried", move |db| {
            let sooner =
                "UPDATE mirrors SET next_ms = min(next_ms, ?3) WHERE project = ?1 AND way = ?2";
            Ok(db.execute(sooner, params![project, way.word(), at])? > 0)
        })
    }

    /// Keeps what is to be told of commits. What is not newer than what was said already changes nothing; whether
    /// something did.
    pub fn say(&self, words: Vec<Word>) -> Result<bool, StoreError> {
        self.0.run("keep what is to be told of commits", move |db| {
            let change = db.transaction()?;
            let mut changed = 0;
            for word in &words {
                changed += say(&change, word)?;
            }
            change.commit()?;
            Ok(changed > 0)
        })
    }

    /// What is to be told at `now`, the oldest first.
    pub fn due(&self, now: i64, most: u32) -> Result<Vec<Word>, StoreError> {
        self.0.run("list what is to be told of commits", move |db| {
            let due = "SELECT * FROM commit_statuses WHERE fate = 'waits' AND next_ms <= ?1 \
                       ORDER BY changed_ms LIMIT ?2";
            db.prepare(due)?
                .query_map(params![now, most], word)?
                .collect()
        })
    }

    /// When the next is to be told.
    pub fn next_due(&self) -> Result<Option<i64>, StoreError> {
        self.0.run("look for what is to be told of commits", |db| {
            let next = "SELECT min(next_ms) FROM commit_statuses WHERE fate = 'waits'";
            db.query_row(next, [], |row| row.get(0))
        })
    }

    /// What became of a word, as it was then: what was said since waits.
    pub fn told(&self, word: &Word) -> Result<(), StoreError> {
        let word = word.clone();
        self.0.run("keep what was told of a commit", move |db| {
            db.execute(
                "UPDATE commit_statuses SET fate = ?5, tries = ?6, why = ?7, next_ms = ?8 \
                 WHERE project = ?1 AND commit_id = ?2 AND context = ?3 AND changed_ms = ?4 AND state = ?9",
                params![
                    word.project, word.commit, word.context, word.changed_ms, word.fate.word(), word.tries,
                    word.why, word.next_ms, word.state.word()
                ],
            )
            .map(drop)
        })
    }

    /// How many wait to be told of a project, and why the newest of those that were tried does.
    pub fn waiting(&self, project: &str) -> Result<(u32, Option<String>), StoreError> {
        let project = project.to_owned();
        self.0.run("count what is to be told of commits", move |db| {
            let count = "SELECT count(*) FROM commit_statuses WHERE project = ?1 AND fate = 'waits'";
            let count = db.query_row(count, [&project], |row| row.get(0))?;
            let why = "SELECT why FROM commit_statuses WHERE project = ?1 AND fate <> 'told' AND why IS NOT NULL \
                       ORDER BY changed_ms DESC LIMIT 1";
            let why = db.query_row(why, [&project], |row| row.get(0)).optional()?;
            Ok((count, why))
        })
    }
}

fn say(db: &Connection, word: &Word) -> rusqlite::Result<usize> {
    let changed = db.execute(
        "INSERT INTO commit_statuses VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
         ON CONFLICT (project, commit_id, context) DO UPDATE SET state = excluded.state, \
         description = excluded.description, target = excluded.target, changed_ms = excluded.changed_ms, \
         fate = excluded.fate, tries = 0, why = NULL, next_ms = excluded.next_ms \
         WHERE excluded.changed_ms >= changed_ms AND (excluded.state <> state OR excluded.description <> description)",
        params![
            word.project, word.commit, word.context, word.state.word(), word.description, word.target,
            word.changed_ms, word.fate.word(), word.tries, word.why, word.next_ms
        ],
    )?;
    if changed > 0 {
        db.execute(
            "DELETE FROM commit_statuses WHERE rowid IN (SELECT rowid FROM commit_statuses WHERE project = ?1 \
             ORDER BY changed_ms DESC LIMIT -1 OFFSET ?2)",
            params![word.project, MOST_WORDS],
        )?;
    }
    Ok(changed)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn mirror(row: &Row<'_>) -> rusqlite::Result<Mirror> {
    let said: String = row.get(13)?;
    Ok(Mirror {
        project: row.get(0)?,
        way: Way::of(&row.get::<_, String>(1)?),
        url: row.get(2)?,
        user: row.get(3)?,
        token: row.get(4)?,
        every: Duration::from_millis(u64::try_from(row.get::<_, i64>(5)?).unwrap_or_default()),
        api: row.get(6)?,
        set_by: row.get(7)?,
        set_ms: row.get(8)?,
        tries: Tries {
            tried_ms: row.get(9)?,
            done_ms: row.get(10)?,
            failures: row.get(11)?,
            why: row.get(12)?,
            said: said.lines().map(str::to_owned).collect(),
            mark: row.get(14)?,
            next_ms: row.get(15)?,
        },
    })
}

fn word(row: &Row<'_>) -> rusqlite::Result<Word> {
    Ok(Word {
        project: row.get(0)?,
        commit: row.get(1)?,
        context: row.get(2)?,
        state: State::of(&row.get::<_, String>(3)?),
        description: row.get(4)?,
        target: row.get(5)?,
        changed_ms: row.get(6)?,
        fate: Fate::of(&row.get::<_, String>(7)?),
        tries: row.get(8)?,
        why: row.get(9)?,
        next_ms: row.get(10)?,
    })
}

#[cfg(test)]
mod tests;
