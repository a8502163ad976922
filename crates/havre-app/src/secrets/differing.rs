//! Replicas that have another version of a secret than they are to have. Pure.

use havre_api::SecretDiffers;
use havre_release::{
    Contents, Instance, InstanceState, Release, Role, ServiceRelease, TargetStatus,
};

/// Of all secrets of an environment, or of one by its name.
pub(crate) fn differing(status: &TargetStatus, only: Option<&str>) -> Vec<SecretDiffers> {
    let mut all = Vec::new();
    for one in &status.instances {
        let Role::Replica { digest, .. } = &one.role else {
            continue;
        };
        if !matches!(
            one.state,
            InstanceState::Running { .. } | InstanceState::BackOff
        ) {
            continue;
        }
        let wanted = status
            .desired
            .contents_for(&status.releases, &one.service, digest)
            .map(|(_, release)| release)
            .or_else(|| status.target());
        let Some(wanted) = wanted.filter(|wanted| wanted.services.contains_key(&one.service))
        else {
            continue;
        };
        let has = has(status, one, wanted);
        let secrets = wanted.secrets.iter().filter(|(name, secret)| {
            only.is_none_or(|only| only == name.as_str()) && secret.services.contains(&one.service)
        });
        for (name, secret) in secrets {
            let content = |of: &Release| {
                let contents = of.secret_contents(name, Some(&one.service));
                contents.into_iter().map(str::to_owned).collect::<Vec<_>>()
            };
            let running = has.and_then(|release| {
                let running = release.secrets.get(name)?.version;
                // The same number of another value: one that was counted before the secret was removed.
                let is_known = running != secret.version || content(release) == content(wanted);
                is_known.then_some(running)
            });
            let config = wanted.services.get(&one.service);
            let live = config.is_some_and(|config| is_live(config, secret.keys.iter()));
            let unloaded = |contents: &Contents| !contents.loaded;
            let reloading = live && one.contents.as_ref().is_some_and(unloaded);
            if running != Some(secret.version) || reloading {
                all.push(SecretDiffers {
                    secret: name.clone(),
                    service: one.service.clone(),
                    replica: one.id.to_string(),
                    wanted: secret.version,
                    running,
                    reloading,
                });
            }
        }
    }
    all
}

/// The release whose contents of secrets a replica has.
fn has<'a>(status: &'a TargetStatus, one: &Instance, wanted: &'a Release) -> Option<&'a Release> {
    let Role::Replica { digest, .. } = &one.role else {
        return None;
    };
    let given = one.contents.as_ref().map(|contents| &contents.given);
    let is_it = |release: &&Release| {
        release.services.get(&one.service).is_some_and(|config| {
            let same = given.is_none() || config.live_contents().as_ref() == given;
            config.digest() == digest && same
        })
    };
    let releases = status.releases.values().rev();
    std::iter::once(wanted).chain(releases).find(is_it)
}

/// Whether a secret with these keys is one of those that change as the program runs.
fn is_live<'a>(config: &ServiceRelease, mut keys: impl Iterator<Item = &'a String>) -> bool {
    keys.any(|key| {
        config
            .service
            .live_secrets()
            .any(|grant| &grant.source == key)
    })
}
