//! Who is let in by an identity token, and who is not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_access::{
    Exchange, Holder, Issued, LoginError, NoKey, Register, SCHEMA, Unproven, User, UserKind,
};
use havre_model::grant::{Grant, Role};
use havre_model::machine::{OidcIssuer, Rule};
use havre_store::Store;
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, Issuer, Signer, unsigned};

struct World {
    issuer: Issuer,
    register: Arc<Register>,
    exchange: Exchange,
    store: Arc<Store>,
    _folder: tempfile::TempDir,
}

fn rule(claims: &[(&str, &str)], role: Role, place: &str) -> Rule {
    let claims = claims.iter();
    Rule {
        claims: claims
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        role,
        environments: vec![place.parse().expect("sound")],
    }
}

impl World {
    async fn new(signers: &[&Signer]) -> Self {
        let issuer = Issuer::start(signers).await;
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("state.db"), &[SCHEMA]).expect("opened");
        let store = Arc::new(store);
        let register = Arc::new(Register::open(Arc::clone(&store)).expect("readable"));
        let mut world = Self {
            exchange: Exchange::new(&[], Arc::clone(&register), Arc::clone(&store)).expect("none"),
            issuer,
            register,
            store,
            _folder: folder,
        };
        world.restart();
        world
    }

    /// Another daemon over the same database.
    fn restart(&mut self) {
        let settings = OidcIssuer {
            name: "github".to_owned(),
            issuer: self.issuer.url(),
            audience: AUDIENCE.to_owned(),
            client_id: Some("havre-cli".to_owned()),
            ca_file: None,
            rules: vec![
                rule(
                    &[("repository", "acme/shop"), ("ref", "refs/heads/main")],
                    Role::Deployer,
                    "shop/production",
                ),
                rule(&[("repository_id", "9")], Role::Viewer, "*"),
            ],
        };
        let (register, store) = (Arc::clone(&self.register), Arc::clone(&self.store));
        self.exchange = Exchange::new(&[settings], register, store).expect("set up");
    }

    async fn login(&self, text: &str) -> Result<Issued, LoginError> {
        self.exchange.login(text, SystemTime::now()).await
    }

    /// What is said of a token with one claim changed.
    async fn with(&self, signer: &Signer, id: &str, claim: &str, value: Value) -> LoginError {
        let mut claims = self.issuer.claims(id);
        claims[claim] = value;
        let refused = self.login(&signer.sign(&claims)).await;
        refused
            .err()
            .unwrap_or_else(|| panic!("let in with another {claim}"))
    }
}

#[tokio::test]
async fn a_workflow_gets_what_its_rule_says_and_for_an_hour() {
    for signer in [Signer::ec("one"), Signer::rsa("one")] {
        let world = World::new(&[&signer]).await;
        let token = signer.sign(&world.issuer.claims("a"));
        let issued = world.login(&token).await.expect("let in");
        let known = world
            .register
            .look_up(&issued.text, SystemTime::now())
            .expect("known");
        let record = known.record;
        assert_eq!(record.grant.to_string(), "deployer of shop/production");
        assert_eq!(record.name, "acme/shop@refs/heads/main");
        let subject = "repo:acme-3/shop-7:ref:refs/heads/main".to_owned();
        let issuer = "github".to_owned();
        assert_eq!(record.holder, Holder::Login { issuer, subject });
        let hour = SystemTime::now() + Duration::from_secs(3601);
        assert!(world.register.look_up(&issued.text, hour).is_err());
    }
}

#[tokio::test]
async fn who_signs_otherwise_than_the_issuer_is_a_forger() {
    let (own, forger) = (Signer::rsa("one"), Signer::ec("one"));
    let world = World::new(&[&own]).await;
    let claims = world.issuer.claims("a");
    let refused = async |text: &str| world.login(text).await.err().expect("refused");
    // Another key of the same name, of the other kind.
    let error = refused(&forger.sign(&claims)).await;
    assert!(
        matches!(error, LoginError::Unproven(Unproven::Signature)),
        "{error}"
    );
    // The public key as a secret, and no signature at all, in each spelling.
    let error = refused(&own.mac(&claims)).await;
    assert!(
        matches!(error, LoginError::Unproven(Unproven::Algorithm(_))),
        "{error}"
    );
    for none in ["none", "None", "NONE", ""] {
        let head = json!({"alg": none, "kid": "one"});
        let error = refused(&format!("{}.", unsigned(&head, &claims))).await;
        assert!(
            matches!(error, LoginError::Unproven(Unproven::Algorithm(_))),
            "{error}"
        );
    }
    // The algorithm of the one key with the signature of the other.
    let head = json!({"alg": "RS256", "kid": "one"});
    let signature = forger.sign(&claims);
    let (_, signature) = signature.rsplit_once('.').expect("three parts");
    let error = refused(&format!("{}.{signature}", unsigned(&head, &claims))).await;
    assert!(
        matches!(error, LoginError::Unproven(Unproven::Signature)),
        "{error}"
    );
    // Other claims under a real signature.
    let real = own.sign(&claims);
    let (_, signature) = real.rsplit_once('.').expect("three parts");
    let mut better = claims.clone();
    better["repository_id"] = json!("9");
    let error = refused(&format!("{}.{signature}", unsigned(&head, &better))).await;
    assert!(
        matches!(error, LoginError::Unproven(Unproven::Signature)),
        "{error}"
    );
    // A key inside the token itself, and heads that demand more.
    let head = json!({"alg": "ES256", "kid": "two", "jwk": forger.jwk()});
    let error = refused(&format!("{}.{signature}", unsigned(&head, &claims))).await;
    assert!(matches!(error, LoginError::Key(NoKey::Unknown)), "{error}");
    let head = json!({"alg": "RS256", "kid": "one", "crit": ["b64"], "b64": false});
    let error = refused(&format!("{}.{signature}", unsigned(&head, &claims))).await;
    assert!(
        matches!(error, LoginError::Unproven(Unproven::Malformed(_))),
        "{error}"
    );
    for nonsense in [
        "",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "....",
        &"x".repeat(20_000),
    ] {
        refused(nonsense).await;
    }
    // None of it has used the real one up.
    world.login(&real).await.expect("let in");
}

#[tokio::test]
async fn issuer_audience_and_times_have_to_be_right() {
    let signer = Signer::ec("one");
    let world = World::new(&[&signer]).await;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("now")
        .as_secs();
    let with = async |claim, value| world.with(&signer, "a", claim, value).await;
    let error = with("iss", json!("https://token.example.org")).await;
    assert!(matches!(error, LoginError::Issuer), "{error}");
    // As another spelling of the same address would be.
    let error = with("iss", json!(format!("{}/", world.issuer.url()))).await;
    assert!(matches!(error, LoginError::Issuer), "{error}");
    for audience in [
        json!("https://other.example.org"),
        json!([]),
        json!(["x"]),
        json!(null),
    ] {
        let error = with("aud", audience).await;
        assert!(
            matches!(error, LoginError::Unproven(Unproven::Audience(_))),
            "{error}"
        );
    }
    let error = with("exp", json!(now - 61)).await;
    assert!(
        matches!(error, LoginError::Unproven(Unproven::Expired)),
        "{error}"
    );
    for claim in ["nbf", "iat"] {
        let error = with(claim, json!(now + 90)).await;
        assert!(
            matches!(error, LoginError::Unproven(Unproven::TooEarly)),
            "{error}"
        );
    }
    for (claim, value) in [
        ("exp", json!(null)),
        ("exp", json!("soon")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", json!(now + 100_000)),
        ("iat", json!([])),
        ("sub", json!("")),
    ] {
        let error = with(claim, value).await;
        assert!(matches!(error, LoginError::Unproven(_)), "{claim}: {error}");
    }
    // Clocks that differ by less than a minute.
    for (id, claim, value) in [
        ("b", "exp", now - 50),
        ("c", "nbf", now + 50),
        ("d", "iat", now + 50),
    ] {
        let mut claims = world.issuer.claims(id);
        claims[claim] = json!(value);
        world
            .login(&signer.sign(&claims))
            .await
            .unwrap_or_else(|error| panic!("{claim}: {error}"));
    }
    // Of one that is for others too it has to be said that it was given to us.
    for (given_to, is_let_in) in [
        (None, false),
        (Some("evil"), false),
        (Some("havre-cli"), true),
        (Some(AUDIENCE), true),
    ] {
        let mut claims = world.issuer.claims(&format!("e {given_to:?}"));
        claims["aud"] = json!(["x", AUDIENCE]);
        claims["azp"] = json!(given_to);
        let found = world.login(&signer.sign(&claims)).await;
        assert_eq!(found.is_ok(), is_let_in, "{given_to:?}");
    }
    for kind in ["at+jwt", "application/AT+JWT"] {
        let token = signer.sign_as(kind, &world.issuer.claims("f"));
        assert!(world.login(&token).await.is_err(), "{kind}");
    }
}

#[tokio::test]
async fn a_token_is_taken_once_also_by_the_next_daemon() {
    let signer = Signer::ec("one");
    let mut world = World::new(&[&signer]).await;
    let first = signer.sign(&world.issuer.claims("a"));
    world.login(&first).await.expect("let in");
    let error = world.login(&first).await.err().expect("refused");
    assert!(matches!(error, LoginError::Replayed), "{error}");
    // Signed anew, it is still the same.
    let again = signer.sign(&world.issuer.claims("a"));
    let error = world.login(&again).await.err().expect("refused");
    assert!(matches!(error, LoginError::Replayed), "{error}");
    world.restart();
    let error = world.login(&first).await.err().expect("refused");
    assert!(matches!(error, LoginError::Replayed), "{error}");
    // One without a number is known by all that it says.
    let mut claims = world.issuer.claims("b");
    claims.as_object_mut().expect("an object").remove("jti");
    world.login(&signer.sign(&claims)).await.expect("let in");
    let error = world
        .login(&signer.sign(&claims))
        .await
        .err()
        .expect("refused");
    assert!(matches!(error, LoginError::Replayed), "{error}");
}

#[tokio::test]
async fn a_name_that_was_given_to_another_is_refused() {
    let signer = Signer::ec("one");
    let mut world = World::new(&[&signer]).await;
    world
        .login(&signer.sign(&world.issuer.claims("a")))
        .await
        .expect("let in");
    world.restart();
    let error = world.with(&signer, "b", "repository_id", json!("8")).await;
    let LoginError::Renamed {
        claim,
        expected,
        found,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (*claim, &expected[..], &found[..]),
        ("repository", "7", "8")
    );
    let error = world
        .with(&signer, "c", "repository_owner_id", json!("4"))
        .await;
    assert!(matches!(error, LoginError::Renamed { .. }), "{error}");
    world
        .login(&signer.sign(&world.issuer.claims("d")))
        .await
        .expect("the first one");
}

#[tokio::test]
async fn without_a_rule_or_a_user_nobody_is_let_in() {
    let signer = Signer::ec("one");
    let world = World::new(&[&signer]).await;
    let error = world
        .with(&signer, "a", "ref", json!("refs/heads/dev"))
        .await;
    assert!(
        error.to_string().ends_with("acme/shop@refs/heads/dev"),
        "{error}"
    );
    let person = |id: &str| {
        let mut claims = world.issuer.claims(id);
        for claim in ["repository", "repository_id"] {
            claims.as_object_mut().expect("an object").remove(claim);
        }
        claims["sub"] = json!("1234");
        signer.sign(&claims)
    };
    let error = world.login(&person("b")).await.err().expect("refused");
    assert!(matches!(error, LoginError::NoRule { .. }), "{error}");
    let user = User {
        name: "anna".to_owned(),
        kind: UserKind::Oidc {
            issuer: "github".to_owned(),
            subject: "1234".to_owned(),
        },
        grant: Grant::everywhere(Role::Admin),
        created_at: SystemTime::now(),
        created_by: "root".to_owned(),
    };
    world.register.put_user(user).expect("entered");
    // What was refused for want of a rule was not used up.
    let issued = world.login(&person("b")).await.expect("let in");
    assert_eq!(
        (&issued.record.name[..], issued.record.grant.role),
        ("anna", Role::Admin)
    );
    world.register.remove_user("anna").expect("removed");
    assert!(
        world
            .register
            .look_up(&issued.text, SystemTime::now())
            .is_err()
    );
}

#[tokio::test]
async fn new_keys_are_fetched_and_unknown_ones_do_not_have_the_issuer_flooded() {
    let (first, second) = (Signer::ec("one"), Signer::ec("two"));
    let world = World::new(&[&first]).await;
    world
        .login(&first.sign(&world.issuer.claims("a")))
        .await
        .expect("let in");
    world
        .login(&first.sign(&world.issuer.claims("b")))
        .await
        .expect("let in");
    assert_eq!(world.issuer.asked(), 1);
    world.issuer.publish(&[&first, &second]);
    tokio::time::pause();
    for n in 0..500 {
        let unknown = Signer::ec(&format!("unknown-{n}"));
        let error = world.login(&unknown.sign(&world.issuer.claims("c"))).await;
        let error = error.err().expect("refused");
        assert!(matches!(error, LoginError::Key(NoKey::Unknown)), "{error}");
    }
    assert_eq!(world.issuer.asked(), 1);
    // Once it may be asked again, the new key is found, and the old one still holds.
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    world
        .login(&second.sign(&world.issuer.claims("d")))
        .await
        .expect("let in");
    world
        .login(&first.sign(&world.issuer.claims("e")))
        .await
        .expect("let in");
    assert_eq!(world.issuer.asked(), 2);
    // A key that was withdrawn holds no longer than an hour.
    world.issuer.publish(&[&second]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3601)).await;
    tokio::time::resume();
    let error = world
        .login(&first.sign(&world.issuer.claims("f")))
        .await
        .err();
    assert!(matches!(error, Some(LoginError::Key(NoKey::Unknown))));
}

#[tokio::test]
async fn an_issuer_that_is_down_or_another_one_is_told_apart() {
    let signer = Signer::ec("one");
    let world = World::new(&[&signer]).await;
    let token = signer.sign(&world.issuer.claims("a"));
    world.issuer.is_down(true);
    let error = world.login(&token).await.err().expect("refused");
    assert!(matches!(error, LoginError::Key(NoKey::Fetch(_))), "{error}");
    let error = world.login(&token).await.err().expect("refused");
    assert!(matches!(error, LoginError::Key(NoKey::Later(_))), "{error}");
    world.issuer.is_down(false);
    let own = world.issuer.url();
    world.issuer.pretend("https://elsewhere.example.org");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let error = world.login(&token).await.err().expect("refused");
    assert!(matches!(error, LoginError::Key(NoKey::Fetch(_))), "{error}");
    world.issuer.pretend(&own);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    world.login(&token).await.expect("let in");
}
