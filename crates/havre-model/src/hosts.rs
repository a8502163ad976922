//! The host names that an environment answers at.

use crate::project::{EnvironmentName, ProjectName};
use crate::settings::{PRODUCTION, Settings};

/// The domains of a project in one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// As havre.yaml or a label says them, or `<project>.localhost`.
    declared: Vec<String>,
    /// Whether a person said them.
    written: bool,
    /// Put before each: an environment without a domain of its own.
    prefix: Option<String>,
}

impl Hosts {
    pub fn new(name: &ProjectName, environment: &EnvironmentName, settings: &Settings) -> Self {
        let written = settings.domains.as_ref();
        let own = written.is_some() && !settings.domains_inherited;
        Self {
            declared: match written {
                Some(domains) => domains.iter().map(|(domain, _)| domain.clone()).collect(),
                // An underscore is legal in a project's name and not in a host's.
                None => vec![format!("{}.localhost", name.as_str().replace('_', "-"))],
            },
            written: written.is_some(),
            prefix: match (&settings.preview, own) {
                (Some(branch), true) => Some(branch.clone()),
                (None, true) => None,
                (_, false) => (environment.as_str() != PRODUCTION).then(|| environment.to_string()),
            },
        }
    }

    /// Every domain of the environment.
    pub fn all(&self) -> Vec<String> {
        let hosts = self.declared.iter();
        hosts.map(|host| self.here(host)).collect()
    }

    /// The host of this environment that a route's `host` means: a domain, or a name below one.
    pub fn of_route(&self, written: &str) -> Option<String> {
        let here = self.all();
        if here.iter().any(|domain| is_below(written, domain)) {
            return Some(written.to_owned());
        }
        let declared = self.declared.iter();
        let known = declared.into_iter().any(|domain| is_below(written, domain));
        known.then(|| self.here(written))
    }

    /// The name below the first domain that a service could have.
    pub fn of_service(&self, service: &str) -> String {
        let label = service.to_ascii_lowercase().replace(['_', '.'], "-");
        let domain = self.declared.first().map_or("localhost", String::as_str);
        format!("{}.{domain}", label.trim_matches('-'))
    }

    /// Takes other domains where nobody has written any.
    pub fn declare(&mut self, domains: Vec<String>) {
        if !self.written && !domains.is_empty() {
            self.declared = domains;
        }
    }

    fn here(&self, host: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}.{host}"),
            None => host.to_owned(),
        }
    }
}

/// The domain itself, or a name below it.
fn is_below(host: &str, domain: &str) -> bool {
    let rest = host.strip_suffix(domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.') && rest.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(prefix: Option<&str>) -> Hosts {
        Hosts {
            declared: vec!["shop.example".to_owned()],
            written: true,
            prefix: prefix.map(str::to_owned),
        }
    }

    #[test]
    fn a_route_is_for_a_domain_or_a_name_below_it() {
        let (production, staging) = (hosts(None), hosts(Some("staging")));
        for (written, here, there) in [
            (
                "shop.example",
                Some("shop.example"),
                Some("staging.shop.example"),
            ),
            (
                "a.shop.example",
                Some("a.shop.example"),
                Some("staging.a.shop.example"),
            ),
            (
                "staging.shop.example",
                Some("staging.shop.example"),
                Some("staging.shop.example"),
            ),
            ("ashop.example", None, None),
            (".shop.example", None, None),
            ("example", None, None),
        ] {
            assert_eq!(production.of_route(written).as_deref(), here, "{written}");
            assert_eq!(staging.of_route(written).as_deref(), there, "{written}");
        }
        assert_eq!(production.of_service("My_app"), "my-app.shop.example");
    }
}
