//! Certificates: kept by a task, shown and changed by calls.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::SystemTime;

use havre_acme::{Condition, Moment, Name, Pair, ServiceError, View, plan, record};
use havre_api::{
    ApiError, AuthorityWait, CertificateImport, CertificateImported, CertificateQuery,
    CertificateReport, CertificateSource, CertificateState, CertificateStatus, Certificates,
    CertificatesImport, CertificatesRenew, CertificatesWhy, Empty, ErrorCode, OrderFailure,
    Principal, Renewal, RenewalBy, Role, Routes, Scope, Timestamp,
};

use crate::daemon::Daemon;
use crate::edge::ServedHost;
use crate::labels::environment_key;
use crate::reachability;
use crate::subsystem::{Part, Subsystem, Task};

pub(crate) const PART: Part = Part {
    schema: Some(havre_acme::SCHEMA),
    build: |daemon, _| Box::new(Authorities(Arc::clone(daemon))),
};

struct Authorities(Arc<Daemon>);

impl Subsystem for Authorities {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(Arc::clone(&self.0))
            .call::<Certificates, _>(async |daemon, by, _| Ok(list(&daemon, &by).await))
            .call::<CertificatesWhy, _>(async |daemon, by, query| why(&daemon, &by, query).await)
            .call::<CertificatesRenew, _>(async |daemon, by, query| {
                renew(&daemon, &by, query).await
            })
            .call::<CertificatesImport, _>(async |daemon, by, brought| {
                import(&daemon, &by, brought).await
            });
        Some(routes.erased())
    }

    fn tasks(&self) -> Vec<Task> {
        let platform = Arc::clone(&self.0.platform);
        let keep = move |task: crate::supervisor::Supervised| {
            let service = platform.authorities.clone();
            let names = platform.hub.public_names();
            let report = task.clone();
            async move {
                service
                    .run(names, task.end.clone(), |result| report.report(result))
                    .await;
            }
        };
        vec![Task::new("certificates", keep)]
    }
}

/// All hosts that somebody may see, and what is on record beside.
async fn list(daemon: &Daemon, by: &Principal) -> Vec<CertificateStatus> {
    let visible = visible(daemon, by, Role::Viewer).await;
    let now = Moment::now();
    let views = daemon.platform.authorities.list(now).into_iter();
    let mut views: BTreeMap<Name, View> = views.map(|it| (it.name.clone(), it)).collect();
    let mut all = Vec::new();
    for served in visible {
        let view = Name::parse(&served.host).and_then(|name| views.remove(&name));
        all.push(status(&served, view.as_ref()));
    }
    if by.grant.sees_all() {
        all.extend(views.values().filter(|view| !view.wanted).map(unused));
    }
    all.sort_by(|a, b| a.host.cmp(&b.host));
    all
}

async fn why(
    daemon: &Daemon,
    by: &Principal,
    query: CertificateQuery,
) -> Result<CertificateReport, ApiError> {
    let served = host(daemon, by, Role::Viewer, &query.host).await?;
    let name = Name::parse(&served.host);
    let authorities = &daemon.platform.authorities;
    let view = name
        .as_ref()
        .and_then(|name| authorities.view(name, Moment::now()));
    let status = status(&served, view.as_ref());
    let checks = match name.filter(|_| served.public) {
        Some(name) => reachability::look(&daemon.platform.hub, &name).await,
        None => Vec::new(),
    };
    let advice = reachability::advice(&status, &checks, served.public);
    Ok(CertificateReport {
        status,
        checks,
        advice,
    })
}

async fn renew(
    daemon: &Daemon,
    by: &Principal,
    query: CertificateQuery,
) -> Result<Empty, ApiError> {
    let served = host(daemon, by, Role::Deployer, &query.host).await?;
    let name = Name::parse(&served.host).filter(|_| served.public);
    let name = name.ok_or_else(|| {
        let message = format!("the certificate of {} comes from no authority", query.host);
        ApiError::new(ErrorCode::Conflict, message).with_hint(
            "`tls: acme` in havre.yaml orders one for any name; public names have it by default",
        )
    })?;
    let renewed = daemon.platform.authorities.renew(&name);
    renewed.map(|()| Empty {}).map_err(refused)
}

async fn import(
    daemon: &Daemon,
    by: &Principal,
    brought: CertificateImport,
) -> Result<CertificateImported, ApiError> {
    let CertificateImport { hosts, chain, key } = brought;
    let pair = Pair { chain, key };
    let names = match hosts.is_empty() {
        true => havre_acme::Service::names_of(&pair)
            .map_err(|error| ApiError::from_error(ErrorCode::Invalid, &error))?,
        false => {
            let parse = |host: &String| {
                let invalid = || {
                    let message = format!("{host} is no host name");
                    ApiError::new(ErrorCode::Invalid, message)
                };
                Name::parse(host).ok_or_else(invalid)
            };
            hosts.iter().map(parse).collect::<Result<_, _>>()?
        }
    };
    let imported = daemon.platform.authorities.import(&names, &pair).await;
    let names = imported.map_err(refused)?;
    let hosts: Vec<String> = names.iter().map(ToString::to_string).collect();
    let here = visible(daemon, by, Role::Viewer).await;
    let elsewhere = here
        .into_iter()
        .filter(|served| !served.public && hosts.contains(&served.host))
        .map(|served| served.host)
        .collect();
    Ok(CertificateImported { hosts, elsewhere })
}

fn refused(error: ServiceError) -> ApiError {
    let (code, hint) = match &error {
        ServiceError::Unwanted(_) => (ErrorCode::NotFound, None),
        ServiceError::Brought { .. } => (ErrorCode::Invalid, None),
        ServiceError::NoAuthority => (
            ErrorCode::Conflict,
            Some("acme.authorities in the machine's configuration".to_owned()),
        ),
        ServiceError::Forbidden { name, said, .. } => {
            let said = said.as_ref().map(|said| said.problem.to_string());
            let why = format!("`havre cert why {name}` tells the whole story");
            (
                ErrorCode::TooMany,
                Some(said.map_or(why.clone(), |said| format!("it said: {said}; {why}"))),
            )
        }
        ServiceError::Store(_) | ServiceError::Seal { .. } | ServiceError::Anew { .. } => {
            (ErrorCode::Failed, None)
        }
    };
    let refused = ApiError::from_error(code, &error);
    match hint {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}

/// Hosts of environments in which somebody has a role, each once; the daemon's own are of the machine.
async fn visible(daemon: &Daemon, by: &Principal, role: Role) -> Vec<ServedHost> {
    let environments = daemon.environments().await;
    let keys: BTreeMap<String, _> = environments
        .iter()
        .map(|one| (environment_key(&one.id), one.id.clone()))
        .collect();
    let mut hosts = daemon.platform.hub.served_hosts().await;
    hosts.retain(|served| {
        let scope = match &served.environment {
            Some(key) => keys.get(key).cloned().map(Scope::Environment),
            None => Some(Scope::Machine),
        };
        scope.is_some_and(|scope| by.grant.allows(role, &scope))
    });
    once(hosts)
}

/// A host that several environments serve has one certificate: that of an authority where one of them
/// wants it. Pure.
fn once(hosts: Vec<ServedHost>) -> Vec<ServedHost> {
    let mut all: BTreeMap<String, ServedHost> = BTreeMap::new();
    for served in hosts {
        match all.entry(served.host.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(served)),
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.public |= served.public;
                known.chain = known.chain.take().or(served.chain);
            }
        }
    }
    all.into_values().collect()
}

/// A host by its name; one that somebody may not see is not there for them.
async fn host(
    daemon: &Daemon,
    by: &Principal,
    role: Role,
    host: &str,
) -> Result<ServedHost, ApiError> {
    let wanted = host.to_ascii_lowercase();
    let mut hosts = visible(daemon, by, role).await.into_iter();
    hosts.find(|served| served.host == wanted).ok_or_else(|| {
        ApiError::new(ErrorCode::NotFound, format!("nothing is served at {host}"))
            .with_hint("`havre cert ls` lists the hosts")
    })
}

/// Of a host that is served. Pure.
fn status(served: &ServedHost, view: Option<&View>) -> CertificateStatus {
    let view = view.filter(|_| served.public);
    let held = view.and_then(|view| view.certificate.as_ref());
    let ours = view.is_some_and(|view| view.condition == Condition::Serves);
    let blank = CertificateStatus {
        host: served.host.clone(),
        state: CertificateState::Serving,
        source: CertificateSource::Local,
        issuer: None,
        serial: None,
        valid_from: None,
        valid_until: None,
        renewal: None,
        next_attempt: None,
        failures: 0,
        last_failure: None,
        waits: Vec::new(),
    };
    let mut status = match (view, held) {
        (Some(view), Some(_)) if ours || view.condition == Condition::Expired => of_view(view),
        (view, _) => {
            let facts = served
                .chain
                .as_deref()
                .and_then(|it| havre_acme::facts(it).ok());
            let is_local = facts
                .as_ref()
                .is_none_or(|it| it.issuer.contains(crate::tls::CA_NAME));
            CertificateStatus {
                source: match is_local {
                    true => CertificateSource::Local,
                    false => CertificateSource::Files,
                },
                issuer: facts.as_ref().map(|facts| facts.issuer.clone()),
                serial: facts.as_ref().map(|facts| facts.id.clone()),
                valid_from: facts.as_ref().map(|facts| time(facts.from)),
                valid_until: facts.as_ref().map(|facts| time(facts.until)),
                ..view.map_or(blank, of_view)
            }
        }
    };
    if served.public && view.is_none() {
        status.state = CertificateState::Waiting;
    }
    status
}

/// Of a name on record that is no host any more. Pure.
fn unused(view: &View) -> CertificateStatus {
    CertificateStatus {
        state: CertificateState::Unused,
        ..of_view(view)
    }
}

fn of_view(view: &View) -> CertificateStatus {
    let held = view.certificate.as_ref();
    let ari = held.and_then(|held| held.ari.as_ref());
    let renewal = view.due.map(|due| Renewal {
        at: time(due.at.max(Moment::from(SystemTime::UNIX_EPOCH))),
        by: match due.by {
            plan::By::Absence => RenewalBy::Absence,
            plan::By::Authority => RenewalBy::Ari,
            plan::By::Lifetime => RenewalBy::Lifetime,
            plan::By::Person => RenewalBy::Person,
            plan::By::Settings => RenewalBy::Settings,
        },
        window: ari.map(|ari| (time(ari.start), time(ari.end))),
        explanation: ari.and_then(|ari| ari.explanation.clone()),
    });
    CertificateStatus {
        host: view.name.to_string(),
        state: match view.condition {
            Condition::Serves => CertificateState::Serving,
            Condition::Expired => CertificateState::Expired,
            Condition::Ordering => CertificateState::Ordering,
            Condition::Failing => CertificateState::Failing,
            Condition::Waiting => CertificateState::Waiting,
        },
        source: match held.map(|held| &held.source) {
            Some(record::Source::Authority(name)) => {
                CertificateSource::Authority { name: name.clone() }
            }
            Some(record::Source::Imported) => CertificateSource::Imported,
            None => CertificateSource::Local,
        },
        issuer: held.and_then(|held| held.issuer.clone()),
        serial: held.map(|held| held.id.clone()),
        valid_from: held.map(|held| time(held.from)),
        valid_until: held.map(|held| time(held.until)),
        renewal: renewal.filter(|renewal| renewal.by != RenewalBy::Absence),
        next_attempt: view.next_attempt.map(time),
        failures: view.failures,
        last_failure: view.last.as_ref().map(failure),
        waits: view
            .waits
            .iter()
            .map(|(authority, until)| AuthorityWait {
                authority: authority.clone(),
                until: time(*until),
            })
            .collect(),
    }
}

fn failure(failure: &record::Failure) -> OrderFailure {
    let problem = &failure.problem;
    OrderFailure {
        at: time(failure.at),
        authority: failure.authority.clone(),
        stage: failure.stage.word().to_owned(),
        method: failure.method.map(|method| method.as_str().to_owned()),
        kind: problem.kind.clone(),
        detail: problem.detail.clone(),
        links: problem.links(),
        paused: problem.is_pause(),
        limited: problem.is_limit(),
    }
}

fn time(at: Moment) -> Timestamp {
    SystemTime::from(at).into()
}

/// Hosts of an environment that wait for an authority, each in a sentence.
pub(crate) async fn problems(daemon: &Daemon, key: &str) -> Vec<String> {
    let hosts = daemon.platform.hub.served_hosts().await;
    let own = hosts
        .iter()
        .filter(|served| served.public && served.environment.as_deref() == Some(key));
    let now = Moment::now();
    let problem = |served: &ServedHost| {
        let name = Name::parse(&served.host)?;
        let view = daemon.platform.authorities.view(&name, now);
        problem_of(&served.host, view.as_ref())
    };
    own.filter_map(problem).collect()
}

/// What a person should know of a host's certificate. Pure.
fn problem_of(host: &str, view: Option<&View>) -> Option<String> {
    let stand_in = format!("{host} is served with this machine's own certificate");
    let hint = format!("`havre cert why {host}` tells more");
    let condition = view.map_or(Condition::Waiting, |view| view.condition);
    let last = view.and_then(|view| view.last.as_ref());
    match (condition, last) {
        (Condition::Serves, None) => None,
        (Condition::Serves, Some(last)) => Some(format!(
            "the certificate of {host} could not be replaced and serves on: {}; {hint}",
            last.problem
        )),
        (Condition::Expired, Some(last)) => Some(format!(
            "the certificate of {host} has expired: {}; {hint}",
            last.problem
        )),
        (Condition::Expired, None) => {
            Some(format!("the certificate of {host} has expired; {hint}"))
        }
        (Condition::Failing | Condition::Ordering | Condition::Waiting, Some(last)) => {
            Some(format!(
                "{stand_in}: {} issued none: {}; {hint}",
                last.authority, last.problem
            ))
        }
        (Condition::Failing | Condition::Ordering | Condition::Waiting, None) => {
            Some(format!("{stand_in} until an authority has issued one"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(environment: &str, host: &str, public: bool) -> ServedHost {
        ServedHost {
            environment: Some(environment.to_owned()),
            host: host.to_owned(),
            public,
            chain: public.then(|| "chain".to_owned()),
        }
    }

    #[test]
    fn a_host_of_two_environments_is_one_with_an_authoritys_certificate() {
        let (plain, wanted) = (served("a", "x.dev", false), served("b", "x.dev", true));
        for pair in [[&plain, &wanted], [&wanted, &plain]] {
            let all = once(
                [pair[0], pair[1], &served("a", "y.dev", false)]
                    .map(Clone::clone)
                    .to_vec(),
            );
            let hosts: Vec<(&str, bool)> =
                all.iter().map(|it| (it.host.as_str(), it.public)).collect();
            assert_eq!(hosts, [("x.dev", true), ("y.dev", false)]);
            assert_eq!(all[0].chain.as_deref(), Some("chain"));
        }
    }
}
