//! Names that are not for whom a build is.

use havre_image::builder::NamedContext;
use havre_image::{NameRefused, NameRights, NameUse};

use super::support::Bench;

/// Who may read and give what he gave himself, and read what nobody in particular gave.
fn rights(who: &str) -> NameRights {
    let own = who.to_owned();
    NameRights::new(Some(own.clone()), move |wanted, reference, giver| {
        match (wanted, giver) {
            (NameUse::Read, None) => Ok(()),
            (_, Some(giver)) if giver == own => Ok(()),
            (_, giver) => Err(NameRefused {
                reason: format!("{wanted:?} {reference} of {giver:?}"),
                hint: Some("another name".to_owned()),
            }),
        }
    })
}

#[test]
fn a_build_takes_nothing_of_a_name_that_is_refused() {
    let bench = Bench::with_base();
    bench.file("f", "f");
    let mut request = bench.request("FROM base:1\nRUN touch /made");
    request.tags = vec!["bank:1".parse().expect("a name")];
    request.names = rights("bank");
    bench.try_request(&request).expect("it builds");
    let ran = bench.ran();
    let texts = [
        "FROM bank:1",
        "FROM base:1\nCOPY --from=bank:1 /made /made",
        "FROM base:1\nRUN --mount=from=bank:1,target=/bank cat /bank/made",
        "FROM base:1\nCOPY --from=beside /made /made",
    ];
    for (text, pull) in texts
        .into_iter()
        .flat_map(|text| [(text, false), (text, true)])
    {
        let mut request = bench.request(text);
        let beside = NamedContext::Image("bank:1".to_owned());
        request.contexts.insert("beside".to_owned(), beside);
        request.names = rights("shop");
        request.pull = pull;
        let error = bench.try_request(&request).unwrap_err();
        assert!(error.refusal().is_some(), "{text}: {error}");
        assert_eq!(error.hint().as_deref(), Some("another name"));
        request.names = rights("bank");
        bench.try_request(&request).expect("it is the bank's");
    }
    // The bank's own, which no step of the other preceded.
    assert_eq!(bench.ran(), ran + 1);
}

#[test]
fn a_build_gives_no_name_that_is_refused() {
    let bench = Bench::with_base();
    let base = "base:1".parse().expect("a name");
    let before = bench.images.resolve(&base).expect("read");
    for tags in [vec!["base:1"], vec!["own:1", "base:1"]] {
        let mut request = bench.request("FROM base:1\nENV A=1");
        request.tags = tags
            .iter()
            .map(|tag| tag.parse().expect("a name"))
            .collect();
        request.names = rights("shop");
        let error = bench.try_request(&request).unwrap_err();
        assert!(error.refusal().is_some(), "{error}");
        assert_eq!(bench.images.resolve(&base).expect("read"), before);
    }
    // What was given stays its giver's, for one who asks first, too.
    let own = "own:1".parse().expect("a name");
    let asked = |who: &str| bench.images.check_name(NameUse::Give, &own, &rights(who));
    assert!(asked("shop").is_ok());
    let refused = asked("bank").unwrap_err().to_string();
    assert_eq!(refused, "Give own:1 of Some(\"shop\")");
    let resolved = bench.images.resolve_as(&own, &rights("bank"));
    assert!(resolved.is_err());
}
