//! An authority's directory: where what is asked, and what it offers.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::http::{Answer, Http, problem_of};
use crate::name::Name;
use crate::problem::Problem;

/// The profile by which public authorities sign for addresses.
const SHORT_LIVED: &str = "shortlived";

/// A directory as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// Address and document.
    pub(crate) document: Arc<(String, Bytes)>,
    /// Where renewal information is.
    pub(crate) renewal_info: Option<String>,
    profiles: BTreeSet<String>,
}

impl Directory {
    pub(crate) async fn read(http: &Http, address: &str) -> Result<Self, Problem> {
        let answer = http.get(address).await;
        let answer = answer.map_err(|error| Problem::own(havre_base::one_line(&error)))?;
        Self::parse(address, answer)
    }

    fn parse(address: &str, answer: Answer) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Document {
            #[expect(
                dead_code,
                reason = "whether it is there tells a directory from a page"
            )]
            new_order: String,
            renewal_info: Option<String>,
            #[serde(default)]
            meta: Meta,
        }
        #[derive(Default, Deserialize)]
        struct Meta {
            #[serde(default)]
            profiles: serde_json::Map<String, serde_json::Value>,
        }
        if !answer.status.is_success() {
            return Err(problem_of(&answer));
        }
        let document: Document = serde_json::from_slice(&answer.body).map_err(|error| {
            Problem::own(format!(
                "{address} is not the directory of an authority: {error}"
            ))
        })?;
        Ok(Self {
            document: Arc::new((address.to_owned(), answer.body)),
            renewal_info: document.renewal_info,
            profiles: document.meta.profiles.into_iter().map(|it| it.0).collect(),
        })
    }

    /// The profile to ask for. One of the configuration has to be offered; for an address it is the
    /// short-lived one where there is one.
    pub(crate) fn profile(
        &self,
        name: &Name,
        wanted: Option<&str>,
    ) -> Result<Option<String>, Problem> {
        match wanted {
            Some(wanted) if self.profiles.contains(wanted) => Ok(Some(wanted.to_owned())),
            Some(wanted) => {
                let offered: Vec<&str> = self.profiles.iter().map(String::as_str).collect();
                let offered = match offered.as_slice() {
                    [] => "none".to_owned(),
                    offered => offered.join(", "),
                };
                Err(Problem::own(format!(
                    "the authority has no profile `{wanted}`; it offers {offered}"
                )))
            }
            None => {
                let short = name.address().is_some() && self.profiles.contains(SHORT_LIVED);
                Ok(short.then(|| SHORT_LIVED.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn parsed(body: &'static str) -> Result<Directory, Problem> {
        let answer = Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        Directory::parse("https://ca.dev/dir", answer)
    }

    #[test]
    fn addresses_get_short_lived_certificates_and_profiles_are_checked() {
        let directory = parsed(
            r#"{"newOrder": "https://ca.dev/o", "renewalInfo": "https://ca.dev/ari",
                "meta": {"profiles": {"classic": "90 days", "shortlived": "six"}}}"#,
        )
        .unwrap();
        let of = |name: &str, wanted| {
            let name = Name::parse(name).unwrap();
            directory.profile(&name, wanted)
        };
        assert_eq!(of("a.dev", None), Ok(None));
        assert_eq!(of("1.1.1.1", None), Ok(Some("shortlived".into())));
        assert_eq!(of("a.dev", Some("classic")), Ok(Some("classic".into())));
        let error = of("a.dev", Some("x")).unwrap_err();
        assert!(error.detail.ends_with("it offers classic, shortlived"));
        let error = parsed("{}").unwrap_err();
        assert!(error.detail.contains("is not the directory"), "{error}");
    }
}
