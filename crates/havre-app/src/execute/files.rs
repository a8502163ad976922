//! Files that a container gets: secrets, configs, and what tells it of its network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use havre_base::{Durability, replace};
use havre_engine::{FileSpec, SecretSpec};
use havre_model::Service;
use havre_release::{ReplicaId, ServiceRelease};
use havre_secrets::Scope;

use crate::action::ActionError;
use crate::attach;
use crate::contents::Contents as Kept;
use crate::files::content_name;
use crate::host::Host;
use crate::labels::ContainerLabels;
use crate::variables::{variable_key, variable_value};
use zeroize::Zeroizing;

/// Names that stand in a container's own files.
pub(super) struct HostNames {
    /// The container's.
    pub own: String,
    /// The machine's address as the container reaches it, if it does.
    pub host: Option<Ipv4Addr>,
}

/// Secrets and configs: where they go, and what they hold, which is in clear in no file.
pub(super) fn secrets(
    kept: &Kept,
    of: &Scope,
    config: &ServiceRelease,
) -> Result<(Vec<SecretSpec>, Contents), ActionError> {
    let service = &config.service;
    let mut secrets = Vec::new();
    let mut contents = Contents::new();
    for (kind, grants) in [("secret", &service.secrets), ("config", &service.configs)] {
        for grant in grants {
            let Some(digest) = config.files.get(&grant.target) else {
                continue;
            };
            let name = content_name(kind, &grant.source);
            if !contents.contains_key(&name) {
                let content = kept
                    .open(of, digest)
                    .map_err(|source| ActionError::Contents {
                        target: grant.target.clone(),
                        source,
                    })?;
                contents.insert(name.clone(), content);
            }
            secrets.push(SecretSpec {
                name,
                target: grant.target.clone(),
                user: grant.uid.to_string(),
                group: grant.gid.to_string(),
                mode: grant.mode,
            });
        }
    }
    Ok((secrets, contents))
}

/// Variables of a service that hold secrets.
pub(super) fn variables(
    kept: &Kept,
    of: &Scope,
    config: &ServiceRelease,
) -> Result<BTreeMap<String, Zeroizing<String>>, ActionError> {
    let mut variables = BTreeMap::new();
    for name in config.service.secret_environment.keys() {
        let Some(digest) = config.files.get(&variable_key(name)) else {
            continue;
        };
        let content = kept
            .open(of, digest)
            .map_err(|source| ActionError::Contents {
                target: name.clone(),
                source,
            })?;
        let value = variable_value(name, &content).map_err(|source| ActionError::Variable {
            variable: name.clone(),
            source,
        })?;
        variables.insert(name.clone(), Zeroizing::new(value.to_owned()));
    }
    Ok(variables)
}

/// By name.
type Contents = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// What tells a container of its network.
pub(super) fn files(
    host: &Host,
    key: &str,
    scratch: &Path,
    place: &ContainerLabels,
    config: &ServiceRelease,
    names: &HostNames,
) -> Result<Vec<FileSpec>, ActionError> {
    let service = &config.service;
    let mut files = Vec::new();
    let extra = extra_hosts(&service.extra_hosts, names.host);
    let (resolv, hosts) = match service.shares.network {
        true => attach::files_of_the_machine(&names.own, &extra)?,
        false => {
            let hosts = havre_net::hosts_file(&names.own, &place.addresses, &extra);
            (resolv_conf(host, key, place, service)?, hosts)
        }
    };
    for (target, name, content) in [
        ("/etc/resolv.conf", "resolv.conf", resolv),
        ("/etc/hosts", "hosts", hosts),
        ("/etc/hostname", "hostname", format!("{}\n", names.own)),
    ] {
        let path = scratch.join(name);
        replace(&path, content.as_bytes(), 0o644, Durability::UntilReboot).map_err(|source| {
            ActionError::Files {
                attempt: "write",
                path: path.clone(),
                source,
            }
        })?;
        files.push(FileSpec {
            target: target.to_owned(),
            source: path,
            uid: 0,
            gid: 0,
            mode: 0o644,
        });
    }
    Ok(files)
}

fn resolv_conf(
    host: &Host,
    key: &str,
    place: &ContainerLabels,
    service: &Service,
) -> Result<String, ActionError> {
    let networks: Vec<&str> = place.addresses.keys().map(String::as_str).collect();
    let resolver = &service.resolver;
    host.net
        .resolv_conf(key, &networks, &resolver.search, &resolver.options)
        .map_err(|source| ActionError::Network {
            id: ReplicaId(key.to_owned()),
            source,
        })
}

/// `extra_hosts` with its one word that is no address; without a network that stands for nothing.
pub(crate) fn extra_hosts(
    wanted: &BTreeMap<String, Vec<String>>,
    host: Option<Ipv4Addr>,
) -> Vec<(String, IpAddr)> {
    let mut hosts = Vec::new();
    for (name, addresses) in wanted {
        for address in addresses {
            let address = match address.as_str() {
                "host-gateway" => host.map(IpAddr::from),
                // The reader has refused what is no address.
                other => other.parse().ok(),
            };
            hosts.extend(address.map(|address| (name.clone(), address)));
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use havre_api::EnvironmentId;
    use havre_model::{Account, EnvironmentName, FileGrant, FileSource, ServiceName};
    use havre_release::Release;

    use super::*;
    use crate::contents::ContentsError;
    use crate::fake::Stage;
    use crate::files::keep_files;
    use crate::masks::unmasked;
    use crate::secrets::needed::Values;
    use crate::secrets::scope::scope_of;

    #[test]
    fn a_release_that_names_another_environments_content_gets_none_of_it() {
        let stage = Stage::new();
        let mut project = stage.project("name: shop\nservices: {web: {image: 'web:1'}}");
        let content = "a-secret-content".to_owned();
        let source = FileSource::Content { content };
        project.secrets.insert("key".to_owned(), source);
        let service = project.services.values_mut().next().unwrap();
        let of_key = ("KEY".to_owned(), "key".to_owned());
        service.secret_environment.extend([of_key]);
        service.secrets = vec![FileGrant {
            source: "key".to_owned(),
            target: "/run/secrets/key".to_owned(),
            uid: Account::Number(0),
            gid: Account::Number(0),
            mode: 0o444,
        }];
        let platform = &stage.daemon.platform;
        let files = keep_files(platform, &project, &Values::new()).unwrap();
        let images = BTreeMap::from([(ServiceName::new("web"), "sha256:0".to_owned())]);
        let release = Release::new(&project, &images, &files);
        let (web, kept) = (
            &release.services[&ServiceName::new("web")],
            &platform.contents,
        );
        let own = stage.id();
        let other = EnvironmentId {
            environment: EnvironmentName::new("staging"),
            ..own.clone()
        };
        let given = |id: &EnvironmentId| {
            let scope = scope_of(Some(id));
            let (_, contents) = secrets(kept, &scope, web)?;
            let variables = variables(kept, &scope, web)?;
            let files = contents.into_values().map(|content| content.to_vec());
            let variables = variables.into_values();
            let variables = variables.map(|value| value.as_bytes().to_vec());
            Ok::<BTreeSet<_>, ActionError>(files.chain(variables).collect())
        };
        let all = given(&own).unwrap();
        assert_eq!(all, BTreeSet::from([b"a-secret-content".to_vec()]));
        assert!(unmasked(kept, &own, &release).unwrap().is_empty());
        let is_foreign = |error: &ActionError| match error {
            ActionError::Contents { source, .. } => matches!(source, ContentsError::Foreign { .. }),
            _ => false,
        };
        let scope = scope_of(Some(&other));
        assert!(secrets(kept, &scope, web).is_err_and(|error| is_foreign(&error)));
        assert!(variables(kept, &scope, web).is_err_and(|error| is_foreign(&error)));
        // It is not said either what the content is like.
        assert!(unmasked(kept, &other, &release).is_err());
    }
}
