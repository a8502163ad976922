//! What the target of environments can do, and the projects that ask it for more.

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_model::{Capabilities, Project};

/// Most refusals that are told.
const MAX_TOLD: usize = 20;

/// Fails where the project asks for what the target cannot do. The command line has refused it before, with
/// the place in the files, unless it is an older one or no daemon ran when it read them.
pub(crate) fn check(
    capabilities: &Capabilities,
    id: &EnvironmentId,
    project: &Project,
) -> Result<(), ApiError> {
    let mut refused = capabilities.refuse(project);
    match refused.len() {
        0 => Ok(()),
        1 => {
            let one = refused.remove(0);
            Err(ApiError::new(ErrorCode::Invalid, one.message).with_hint(one.hint))
        }
        count => {
            let target = capabilities.target();
            let message = format!("{id} asks for {count} things that are not possible on {target}");
            let mut error = ApiError::new(ErrorCode::Invalid, message)
                .with_hint("`havre check` shows where they are written, and what to do instead");
            let told = refused.into_iter().take(MAX_TOLD);
            error.causes = told.map(|one| one.message).collect();
            if count > MAX_TOLD {
                error.causes.push(format!("and {} more", count - MAX_TOLD));
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use havre_model::{Lack, LoadOptions, load};

    use super::*;

    /// What is refused of these services.
    fn refused(capabilities: &Capabilities, services: &str) -> Option<ApiError> {
        let folder = tempfile::tempdir().unwrap();
        let compose = format!("name: shop\nservices: {services}\n");
        std::fs::write(folder.path().join("compose.yaml"), compose).unwrap();
        let options = LoadOptions {
            directory: folder.path().to_owned(),
            ..LoadOptions::default()
        };
        let project = load(&options).unwrap().project;
        let id = EnvironmentId {
            project: project.name.clone(),
            environment: project.environment.clone(),
        };
        check(capabilities, &id, &project).err()
    }

    /// A FAKE target without UDP and sysctls.
    fn fleet() -> Capabilities {
        let lack = |key: &str, values: &[&str]| Lack {
            key: key.to_owned(),
            values: values.iter().map(ToString::to_string).collect(),
            reason: "it has none".to_owned(),
            hint: "remove it".to_owned(),
        };
        let lacks = vec![
            lack("services.*.ports[].protocol", &["udp"]),
            lack("services.*.sysctls", &[]),
        ];
        Capabilities::new("Fleet", lacks).unwrap()
    }

    #[test]
    fn what_the_target_lacks_is_refused_by_service_and_key() {
        let error = refused(&fleet(), "{dns: {image: 'a:1', ports: ['53:53/udp']}}").unwrap();
        assert_eq!(error.code, ErrorCode::Invalid);
        assert_eq!(
            error.message,
            "`ports[].protocol: udp` of service `dns` is not possible on Fleet: it has none"
        );
        assert_eq!(error.hint.as_deref(), Some("remove it"));
        let sound = "{dns: {image: 'a:1', ports: ['53:53/tcp']}}";
        assert_eq!(refused(&fleet(), sound), None);
    }

    #[test]
    fn of_many_refusals_some_are_told() {
        let service = |n| format!("s{n}: {{image: 'a:1', sysctls: {{net.core.somaxconn: '1'}}}}");
        let services: Vec<String> = (0..23).map(service).collect();
        let error = refused(&fleet(), &format!("{{{}}}", services.join(", "))).unwrap();
        assert_eq!(
            error.message,
            "shop/production asks for 23 things that are not possible on Fleet"
        );
        assert_eq!(error.causes.len(), MAX_TOLD + 1);
        assert_eq!(error.causes.last().unwrap(), "and 3 more");
        assert!(error.hint.unwrap().contains("havre check"));
    }

    #[test]
    fn this_machine_lacks_nothing() {
        let capabilities = Capabilities::default();
        assert_eq!(capabilities.target(), "this machine");
        assert_eq!(capabilities.lacks(), []);
    }
}
