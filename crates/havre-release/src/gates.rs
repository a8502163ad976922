//! What has to hold before something new comes into an environment, and whether it does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use havre_model::{ApprovalRule, Approver, EnvironmentGates, EnvironmentName};
use serde::{Deserialize, Serialize};

use crate::{Approval, Frozen, Release, TestReport, is_workflow};

/// Something that has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// What.
    pub name: GateName,
    /// Whether it does.
    pub state: GateState,
}

/// What has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateName {
    /// It comes of a branch that deploys there.
    Branch,
    /// The same has served elsewhere.
    Needs,
    /// A test has passed.
    E2e,
    /// People have agreed.
    Approval,
    /// Some time has passed.
    Wait,
    /// It is not a time in which nothing comes in.
    Freeze,
}

impl GateName {
    /// Its key in havre.yaml.
    pub fn word(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Needs => "needs",
            Self::E2e => "e2e",
            Self::Approval => "approval",
            Self::Wait => "wait",
            Self::Freeze => "freeze",
        }
    }
}

/// Whether something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateState {
    /// It does.
    Open,
    /// Not yet.
    Waits {
        /// For what; without a time.
        why: String,
        /// When it will at the earliest, where a clock decides.
        until: Option<SystemTime>,
    },
    /// It does not, and will not by waiting.
    Refused {
        /// Why not.
        why: String,
    },
}

/// All that gates are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The time now.
    pub now: SystemTime,
    /// When it was asked for.
    pub requested_at: SystemTime,
    /// The name of what was pushed, where it is known: `refs/heads/main`.
    pub reference: Option<&'a str>,
    /// Who asked for it, and who pushed it: each person by all their names.
    pub authors: &'a BTreeSet<String>,
    /// Who agreed.
    pub approvals: &'a [Approval],
    /// Where the same has served, and as which release, the newest.
    pub served: &'a BTreeMap<EnvironmentName, u64>,
    /// What tests said of it, in the order in which they did.
    pub tests: &'a [TestReport],
    /// That nothing comes in now.
    pub frozen: Option<&'a Frozen>,
}

/// What has to hold by `definition`, and whether it does. Nothing that it does not ask for is among it, but a freeze
/// by hand.
pub fn gates(definition: &EnvironmentGates, facts: &Facts<'_>) -> Vec<Gate> {
    let mut gates = Vec::new();
    let mut add = |name, state| gates.push(Gate { name, state });
    if !definition.branches.is_empty() {
        add(GateName::Branch, branch(&definition.branches, facts));
    }
    for needed in &definition.needs {
        add(GateName::Needs, served(needed, facts));
    }
    if let Some(test) = &definition.e2e {
        add(GateName::E2e, tested(test, facts));
    }
    if let Some(rule) = &definition.approval {
        add(GateName::Approval, approved(rule, facts));
    }
    if let Some(wait) = definition.wait {
        let until = facts.requested_at.checked_add(wait);
        let state = match until {
            Some(until) if until <= facts.now => GateState::Open,
            until => GateState::Waits {
                why: "its time".to_owned(),
                until,
            },
        };
        add(GateName::Wait, state);
    }
    if let Some(Frozen { why, until }) = facts.frozen {
        let state = GateState::Waits {
            why: why.clone(),
            until: *until,
        };
        add(GateName::Freeze, state);
    }
    gates
}

/// What all gates come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It may come in.
    Open,
    /// Not yet; to be asked again then, where a clock decides, and when something happens.
    Waits {
        /// The next time at which a gate may open by itself.
        until: Option<SystemTime>,
    },
    /// It may not.
    Refused {
        /// Why, of each gate that says so.
        why: String,
    },
}

/// What all of them come to.
pub fn entry(gates: &[Gate]) -> Entry {
    let mut refused = Vec::new();
    let (mut waits, mut next) = (false, None::<SystemTime>);
    for gate in gates {
        match &gate.state {
            GateState::Open => {}
            GateState::Refused { why } => refused.push(why.as_str()),
            GateState::Waits { until, .. } => {
                waits = true;
                next = match (next, *until) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
        }
    }
    match (refused.is_empty(), waits) {
        (false, _) => Entry::Refused {
            why: refused.join("; "),
        },
        (true, true) => Entry::Waits { until: next },
        (true, false) => Entry::Open,
    }
}

/// What is not known is not held against it: the pipeline always knows.
fn branch(branches: &[String], facts: &Facts<'_>) -> GateState {
    match facts.reference {
        Some(reference) if !deploys(branches, reference) => GateState::Refused {
            why: format!(
                "{reference} does not deploy there, only {}",
                branches.join(", ")
            ),
        },
        Some(_) | None => GateState::Open,
    }
}

/// Whether what was pushed under this name is of one of these branches.
pub fn deploys(branches: &[String], reference: &str) -> bool {
    let branch = reference.strip_prefix("refs/heads/");
    branch.is_some_and(|branch| {
        let mut patterns = branches.iter();
        patterns.any(|pattern| fits(pattern.as_bytes(), branch.as_bytes()))
    })
}

/// `*` stands for any but a `/`, `**` for anything. In time of the product of both lengths.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    // Which beginnings of the text the pattern so far fits.
    let mut fitting = vec![false; text.len() + 1];
    fitting[0] = true;
    let mut rest = pattern;
    while let Some((first, more)) = rest.split_first() {
        let mut next = vec![false; text.len() + 1];
        let (any, more) = match (first, more.split_first()) {
            (b'*', Some((b'*', more))) => (Some(true), more),
            (b'*', _) => (Some(false), more),
            _ => (None, more),
        };
        match any {
            None => {
                for (index, byte) in text.iter().enumerate() {
                    next[index + 1] = fitting[index] && byte == first;
                }
            }
            Some(all) => {
                for index in 0..=text.len() {
                    let grows = index > 0 && next[index - 1] && (all || text[index - 1] != b'/');
                    next[index] = fitting[index] || grows;
                }
            }
        }
        (fitting, rest) = (next, more);
    }
    fitting[text.len()]
}

fn served(needed: &EnvironmentName, facts: &Facts<'_>) -> GateState {
    match facts.served.contains_key(needed) {
        true => GateState::Open,
        false => GateState::Refused {
            why: format!("it has not served in {needed}"),
        },
    }
}

/// The last word of a test counts: one that failed may be run again.
fn tested(test: &str, facts: &Facts<'_>) -> GateState {
    // That a workflow passed only its own jobs can say; that it failed, anybody.
    let counts = |one: &&TestReport| one.by_job || !one.passed || !is_workflow(test);
    let mut named = facts.tests.iter().rev().filter(|one| one.name == test);
    let last = named.find(counts);
    match last {
        Some(report) if report.passed => GateState::Open,
        Some(report) => {
            let run = report.run.as_ref().map(|run| format!(" ({run})"));
            let run = run.unwrap_or_default();
            GateState::Refused {
                why: format!("`{test}` failed{run}"),
            }
        }
        None => GateState::Waits {
            why: format!("`{test}` has not reported"),
            until: None,
        },
    }
}

fn approved(rule: &ApprovalRule, facts: &Facts<'_>) -> GateState {
    let counted = facts
        .approvals
        .iter()
        .filter(|one| may_approve(rule, one, facts.authors).is_ok());
    let people: BTreeSet<&str> = counted.map(Approval::person).collect();
    if people.len() >= rule.count as usize {
        return GateState::Open;
    }
    GateState::Waits {
        why: format!(
            "{} of {} {} by {}",
            people.len(),
            rule.count,
            if rule.count == 1 {
                "approval"
            } else {
                "approvals"
            },
            approvers(rule)
        ),
        until: None,
    }
}

/// Who may agree, for people.
pub fn approvers(rule: &ApprovalRule) -> String {
    match rule.by.is_empty() {
        true => "deployers".to_owned(),
        false => {
            let names: Vec<String> = rule.by.iter().map(ToString::to_string).collect();
            names.join(", ")
        }
    }
}

/// Why somebody's agreement does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVoice {
    /// They asked for it or pushed it.
    Author,
    /// They are not among those who may.
    NotAmong,
}

/// Whether an agreement counts by this rule. That its role does for the environment is the caller's to see to.
pub fn may_approve(
    rule: &ApprovalRule,
    approval: &Approval,
    authors: &BTreeSet<String>,
) -> Result<(), NoVoice> {
    let is_author = authors.contains(&approval.by) || authors.contains(approval.person());
    if rule.not_author && is_author {
        return Err(NoVoice::Author);
    }
    let is_among = |one: &Approver| match one {
        Approver::Role(role) => approval.role >= *role,
        Approver::Name(name) => *name == approval.by,
    };
    match rule.by.is_empty() || rule.by.iter().any(is_among) {
        true => Ok(()),
        false => Err(NoVoice::NotAmong),
    }
}

impl Release {
    /// Whether each of its services runs the image that it runs in `other`, its steps' included.
    pub fn has_images_of(&self, other: &Self) -> bool {
        self.services.iter().all(|(name, service)| {
            let there = other.services.get(name);
            there.is_some_and(|there| there.images().eq(service.images()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use havre_model::grant::Role;

    use super::*;

    const ASKED: Duration = Duration::from_secs(1000);

    /// Facts that a case changes.
    #[derive(Default)]
    struct Case {
        reference: Option<&'static str>,
        approvals: Vec<(&'static str, Role)>,
        served: Vec<&'static str>,
        tests: Vec<(&'static str, bool)>,
        by_job: bool,
        frozen: Option<Frozen>,
        later: u64,
    }

    fn judged(definition: &EnvironmentGates, case: &Case) -> Vec<Gate> {
        let approvals = case.approvals.iter().map(|(by, role)| Approval {
            by: (*by).to_owned(),
            person: by.strip_prefix("token ").map(str::to_owned),
            role: *role,
            at: UNIX_EPOCH,
            comment: None,
        });
        let tests = case.tests.iter().map(|(name, passed)| TestReport {
            name: (*name).to_owned(),
            passed: *passed,
            run: Some("run 7".to_owned()),
            by: "havre".to_owned(),
            by_job: case.by_job,
            at: UNIX_EPOCH,
        });
        let served = case
            .served
            .iter()
            .map(|name| (EnvironmentName::new(*name), 7));
        gates(
            definition,
            &Facts {
                now: UNIX_EPOCH + ASKED + Duration::from_secs(case.later),
                requested_at: UNIX_EPOCH + ASKED,
                reference: case.reference,
                authors: &["anna".to_owned()].into(),
                approvals: &approvals.collect::<Vec<_>>(),
                served: &served.collect(),
                tests: &tests.collect::<Vec<_>>(),
                frozen: case.frozen.as_ref(),
            },
        )
    }

    /// As `gate: state`, a line each.
    #[track_caller]
    fn check(definition: &EnvironmentGates, case: &Case, expected: &[&str]) {
        let gates = judged(definition, case);
        let told = gates.iter().map(|gate| {
            let state = match &gate.state {
                GateState::Open => "open".to_owned(),
                GateState::Refused { why } => format!("refused, {why}"),
                GateState::Waits { why, until } => {
                    let until = until.map(|at| at.duration_since(UNIX_EPOCH + ASKED));
                    let until = until.and_then(Result::ok);
                    let until = until.map(|until| format!(", {} s", until.as_secs()));
                    format!("waits, {why}{}", until.unwrap_or_default())
                }
            };
            format!("{}: {state}", gate.name.word())
        });
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    fn open() -> EnvironmentGates {
        EnvironmentGates::open(EnvironmentName::new("production"))
    }

    fn rule(by: &[Approver], count: u32, not_author: bool) -> EnvironmentGates {
        EnvironmentGates {
            approval: Some(ApprovalRule {
                by: by.to_vec(),
                count,
                not_author,
            }),
            ..open()
        }
    }

    #[test]
    fn an_environment_without_gates_is_open() {
        check(&open(), &Case::default(), &[]);
        assert_eq!(entry(&[]), Entry::Open);
    }

    #[test]
    fn each_gate_says_what_it_waits_for() {
        let definition = EnvironmentGates {
            branches: vec!["main".to_owned()],
            needs: vec![EnvironmentName::new("staging"), EnvironmentName::new("eu")],
            e2e: Some("e2e.yml".to_owned()),
            wait: Some(Duration::from_secs(600)),
            ..rule(&[], 2, false)
        };
        let frozen = Frozen {
            why: "holidays".to_owned(),
            until: None,
        };
        let mut case = Case {
            reference: Some("refs/heads/topic"),
            served: vec!["eu"],
            later: 599,
            frozen: Some(frozen),
            ..Case::default()
        };
        check(
            &definition,
            &case,
            &[
                "branch: refused, refs/heads/topic does not deploy there, only main",
                "needs: refused, it has not served in staging",
                "needs: open",
                "e2e: waits, `e2e.yml` has not reported",
                "approval: waits, 0 of 2 approvals by deployers",
                "wait: waits, its time, 600 s",
                "freeze: waits, holidays",
            ],
        );
        case = Case {
            reference: Some("refs/heads/main"),
            served: vec!["eu", "staging"],
            tests: vec![("e2e.yml", true), ("other", false)],
            by_job: true,
            approvals: vec![("ben", Role::Deployer), ("anna", Role::Admin)],
            later: 600,
            ..Case::default()
        };
        let all = ["branch", "needs", "needs", "e2e", "approval", "wait"];
        check(
            &definition,
            &case,
            &all.map(|name| format!("{name}: open"))
                .each_ref()
                .map(String::as_str),
        );
        assert_eq!(entry(&judged(&definition, &case)), Entry::Open);
    }

    #[test]
    fn the_last_word_of_a_test_counts() {
        let definition = EnvironmentGates {
            e2e: Some("e2e".to_owned()),
            ..open()
        };
        for (tests, expected) in [
            (
                vec![("e2e", true), ("e2e", false)],
                "e2e: refused, `e2e` failed (run 7)",
            ),
            (vec![("e2e", false), ("e2e", true)], "e2e: open"),
            (vec![("unit", true)], "e2e: waits, `e2e` has not reported"),
        ] {
            let case = Case {
                tests,
                ..Case::default()
            };
            check(&definition, &case, &[expected]);
        }
    }

    #[test]
    fn that_a_workflow_passed_only_its_jobs_say() {
        let definition = EnvironmentGates {
            e2e: Some("e2e.yml".to_owned()),
            ..open()
        };
        for (by_job, passed, expected) in [
            (true, true, "e2e: open"),
            (false, true, "e2e: waits, `e2e.yml` has not reported"),
            (false, false, "e2e: refused, `e2e.yml` failed (run 7)"),
        ] {
            let case = Case {
                tests: vec![("e2e.yml", passed)],
                by_job,
                ..Case::default()
            };
            check(&definition, &case, &[expected]);
        }
    }

    #[test]
    fn agreement_counts_once_and_only_of_those_who_may() {
        let name = |name: &str| Approver::Name(name.to_owned());
        let admins = Approver::Role(Role::Admin);
        let (ben, carl) = (("ben", Role::Deployer), ("carl", Role::Deployer));
        let anna = ("anna", Role::Deployer);
        let dora = ("dora", Role::Admin);
        let waits = |counted: u32, of: &str| format!("approval: waits, {counted} of {of}");
        for (definition, approvals, expected) in [
            (
                rule(&[], 1, false),
                vec![],
                waits(0, "1 approval by deployers"),
            ),
            (rule(&[], 1, false), vec![anna], "approval: open".to_owned()),
            (
                rule(&[], 1, true),
                vec![anna],
                waits(0, "1 approval by deployers"),
            ),
            (
                rule(&[], 2, true),
                vec![anna, ben],
                waits(1, "2 approvals by deployers"),
            ),
            (
                rule(&[], 2, false),
                vec![ben, ben],
                waits(1, "2 approvals by deployers"),
            ),
            (
                rule(&[], 2, false),
                vec![ben, carl],
                "approval: open".to_owned(),
            ),
            (
                rule(&[name("carl")], 1, false),
                vec![ben, dora],
                waits(0, "1 approval by carl"),
            ),
            (
                rule(&[name("carl"), admins.clone()], 1, false),
                vec![dora],
                "approval: open".to_owned(),
            ),
            (
                rule(&[admins, name("ben")], 2, false),
                vec![ben, carl],
                waits(1, "2 approvals by admins, ben"),
            ),
        ] {
            let case = Case {
                approvals,
                ..Case::default()
            };
            check(&definition, &case, &[&expected]);
        }
    }

    #[test]
    fn branches_are_told_by_patterns() {
        for (pattern, reference, expected) in [
            ("main", "refs/heads/main", true),
            ("main", "refs/heads/maint", false),
            ("main", "refs/tags/main", false),
            ("main", "main", false),
            ("release/*", "refs/heads/release/1", true),
            ("release/*", "refs/heads/release/1/a", false),
            ("release/**", "refs/heads/release/1/a", true),
            ("**", "refs/heads/a/b", true),
            ("*", "refs/heads/a/b", false),
            ("*-ok", "refs/heads/a-ok-ok", true),
            ("a*b*c", "refs/heads/axxbyyb", false),
            ("", "refs/heads/", true),
        ] {
            let found = deploys(&[pattern.to_owned()], reference);
            assert_eq!(found, expected, "{pattern} {reference}");
        }
        // Nothing backtracks.
        let pattern = "*a".repeat(90);
        assert!(!deploys(
            &[pattern],
            &format!("refs/heads/{}b", "a".repeat(200))
        ));
    }

    #[test]
    fn all_gates_together_say_when_to_ask_again() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let gate = |state| Gate {
            name: GateName::Wait,
            state,
        };
        let waits = |until: Option<u64>| {
            gate(GateState::Waits {
                why: "w".to_owned(),
                until: until.map(at),
            })
        };
        let refused = |why: &str| {
            gate(GateState::Refused {
                why: why.to_owned(),
            })
        };
        for (gates, expected) in [
            (
                vec![gate(GateState::Open), waits(None)],
                Entry::Waits { until: None },
            ),
            (
                vec![waits(Some(9)), waits(None), waits(Some(5))],
                Entry::Waits { until: Some(at(5)) },
            ),
            (
                vec![waits(None), refused("a"), refused("b")],
                Entry::Refused {
                    why: "a; b".to_owned(),
                },
            ),
        ] {
            assert_eq!(entry(&gates), expected);
        }
    }
}
