//! One order from its begin to a certificate, for one name.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::certificate::{self, Facts};
use crate::hook::{self, Action};
use crate::http::Conversation;
use crate::method::{self, Method};
use crate::moment::Moment;
use crate::name::Name;
use crate::problem::{Problem, Stage};
use crate::proof::{self, Proof, Proofs};

/// How often and how long the authority is asked what it has decided.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// The DNS hook's time, that of the authority, and some.
const VALIDATION: Duration = Duration::from_secs(480);

/// What is ordered.
pub(crate) struct Job<'a> {
    pub(crate) name: &'a Name,
    /// Id of the certificate that it is to replace.
    pub(crate) replaces: Option<&'a str>,
    pub(crate) profile: Option<&'a str>,
    /// Checks of it that failed in a row.
    pub(crate) failures: u32,
    pub(crate) hook: Option<&'a Path>,
    pub(crate) proofs: &'a dyn Proofs,
}

/// A certificate that can serve.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) facts: Facts,
}

/// How far an order came.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) stage: Stage,
    pub(crate) method: Option<Method>,
    pub(crate) problem: Problem,
}

/// What has to be taken back.
enum Shown {
    Edge(Proof),
    Record {
        name: String,
        value: String,
    },
    /// A person has set it for good.
    Lasting {
        hint: String,
    },
}

/// Orders a certificate.
pub(crate) async fn place(
    talk: &Conversation,
    account: &Account,
    job: &Job<'_>,
) -> Result<Issued, Broken> {
    let mut order = begin(talk, account, job)
        .await
        .map_err(at(Stage::Order, None))?;
    validate(talk, account, &mut order, job).await?;
    issue(talk, &mut order, job)
        .await
        .map_err(at(Stage::Issue, None))
}

fn at(stage: Stage, method: Option<Method>) -> impl FnOnce(Problem) -> Broken {
    move |problem| Broken {
        stage,
        method,
        problem,
    }
}

/// Places the order; where the authority does not want to know what it replaces, without saying so.
async fn begin(talk: &Conversation, account: &Account, job: &Job<'_>) -> Result<Order, Problem> {
    let identifier = match job.name.address() {
        Some(address) => Identifier::Ip(address),
        None => Identifier::Dns(job.name.as_str().to_owned()),
    };
    let identifiers = [identifier];
    let wanted = || {
        let order = NewOrder::new(&identifiers);
        match job.profile {
            Some(profile) => order.profile(profile),
            None => order,
        }
    };
    if let Some((authority, serial)) = job.replaces.and_then(|id| id.split_once('.')) {
        let replaced = CertificateIdentifier {
            authority_key_identifier: Cow::Borrowed(authority),
            serial: Cow::Borrowed(serial),
        };
        match account.new_order(&wanted().replaces(replaced)).await {
            Ok(order) => return Ok(order),
            Err(error) => {
                let problem = talk.problem(error);
                if !is_about_replacement(&problem) {
                    return Err(problem);
                }
                tracing::info!(name = %job.name, %problem, "the order is placed as one for a new certificate");
            }
        }
    }
    let placed = account.new_order(&wanted()).await;
    placed.map_err(|error| talk.problem(error))
}

/// 409 `alreadyReplaced`, a certificate that the authority does not know (any more), or an answer that
/// does not speak of it.
fn is_about_replacement(problem: &Problem) -> bool {
    let kinds = ["alreadyReplaced", "malformed", "notFound", "unauthorized"];
    problem.status == Some(409)
        || problem.status == Some(404)
        || kinds.iter().any(|kind| problem.is(kind))
        || problem.kind.is_none() && problem.detail.contains("replaces")
}

/// Proves that the name is ours.
async fn validate(
    talk: &Conversation,
    account: &Account,
    order: &mut Order,
    job: &Job<'_>,
) -> Result<(), Broken> {
    // One name, one authorization; none to do where the authority remembers it.
    let mut used = None;
    let mut shown = Vec::new();
    let proven = async {
        prove(talk, account, order, job, &mut used, &mut shown).await?;
        let ready = wait_until_ready(talk, order).await;
        ready.map_err(at(Stage::Validation, None))
    };
    // Ends here at the latest: what is shown is taken back whatever happens.
    let decided = match tokio::time::timeout(VALIDATION, proven).await {
        Ok(decided) => decided,
        Err(_) => {
            let minutes = VALIDATION.as_secs() / 60;
            let problem = Problem::own(format!("the proof took longer than {minutes} minutes"));
            Err(at(Stage::Validation, None)(problem))
        }
    };
    let decided = decided.map_err(|mut broken| {
        if broken.stage == Stage::Validation {
            broken.method = used;
            let hint = shown.iter().find_map(|shown| match shown {
                Shown::Lasting { hint } => Some(hint),
                Shown::Edge(_) | Shown::Record { .. } => None,
            });
            if let Some(hint) = hint {
                broken.problem = broken.problem.with(hint);
            }
        }
        broken
    });
    for shown in shown {
        take_back(job, shown).await;
    }
    decided
}

async fn prove(
    talk: &Conversation,
    account: &Account,
    order: &mut Order,
    job: &Job<'_>,
    used: &mut Option<Method>,
    shown: &mut Vec<Shown>,
) -> Result<(), Broken> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization
            .map_err(|error| talk.problem(error))
            .map_err(at(Stage::Order, None))?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => {
                let problem =
                    Problem::own(format!("the authorization is {other:?} from the start"));
                return Err(at(Stage::Order, None)(problem));
            }
        }
        let kinds = authorization
            .challenges
            .iter()
            .map(|it| kind_of(&it.r#type));
        let kinds: Vec<String> = kinds.map(ToOwned::to_owned).collect();
        let offered: Vec<Method> = kinds
            .iter()
            .filter_map(|kind| Method::parse(kind))
            .collect();
        let has_hook = job.hook.is_some();
        let Some(method) = method::choose(job.name, &offered, has_hook, job.failures) else {
            return Err(at(Stage::Proof, None)(no_way(job.name, &kinds)));
        };
        *used = Some(method);
        let failed = |problem| at(Stage::Proof, Some(method))(problem);
        let kind = challenge_type(method);
        let mut challenge = authorization
            .challenge(kind)
            .ok_or_else(|| failed(no_way(job.name, &kinds)))?;
        let key = challenge.key_authorization();
        let proof = match method {
            Method::Http => Shown::Edge(Proof::Http {
                token: challenge.token.clone(),
                answer: key.as_str().to_owned(),
            }),
            Method::TlsAlpn => {
                let proof = proof::tls(job.name, key.digest().as_ref());
                Shown::Edge(proof.map_err(|error| failed(Problem::own(error.to_string())))?)
            }
            Method::Dns => Shown::Record {
                name: format!("_acme-challenge.{}", job.name.base()),
                value: key.dns_value(),
            },
            Method::DnsPersist => Shown::Lasting {
                hint: lasting(job.name, &talk.issuers(), account.id()),
            },
        };
        // Before it is: also one that is half there has to go.
        shown.push(proof);
        if let Some(proof) = shown.last() {
            let made = show(job, proof).await;
            made.map_err(|why| failed(Problem::own(why)))?;
        }
        let told = challenge.set_ready().await;
        told.map_err(|error| at(Stage::Validation, Some(method))(talk.problem(error)))?;
    }
    Ok(())
}

async fn show(job: &Job<'_>, proof: &Shown) -> Result<(), String> {
    match proof {
        Shown::Edge(proof) => job.proofs.show(proof).await,
        Shown::Record { name, value } => match job.hook {
            Some(hook) => hook::run(hook, Action::Set, name, value)
                .await
                .map_err(|error| error.to_string()),
            None => Err("no DNS hook is configured".to_owned()),
        },
        Shown::Lasting { .. } => Ok(()),
    }
}

async fn take_back(job: &Job<'_>, shown: Shown) {
    match shown {
        Shown::Edge(proof) => job.proofs.withdraw(&proof).await,
        Shown::Record { name, value } => {
            if let Some(hook) = job.hook
                && let Err(error) = hook::run(hook, Action::Remove, &name, &value).await
            {
                tracing::warn!(record = name, %error, "a record of DNS stays");
            }
        }
        Shown::Lasting { .. } => {}
    }
}

/// Waits for the authority's decision; says what it found where it decided against us.
async fn wait_until_ready(talk: &Conversation, order: &mut Order) -> Result<(), Problem> {
    let decided = order.poll_ready(&PATIENCE).await;
    let refused = match decided {
        Ok(OrderStatus::Ready) => return Ok(()),
        Ok(status) => Problem::own(format!("the order is {status:?}")),
        Err(error) => talk.problem(error),
    };
    Err(finding(order).await.unwrap_or(refused))
}

/// What the authority says of the check that failed.
async fn finding(order: &mut Order) -> Option<Problem> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let mut errors = state.challenges.iter().filter_map(|it| it.error.as_ref());
        if let Some(error) = errors.next_back() {
            let detail = error.detail.clone().unwrap_or_default();
            return Some(Problem::of_authority(
                error.r#type.clone(),
                detail,
                error.status,
            ));
        }
    }
    None
}

async fn issue(talk: &Conversation, order: &mut Order, job: &Job<'_>) -> Result<Issued, Problem> {
    let broken = |error: rcgen::Error| Problem::own(format!("cannot make the request: {error}"));
    let key = KeyPair::generate().map_err(broken)?;
    let mut params = CertificateParams::new(vec![job.name.as_str().to_owned()]).map_err(broken)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(broken)?;
    let finalized = order.finalize_csr(request.der()).await;
    finalized.map_err(|error| talk.problem(error))?;
    let fetched = order.poll_certificate(&PATIENCE).await;
    let chain = fetched.map_err(|error| talk.problem(error))?;
    let key = key.serialize_pem();
    let facts = certificate::check(&chain, &key, job.name, Moment::now()).map_err(|error| {
        Problem::own(format!(
            "the certificate that was sent cannot be used: {error}"
        ))
    })?;
    Ok(Issued { chain, key, facts })
}

fn no_way(name: &Name, offered: &[String]) -> Problem {
    let offered = offered.join(", ");
    let hint = match name.is_wildcard() {
        true => "; a wildcard is proven by DNS: set acme.dns_hook in the machine's configuration",
        false => "",
    };
    Problem::own(format!(
        "the authority checks {name} by {offered} only, none of which can be answered here{hint}"
    ))
}

/// What a person has to set for a lasting proof.
fn lasting(name: &Name, issuers: &[String], account: &str) -> String {
    let issuer = issuers.first().map_or("<issuer>", String::as_str);
    let (record, value) = method::persist_record(name, issuer, account);
    format!("set this record of DNS once and for all: {record} TXT \"{value}\"")
}

fn kind_of(kind: &ChallengeType) -> &str {
    match kind {
        ChallengeType::Http01 => Method::Http.as_str(),
        ChallengeType::Dns01 => Method::Dns.as_str(),
        ChallengeType::TlsAlpn01 => Method::TlsAlpn.as_str(),
        ChallengeType::Unknown(kind) => kind,
        _ => "one for devices",
    }
}

fn challenge_type(method: Method) -> ChallengeType {
    match method {
        Method::Http => ChallengeType::Http01,
        Method::TlsAlpn => ChallengeType::TlsAlpn01,
        Method::Dns => ChallengeType::Dns01,
        Method::DnsPersist => ChallengeType::Unknown(Method::DnsPersist.as_str().to_owned()),
    }
}
