//! Which rule of machine.yaml a token's claims fit. Pure.
//!
//! Each claim of a rule is compared by itself and as a whole with the claim of that name; a `*` at the end of
//! the rule's value, and nowhere else, stands for any rest. `sub` is a claim like the others: its form differs
//! from issuer to issuer and has changed at GitHub's, so that a rule had better name what it is put together of.

use havre_model::machine::Rule;
use serde_json::{Map, Value};

/// Names that can be given to another repository or owner, and the numbers that cannot.
pub(super) const PINNED: [(&str, &str); 2] = [
    ("repository", "repository_id"),
    ("repository_owner", "repository_owner_id"),
];

/// The first rule that fits.
pub(super) fn find<'r>(rules: &'r [Rule], claims: &Map<String, Value>) -> Option<&'r Rule> {
    rules.iter().find(|rule| {
        let mut wanted = rule.claims.iter();
        // A rule without claims fits nobody.
        !rule.claims.is_empty()
            && wanted.all(|(name, value)| claims.get(name).is_some_and(|claim| fits(value, claim)))
    })
}

/// Of a list one entry has to fit (`groups`).
fn fits(wanted: &str, claim: &Value) -> bool {
    match claim {
        Value::String(text) => is(wanted, text),
        Value::Number(number) => is(wanted, &number.to_string()),
        Value::Bool(said) => is(wanted, &said.to_string()),
        Value::Array(all) => all
            .iter()
            .any(|one| one.as_str().is_some_and(|one| is(wanted, one))),
        Value::Null | Value::Object(_) => false,
    }
}

fn is(wanted: &str, text: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => text == wanted,
    }
}

/// Names with their numbers that have to stay together from the first login on. Those whose number the rule
/// names itself need no memory.
pub(super) fn pins<'c>(
    rule: &Rule,
    claims: &'c Map<String, Value>,
) -> Vec<(&'static str, &'c str, String)> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let number = |name: &str| match claims.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let all = PINNED
        .iter()
        .filter(|(_, id)| !rule.claims.contains_key(*id));
    let all = all.filter_map(|(name, id)| Some((*name, text(name)?, number(id)?)));
    all.collect()
}

#[cfg(test)]
mod tests {
    use havre_model::grant::Role;

    use super::*;

    fn rule(claims: &[(&str, &str)], role: Role) -> Rule {
        let claims = claims.iter();
        Rule {
            claims: claims
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            role,
            environments: Vec::new(),
        }
    }

    fn claims(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect("an object")
    }

    #[test]
    fn each_claim_is_compared_as_a_whole() {
        let github = claims(
            r#"{"repository": "acme/shop", "repository_id": "7", "ref": "refs/heads/main",
                "environment": "production", "run_number": 12, "groups": ["dev", "ops"]}"#,
        );
        for (wanted, expected) in [
            (&[("repository", "acme/shop")][..], true),
            (&[("repository", "acme/sho")], false),
            (&[("repository", "acme/shop2")], false),
            (
                &[("repository", "acme/shop"), ("ref", "refs/heads/dev")],
                false,
            ),
            (
                &[("repository", "acme/shop"), ("ref", "refs/heads/*")],
                true,
            ),
            (&[("ref", "refs/tags/*")], false),
            // No star but at the end.
            (&[("ref", "*/main")], false),
            (&[("run_number", "12")], true),
            (&[("groups", "ops")], true),
            (&[("groups", "op")], false),
            (&[("actor", "*")], false),
            (&[], false),
        ] {
            let rules = [rule(wanted, Role::Viewer)];
            assert_eq!(find(&rules, &github).is_some(), expected, "{wanted:?}");
        }
    }

    #[test]
    fn the_first_rule_counts_and_numbers_it_names_need_no_memory() {
        let github = claims(
            r#"{"repository": "acme/shop", "repository_id": "7", "repository_owner": "acme",
                "repository_owner_id": 3}"#,
        );
        let rules = [
            rule(&[("repository_id", "8")], Role::Admin),
            rule(&[("repository_id", "7")], Role::Deployer),
            rule(&[("repository", "acme/shop")], Role::Viewer),
        ];
        let found = find(&rules, &github).expect("one fits");
        assert_eq!(found.role, Role::Deployer);
        let owner = ("repository_owner", "acme", "3".to_owned());
        assert_eq!(pins(found, &github), std::slice::from_ref(&owner));
        let repository = ("repository", "acme/shop", "7".to_owned());
        assert_eq!(pins(&rules[2], &github), [repository, owner]);
    }
}
