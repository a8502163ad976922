//! Environments that were made for branches: the only ones that are ever removed by themselves.

use std::sync::Arc;

use havre_store::rusqlite::{self, OptionalExtension as _, Row, params};
use havre_store::{Schema, Store, StoreError};

/// Its versions.
pub(crate) const SCHEMA: Schema = Schema {
    name: "previews",
    migrations: &[include_str!("schema/001.sql")],
};

const COLUMNS: &str =
    "SELECT project, environment, of, branch, made_ms, used_ms, after_ms, goes, why FROM previews";

/// A branch's environment. It is written down before there is anything of it, and as long as there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preview {
    pub(crate) project: String,
    pub(crate) environment: String,
    /// As whose previews havre.yaml names it.
    pub(crate) of: String,
    pub(crate) branch: String,
    pub(crate) made_ms: i64,
    /// When the last job got into it.
    pub(crate) used_ms: i64,
    /// How long it stays after that.
    pub(crate) after_ms: i64,
    /// It is being removed, and why.
    pub(crate) goes: Option<String>,
    /// Why it is there still.
    pub(crate) why: Option<String>,
}

/// What came of asking for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the branch's.
    Granted(String),
    /// There are as many as there may be: these branches have them.
    Full(Vec<String>),
    /// It is being removed.
    Goes,
    /// None of the names is free.
    Taken,
}

/// The table. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tables(Arc<Store>);

impl Tables {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// Gives a branch its environment: the one that it has, or the first of `names` that is no other branch's.
    /// `wanted` says all but the name.
    pub(crate) fn claim(
        &self,
        wanted: Preview,
        names: Vec<String>,
        most: u32,
    ) -> Result<Claim, StoreError> {
        self.0.run("claim a preview", move |db| {
            let change = db.transaction()?;
            let (project, of, branch) = (&wanted.project, &wanted.of, &wanted.branch);
            let own = format!("{COLUMNS} WHERE project = ?1 AND of = ?2 AND branch = ?3");
            let own = change.query_row(&own, params![project, of, branch], preview).optional()?;
            if let Some(own) = own {
                if own.goes.is_some() {
                    return Ok(Claim::Goes);
                }
                let used = "UPDATE previews SET used_ms = ?3, after_ms = ?4 WHERE project = ?1 AND environment = ?2";
                change.execute(used, params![project, own.environment, wanted.used_ms, wanted.after_ms])?;
                change.commit()?;
                return Ok(Claim::Granted(own.environment));
            }
            let all = format!("{COLUMNS} WHERE project = ?1 ORDER BY made_ms");
            let all: Vec<Preview> =
                change.prepare(&all)?.query_map([project], preview)?.collect::<rusqlite::Result<_>>()?;
            let others = all.iter().filter(|other| other.of == *of);
            let others: Vec<String> = others.map(|other| other.branch.clone()).collect();
            if others.len() >= most as usize {
                return Ok(Claim::Full(others));
            }
            let is_free = |name: &&String| all.iter().all(|other| other.environment != **name);
            let Some(name) = names.iter().find(is_free) else {
                return Ok(Claim::Taken);
            };
            change.execute(
                "INSERT INTO previews VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, NULL)",
                params![project, name, of, branch, wanted.made_ms, wanted.used_ms, wanted.after_ms],
            )?;
            change.commit()?;
            Ok(Claim::Granted(name.clone()))
        })
    }

    /// All of them.
    pub(crate) fn all(&self) -> Result<Vec<Preview>, StoreError> {
        self.0.run("list previews", |db| {
            let all = format!("{COLUMNS} ORDER BY project, environment");
            db.prepare(&all)?.query_map([], preview)?.collect()
        })
    }

    /// Says that one is to go, and why: from then on nobody gets into it. Not where a job got into it meanwhile.
    pub(crate) fn let_go(&self, one: &Preview, goes: &str) -> Result<bool, StoreError> {
        let (one, goes) = (one.clone(), goes.to_owned());
        self.0.run("have a preview removed", move |db| {
            let going = "UPDATE previews SET goes = ?3 \
                         WHERE project = ?1 AND environment = ?2 AND goes IS NULL AND used_ms = ?4";
            Ok(db.execute(
                going,
                params![one.project, one.environment, goes, one.used_ms],
            )? > 0)
        })
    }

    /// Why one is there still, or is not looked after.
    pub(crate) fn stays(&self, one: &Preview, why: Option<&str>) -> Result<(), StoreError> {
        let (one, why) = (one.clone(), why.map(str::to_owned));
        self.0.run("note why a preview stays", move |db| {
            let stays = "UPDATE previews SET why = ?3 WHERE project = ?1 AND environment = ?2";
            db.execute(stays, params![one.project, one.environment, why])
                .map(drop)
        })
    }

    /// There is nothing of it any more.
    pub(crate) fn forget(&self, one: &Preview) -> Result<(), StoreError> {
        let one = one.clone();
        self.0.run("forget a preview", move |db| {
            let gone =
                "DELETE FROM previews WHERE project = ?1 AND environment = ?2 AND goes IS NOT NULL";
            db.execute(gone, params![one.project, one.environment])
                .map(drop)
        })
    }
}

fn preview(row: &Row<'_>) -> rusqlite::Result<Preview> {
    Ok(Preview {
        project: row.get(0)?,
        environment: row.get(1)?,
        of: row.get(2)?,
        branch: row.get(3)?,
        made_ms: row.get(4)?,
        used_ms: row.get(5)?,
        after_ms: row.get(6)?,
        goes: row.get(7)?,
        why: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(branch: &str, at: i64) -> Preview {
        Preview {
            project: "shop".to_owned(),
            environment: String::new(),
            of: "preview".to_owned(),
            branch: branch.to_owned(),
            made_ms: at,
            used_ms: at,
            after_ms: 1000,
            goes: None,
            why: None,
        }
    }

    #[test]
    fn a_branch_has_one_environment_and_no_other_s() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let open = || Tables::new(Arc::new(Store::open(&path, &[SCHEMA]).unwrap()));
        let tables = open();
        let claim = |tables: &Tables, branch: &str, at, names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            tables.claim(wanted(branch, at), names, 2).unwrap()
        };
        let granted = |name: &str| Claim::Granted(name.to_owned());
        assert_eq!(
            claim(&tables, "a/b", 1, &["preview-a-b"]),
            granted("preview-a-b")
        );
        assert_eq!(claim(&tables, "a-b", 2, &["preview-a-b"]), Claim::Taken);
        let both = ["preview-a-b", "preview-a-b-1"];
        assert_eq!(claim(&tables, "a-b", 2, &both), granted("preview-a-b-1"));
        let full = Claim::Full(vec!["a/b".to_owned(), "a-b".to_owned()]);
        assert_eq!(claim(&tables, "c", 3, &["preview-c"]), full);

        let before = tables.all().unwrap()[0].clone();
        assert_eq!(
            claim(&tables, "a/b", 9, &[]),
            granted("preview-a-b"),
            "its own, whatever is free"
        );
        assert!(
            !tables.let_go(&before, "old").unwrap(),
            "a job got into it meanwhile"
        );
        let one = tables.all().unwrap()[0].clone();
        tables.forget(&one).unwrap();
        assert_eq!(tables.all().unwrap().len(), 2, "it is not to go");
        assert!(tables.let_go(&one, "old").unwrap());
        drop(tables);
        let tables = open();
        assert_eq!(claim(&tables, "a/b", 10, &["preview-x"]), Claim::Goes);
        tables.forget(&one).unwrap();
        assert_eq!(
            claim(&tables, "c", 11, &["preview-c"]),
            granted("preview-c")
        );
    }
}
