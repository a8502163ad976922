//! Variables that workflows read as `vars`: of a project, and of one of its environments, whose come first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use havre_api::{
    ApiError, ErrorCode, Principal, Role, VarInfo, VarsQuery, VarsRemoveRequest, VarsSetOutcome,
    VarsSetRequest,
};
use havre_model::{EnvironmentName, ProjectName};
use havre_store::rusqlite::{self, OptionalExtension as _, params};
use havre_store::{Schema, Store, StoreError, now};

use crate::project_rights::permit;

/// Its versions.
pub(crate) const SCHEMA: Schema = Schema {
    name: "vars",
    migrations: &[include_str!("vars/schema/001.sql")],
};

/// Most of a project, or of one environment.
const MOST: u32 = 500;
/// Bytes of all their values: each run keeps them.
const MOST_BYTES: u64 = 256 * 1024;

/// Their table.
#[derive(Clone, Debug)]
pub(crate) struct Vars(Arc<Store>);

/// Why they are not set.
enum NotSet {
    TooMany,
    TooLarge,
}

impl Vars {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// Those of a project, or of one of its environments alone, by name.
    pub(crate) fn of(
        &self,
        project: &str,
        environment: Option<&str>,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let (project, environment) = owned(project, environment);
        self.0.run("read variables", move |db| {
            db.prepare("SELECT name, value FROM vars WHERE project = ?1 AND environment = ?2")?
                .query_map([project, environment], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    fn all(&self, project: &str) -> Result<Vec<VarInfo>, StoreError> {
        let project = project.to_owned();
        self.0.run("list variables", move |db| {
            db.prepare(
                "SELECT name, value, environment, set_at, set_by FROM vars WHERE project = ?1
                 ORDER BY name, environment",
            )?
            .query_map([project], info)?
            .collect()
        })
    }

    /// How many changed. All or none are set.
    fn set(
        &self,
        project: &str,
        environment: Option<&str>,
        vars: Vec<(String, String)>,
        by: String,
    ) -> Result<Result<u32, NotSet>, StoreError> {
        let (project, environment) = owned(project, environment);
        self.0.run("set variables", move |db| {
            let at = now();
            let mut changed = 0;
            let change = db.transaction()?;
            for (name, value) in vars {
                let before: Option<String> = change
                    .query_row(
                        "SELECT value FROM vars WHERE project = ?1 AND environment = ?2 AND name = ?3",
                        params![project, environment, name],
                        |row| row.get(0),
                    )
                    .optional()?;
                if before.as_ref() == Some(&value) {
                    continue;
                }
                change.execute(
                    "INSERT OR REPLACE INTO vars VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![project, environment, name, value, by, at],
                )?;
                changed += 1;
            }
            let (count, bytes): (u32, u64) = change.query_row(
                "SELECT count(*), coalesce(sum(length(CAST(value AS BLOB))), 0) FROM vars
                 WHERE project = ?1 AND environment = ?2",
                params![project, environment],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            // Dropped, it changes nothing.
            if count > MOST {
                return Ok(Err(NotSet::TooMany));
            }
            if bytes > MOST_BYTES {
                return Ok(Err(NotSet::TooLarge));
            }
            change.commit()?;
            Ok(Ok(changed))
        })
    }

    /// The first that is not there; then none is removed.
    fn remove(
        &self,
        project: &str,
        environment: Option<&str>,
        names: Vec<String>,
    ) -> Result<Option<String>, StoreError> {
        let (project, environment) = owned(project, environment);
        self.0.run("remove variables", move |db| {
            let change = db.transaction()?;
            for name in names {
                let removed = change.execute(
                    "DELETE FROM vars WHERE project = ?1 AND environment = ?2 AND name = ?3",
                    params![project, environment, name],
                )?;
                if removed == 0 {
                    return Ok(Some(name));
                }
            }
            change.commit()?;
            Ok(None)
        })
    }
}

fn owned(project: &str, environment: Option<&str>) -> (String, String) {
    let environment = environment.unwrap_or_default();
    (project.to_owned(), environment.to_owned())
}

fn info(row: &rusqlite::Row<'_>) -> rusqlite::Result<VarInfo> {
    let environment: String = row.get(2)?;
    let at: i64 = row.get(3)?;
    let since = Duration::from_secs(u64::try_from(at).unwrap_or_default());
    Ok(VarInfo {
        name: row.get(0)?,
        value: row.get(1)?,
        environment: (!environment.is_empty()).then(|| EnvironmentName::new(environment)),
        set: (UNIX_EPOCH + since).into(),
        by: row.get(4)?,
    })
}

/// Those of one environment are its own; what all jobs of a project read is for who may deploy to all of it.
fn may(
    by: &Principal,
    project: &ProjectName,
    environment: Option<&EnvironmentName>,
    needed: Role,
    doing: &str,
) -> Result<(), ApiError> {
    match environment {
        // The guard has seen to it.
        Some(_) => Ok(()),
        None => permit(by, project, needed, &format!("{doing} {project}")),
    }
}

pub(crate) fn set(
    vars: &Vars,
    by: &Principal,
    request: VarsSetRequest,
) -> Result<VarsSetOutcome, ApiError> {
    let VarsSetRequest {
        project,
        environment,
        vars: given,
    } = request;
    let whose = environment.as_ref();
    may(by, &project, whose, Role::Deployer, "setting variables of")?;
    let given = given.into_iter();
    let given = given
        .map(|(name, value)| (name.to_ascii_uppercase(), value))
        .collect();
    let environment = whose.map(EnvironmentName::as_str);
    let set = vars.set(project.as_str(), environment, given, by.to_string());
    match set.map_err(failed)? {
        Ok(changed) => Ok(VarsSetOutcome { changed }),
        Err(why) => {
            let why = match why {
                NotSet::TooMany => format!("there would be more than {MOST} variables"),
                NotSet::TooLarge => {
                    format!("all variables together would have more than {MOST_BYTES} bytes")
                }
            };
            Err(ApiError::new(ErrorCode::Conflict, why)
                .with_hint("`havre vars rm` removes some; a file of the repository has room"))
        }
    }
}

/// All there are, or what jobs of one environment get.
pub(crate) fn list(
    vars: &Vars,
    by: &Principal,
    query: &VarsQuery,
) -> Result<Vec<VarInfo>, ApiError> {
    let whose = query.environment.as_ref();
    may(
        by,
        &query.project,
        whose,
        Role::Viewer,
        "seeing the variables of",
    )?;
    let mut all = vars.all(query.project.as_str()).map_err(failed)?;
    match whose {
        None => {
            let sees = |environment: &EnvironmentName| {
                by.grant.sees(&havre_api::EnvironmentId {
                    project: query.project.clone(),
                    environment: environment.clone(),
                })
            };
            all.retain(|one| one.environment.as_ref().is_none_or(sees));
        }
        Some(_) => {
            let own = all.iter().filter(|one| one.environment.as_ref() == whose);
            let own: Vec<String> = own.map(|one| one.name.clone()).collect();
            all.retain(|one| match &one.environment {
                Some(_) => one.environment.as_ref() == whose,
                None => !own.contains(&one.name),
            });
        }
    }
    Ok(all)
}

pub(crate) fn remove(
    vars: &Vars,
    by: &Principal,
    request: VarsRemoveRequest,
) -> Result<(), ApiError> {
    let VarsRemoveRequest {
        project,
        environment,
        names,
    } = request;
    let whose = environment.as_ref();
    may(by, &project, whose, Role::Deployer, "removing variables of")?;
    let mut names: Vec<String> = names.iter().map(|name| name.to_ascii_uppercase()).collect();
    names.sort();
    names.dedup();
    let removed = vars.remove(project.as_str(), whose.map(EnvironmentName::as_str), names);
    match removed.map_err(failed)? {
        None => Ok(()),
        Some(name) => {
            let whose = match whose {
                Some(environment) => format!("{project}/{environment}"),
                None => format!("{project} as a whole"),
            };
            Err(ApiError::new(
                ErrorCode::NotFound,
                format!("{whose} has no variable {name}"),
            )
            .with_hint("`havre vars ls` lists them"))
        }
    }
}

fn failed(error: StoreError) -> ApiError {
    ApiError::from_error(ErrorCode::Failed, &error)
}

#[cfg(test)]
mod tests {
    use havre_api::{Grant, LocalPeer, Who};

    use super::*;

    fn by(role: Role, places: &str) -> Principal {
        let places = places.split(',');
        Principal {
            who: Who::Local(LocalPeer {
                uid: 1000,
                gid: 1000,
                name: None,
            }),
            grant: Grant {
                role,
                environments: places.map(|one| one.parse().expect("a place")).collect(),
            },
        }
    }

    fn vars(folder: &tempfile::TempDir) -> Vars {
        let store = Store::open(&folder.path().join("state.db"), &[SCHEMA]).expect("a database");
        Vars::new(Arc::new(store))
    }

    fn request(environment: Option<&str>, vars: &[(&str, &str)]) -> VarsSetRequest {
        let vars = vars.iter();
        VarsSetRequest {
            project: ProjectName::new("shop"),
            environment: environment.map(EnvironmentName::new),
            vars: vars
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn told(vars: &Vars, by: &Principal, environment: Option<&str>) -> String {
        let query = VarsQuery {
            project: ProjectName::new("shop"),
            environment: environment.map(EnvironmentName::new),
        };
        let listed = list(vars, by, &query).expect("listed");
        let lines = listed.iter().map(|one| {
            let of = one
                .environment
                .as_ref()
                .map_or("*", EnvironmentName::as_str);
            format!("{}={} ({of})", one.name, one.value)
        });
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn those_of_an_environment_come_first_and_names_are_the_same_in_any_case() {
        let folder = tempfile::tempdir().expect("a folder");
        let vars = vars(&folder);
        let all = by(Role::Deployer, "shop/*");
        let asked = request(None, &[("level", "low"), ("REGION", "eu")]);
        assert_eq!(set(&vars, &all, asked).expect("set").changed, 2);
        let asked = request(Some("staging"), &[("Level", "high")]);
        assert_eq!(set(&vars, &all, asked).expect("set").changed, 1);
        let again = request(None, &[("LEVEL", "low"), ("REGION", "us")]);
        assert_eq!(set(&vars, &all, again).expect("set").changed, 1);
        assert_eq!(
            told(&vars, &all, None),
            "LEVEL=low (*) LEVEL=high (staging) REGION=us (*)"
        );
        assert_eq!(
            told(&vars, &all, Some("staging")),
            "LEVEL=high (staging) REGION=us (*)"
        );
        assert_eq!(
            vars.of("shop", Some("staging")).expect("read"),
            BTreeMap::from([("LEVEL".to_owned(), "high".to_owned())])
        );
        let other = by(Role::Viewer, "shop/production");
        assert_eq!(told(&vars, &other, None), "LEVEL=low (*) REGION=us (*)");
    }

    #[test]
    fn what_all_jobs_read_only_those_set_who_may_deploy_to_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let vars = vars(&folder);
        for (role, places, may) in [
            (Role::Deployer, "shop/staging", false),
            (Role::Viewer, "shop/*", false),
            (Role::Deployer, "other/*", false),
            (Role::Deployer, "shop/*", true),
        ] {
            let by = by(role, places);
            let set = set(&vars, &by, request(None, &[("A", "1")]));
            assert_eq!(set.is_ok(), may, "{role} {places}");
        }
    }

    #[test]
    fn there_is_an_end_to_them_and_none_is_set_of_those_that_are_too_many() {
        let folder = tempfile::tempdir().expect("a folder");
        let vars = vars(&folder);
        let all = by(Role::Admin, "*");
        let large = "x".repeat(48 * 1024);
        for name in ["A", "B", "C", "D", "E"] {
            set(&vars, &all, request(None, &[(name, &large)])).expect("set");
        }
        let more = set(&vars, &all, request(None, &[("F", "1"), ("G", &large)]));
        assert_eq!(more.expect_err("refused").code, ErrorCode::Conflict);
        assert!(!vars.of("shop", None).expect("read").contains_key("F"));
        let removed = |names: &[&str]| {
            let request = VarsRemoveRequest {
                project: ProjectName::new("shop"),
                environment: None,
                names: names.iter().map(|name| (*name).to_owned()).collect(),
            };
            remove(&vars, &all, request)
        };
        let missing = removed(&["a", "z"]).expect_err("refused");
        assert_eq!(missing.message, "shop as a whole has no variable Z");
        assert!(vars.of("shop", None).expect("read").contains_key("A"));
        removed(&["a"]).expect("removed");
        assert!(!vars.of("shop", None).expect("read").contains_key("A"));
    }
}
