//! Secrets that environments use, and those that they lack.

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, Grant, Role, SecretBytes, SecretGetRequest, SecretOrigin,
    SecretQuery, SecretRemoveRequest, SecretSetRequest, SecretUse,
};
use havre_model::FileSource;
use havre_secrets::Scope;

use crate::fake::{Stage, id, principal};
use crate::files::{fingerprints, keep_files};
use crate::secrets::scope::scope_of;
use crate::secrets::{advice, calls, needed};

const FILES: &str = "name: shop\nservices:\n  web: {image: 'web:1', secrets: [key]}\n  \
                     worker: {image: 'worker:1', secrets: [key]}\nsecrets: {key: {external: true}}\n";

impl Stage {
    fn has(&self, scope: &Scope) {
        let secrets = &self.daemon.platform.secrets;
        let name = "key".parse().unwrap();
        secrets.set(scope, &name, b"a value", "", "set").unwrap();
    }

    async fn remove(&self, of: Option<EnvironmentId>, force: bool) -> Result<(), ApiError> {
        let request = SecretRemoveRequest {
            environment: of,
            name: "key".to_owned(),
            force,
        };
        let by = principal("anna", Grant::everywhere(Role::Deployer));
        calls::remove(&self.daemon, &by, &request).await
    }

    async fn who(&self, grant: Grant) -> Result<Vec<SecretUse>, ApiError> {
        let query = SecretQuery {
            environment: None,
            name: "key".to_owned(),
        };
        calls::uses(&self.daemon, &principal("anna", grant), &query).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_use_goes_only_by_force_and_who_uses_it_is_named() {
    for own in [true, false] {
        let stage = Stage::new();
        let of = own.then(|| stage.id());
        stage.has(&scope_of(of.as_ref()));
        stage.up(FILES).await.done();
        let uses = stage.who(Grant::everywhere(Role::Viewer)).await.unwrap();
        assert_eq!((uses.len(), uses[0].own), (1, own));
        let error = stage.remove(of.clone(), false).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        let whose = scope_of(of.as_ref());
        assert_eq!(
            error.message,
            format!("`key` of {whose} is in use by shop/production (web, worker)")
        );
        // The other one is not there, whatever is in use.
        let other = (!own).then(|| stage.id());
        let error = stage.remove(other, false).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound, "{error:?}");
        stage.remove(of, true).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_told_with_where_it_is() {
    let stage = Stage::new();
    let get = |of: Option<EnvironmentId>, grant| {
        let request = SecretGetRequest {
            environment: of,
            name: "key".to_owned(),
            version: None,
            reason: "a test".to_owned(),
        };
        let error = calls::get(&stage.daemon, &principal("anna", grant), &request).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
        (error.message, error.hint.unwrap())
    };
    let everywhere = || Grant::everywhere(Role::Admin);
    let none = "`havre secret ls` lists those that there are".to_owned();
    let nowhere = "other/production has no secret `key`, and neither has this machine".to_owned();
    assert_eq!(
        get(Some(id("other")), everywhere()),
        (nowhere.clone(), none.clone())
    );
    stage.has(&scope_of(Some(&stage.id())));
    let here = "this machine has no secret `key` for all environments".to_owned();
    let there = "there is one of shop/production (-p shop -E production)".to_owned();
    assert_eq!(get(None, everywhere()), (here.clone(), there.clone()));
    assert_eq!(
        get(Some(id("other")), everywhere()),
        (nowhere.clone(), there.clone())
    );
    // Of what they do not see they are told nothing.
    let other = || Grant {
        role: Role::Admin,
        environments: vec!["other/*".parse().unwrap()],
    };
    assert_eq!(get(Some(id("other")), other()), (nowhere, none));
    // That nothing runs with it is no reason to believe that it is nowhere.
    let error = stage.who(everywhere()).await.unwrap_err();
    assert_eq!((error.message, error.hint), (here, Some(there)));
}

#[test]
fn that_a_machine_alone_opens_the_secrets_is_said_once_and_where_somebody_looks() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    let set = |name: &str, value: &str| {
        let request = SecretSetRequest {
            environment: None,
            name: name.to_owned(),
            value: SecretBytes::new(value.as_bytes().to_vec()),
            origin: SecretOrigin::Set,
        };
        let by = principal("anna", Grant::everywhere(Role::Deployer));
        let set = calls::set(&stage.daemon, &by, &request).unwrap();
        set.warnings.join(", ")
    };
    assert_eq!(advice(platform), None);
    let said = set("one", "a value");
    assert!(said.contains("only this machine opens"), "{said}");
    assert_eq!(advice(platform), Some(said));
    assert_eq!(set("one", "a value"), "");
    assert_eq!(set("one", "another value"), "");
    assert_eq!(set("two", "a value"), "");
}

#[tokio::test(start_paused = true)]
async fn commands_that_set_what_is_missing_are_a_hint() {
    let stage = Stage::new();
    let error = stage.plan(FILES).await.unwrap_err();
    assert_eq!(
        error.message,
        "shop/production needs a secret that is not set: `key`; nothing was changed"
    );
    let all = "without -p and -E it is set for all environments";
    let one = "havre secret set key -p shop -E production";
    assert_eq!(error.causes, Vec::<String>::new());
    assert_eq!(error.hint, Some(format!("{one}\n{all}")));
    let two = FILES.replace(
        "secrets: {key",
        "secrets: {b: {external: true, name: a;b}, key",
    );
    let two = two.replacen("[key]", "[key, b]", 1);
    let error = stage.plan(&two).await.unwrap_err();
    assert_eq!(
        error.message,
        "shop/production needs 2 secrets that are not set: `a;b`, `key`; nothing was changed"
    );
    let all = "without -p and -E one is set for all environments";
    let other = "havre secret set 'a;b' -p shop -E production";
    assert_eq!(error.causes, Vec::<String>::new());
    assert_eq!(error.hint, Some(format!("{other}\n{one}\n{all}")));
}

#[test]
fn what_is_set_while_a_release_is_made_changes_neither_its_version_nor_its_content() {
    let stage = Stage::new();
    let (platform, id) = (&stage.daemon.platform, stage.id());
    let scope = scope_of(Some(&id));
    let name = "key".parse().unwrap();
    let set = |value: &[u8]| {
        let set = platform.secrets.set(&scope, &name, value, "", "set");
        set.unwrap().version
    };
    let mut project = stage.project("name: shop\nservices: {web: {image: 'web:1'}}");
    let source = FileSource::Store {
        name: "key".to_owned(),
    };
    project.secrets.insert("key".to_owned(), source);
    let service = project.services.values_mut().next().unwrap();
    let variables = &mut service.secret_environment;
    variables.insert("KEY".to_owned(), "key".to_owned());
    let first = set(b"the first");
    let found = needed::of(&platform.secrets, &id, &project).unwrap();
    assert_eq!(set(b"the second"), first + 1);
    assert_eq!(found.secrets["key"].version, first);
    for files in [keep_files, fingerprints] {
        let files = files(platform, &project, &found.values).unwrap();
        let content = files.into_values().flatten().map(|(_, content)| content);
        let content: Vec<_> = content.collect();
        let expected = platform.secrets.fingerprint(&scope, b"the first").unwrap();
        assert_eq!(content, [expected]);
    }
}
