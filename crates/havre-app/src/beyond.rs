//! What a project asks for beyond its environment, and who may have it: an admin of the whole machine. Pure.

use havre_api::{ApiError, ErrorCode, Principal, Role};
use havre_model::Project;

/// Who changes the environment, as far as the machine's own is concerned: somebody whose environments are
/// some of the machine's is no admin of the machine, by whose disk and devices all the others could be
/// reached. Refused is what others have, too.
pub(crate) fn within(mut by: Principal, project: &Project) -> Result<Principal, ApiError> {
    if by.grant.sees_all() {
        return Ok(by);
    }
    if let Some(what) = of_others(project) {
        let message = format!("{what} may be other environments', too");
        return Err(
            ApiError::new(ErrorCode::Forbidden, message).with_hint(format!(
                "who may see the whole machine may have it; {by} is {}",
                by.grant
            )),
        );
    }
    by.grant.role = by.grant.role.min(Role::Deployer);
    Ok(by)
}

/// The first thing that environments share.
fn of_others(project: &Project) -> Option<String> {
    let mut networks = project.networks.iter();
    let network = networks.find(|(_, one)| one.shared.is_some() || one.external.is_some());
    if let Some((name, _)) = network {
        return Some(format!("network {name}"));
    }
    let mut volumes = project.volumes.iter();
    let (name, _) = volumes.find(|(_, one)| one.external)?;
    Some(format!("volume {name}"))
}

#[cfg(test)]
mod tests {
    use havre_api::Grant;
    use havre_model::{Network, NetworkName, Volume, VolumeName};

    use super::*;
    use crate::fake::{Stage, principal, shop};

    fn of(role: Role, place: &str) -> Principal {
        let environments = vec![place.parse().expect("sound")];
        principal("anna", Grant { role, environments })
    }

    #[tokio::test]
    async fn what_is_shared_is_for_those_who_see_all() {
        let stage = Stage::new();
        let plain = stage.project(&shop("{web: {image: 'web:1'}}"));
        let mut networked = plain.clone();
        let network = Network {
            shared: Some("proxy".to_owned()),
            ..Network::default()
        };
        networked.networks.insert(NetworkName::new("x"), network);
        let mut external = plain.clone();
        let volume = Volume {
            external: true,
            ..Volume::default()
        };
        external.volumes.insert(VolumeName::new("data"), volume);
        for (project, what) in [(&networked, "network x"), (&external, "volume data")] {
            let refused = within(of(Role::Admin, "shop/*"), project).expect_err("refused");
            assert_eq!(refused.code, ErrorCode::Forbidden);
            assert!(refused.message.starts_with(what), "{}", refused.message);
            within(of(Role::Deployer, "*"), project).expect("sees all");
        }
        // An admin of some environments is none of the machine.
        let by = within(of(Role::Admin, "shop/*"), &plain).expect("its own");
        assert_eq!(by.grant.role, Role::Deployer);
        let by = within(of(Role::Admin, "*"), &plain).expect("all");
        assert_eq!(by.grant.role, Role::Admin);
    }
}
