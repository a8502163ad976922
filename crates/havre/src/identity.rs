//! Getting a token that says who somebody is: from a CI job, by a code typed on another device, or by a
//! browser that comes back to this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use havre_api::{OidcOffer, WebRequest, web};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::exit::Exit;
use crate::ui::Ui;

mod browser;

/// By these a job of GitHub Actions gets tokens, where its workflow has `permissions: id-token: write`.
const ACTIONS_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const ACTIONS_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Pause between two questions whether the code was typed, where the issuer says nothing (RFC 8628).
const DEVICE_PAUSE: Duration = Duration::from_secs(5);
/// The shortest pause, whatever the issuer says.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// The longest that a person may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// How a person shows who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In a browser on this machine.
    Browser,
    /// By a code, on any device.
    Device,
}

/// An issuer, and what is needed to speak to it.
#[derive(Clone, Copy, Debug)]
pub struct Issuer<'i> {
    /// As the server has it.
    pub offer: &'i OidcOffer,
    /// Authorities to be believed beside the machine's.
    pub ca_file: Option<&'i Path>,
    /// Whether the server is this machine by its address: then alone its issuer may be, too.
    pub here: bool,
}

/// What an issuer says of itself (OpenID Connect Discovery).
#[derive(Clone, Debug, Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
}

/// A code to be typed (RFC 8628).
#[derive(Deserialize)]
struct DeviceCode {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// What a token endpoint gives.
#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
}

/// Why it gives none (RFC 6749).
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Whether this is a job that can say who it is.
pub fn is_job() -> bool {
    std::env::var_os(ACTIONS_URL).is_some_and(|url| !url.is_empty())
}

/// What the job's runner says of it, to be shown to `audience`.
pub async fn of_job(audience: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        value: String,
    }
    let (Ok(url), Ok(token)) = (std::env::var(ACTIONS_URL), std::env::var(ACTIONS_TOKEN)) else {
        let message = "this job has no identity to show";
        return Err(Failure::new(Exit::Failed, message)
            .hint("give its workflow `permissions: id-token: write`"));
    };
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}audience={}", encoded(audience));
    let request = WebRequest {
        url: &url,
        // The job's own environment names it.
        plain: true,
        form: None,
        bearer: Some(&token),
        ca_file: None,
    };
    let answer: Answer = ask(&request).await?.map_err(|refusal| refused(&refusal))?;
    Ok(answer.value)
}

impl Issuer<'_> {
    /// What it says of a person, whom it asks itself.
    pub async fn of_person(&self, way: Way, ui: Ui) -> Result<String, Failure> {
        let name = &self.offer.name;
        let Some(client) = self.offer.client_id.as_deref() else {
            let message = format!("people cannot log in by {name}: it is for programs");
            return Err(Failure::new(Exit::Failed, message)
                .hint("give it a `client_id` in the server's machine.yaml"));
        };
        let base = self.offer.issuer.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let found: Discovery = self.get(&url).await?;
        if found.issuer.trim_end_matches('/') != base {
            let message = format!("what answers at {base} says that it is {}", found.issuer);
            return Err(Failure::new(Exit::Failed, message));
        }
        let work = async {
            match way {
                Way::Device => self.by_device(client, &found, ui).await,
                Way::Browser => self.by_browser(client, &found, ui).await,
            }
        };
        let late = |_| Failure::new(Exit::Failed, "nobody logged in in time");
        tokio::time::timeout(PATIENCE, work).await.map_err(late)?
    }

    async fn by_device(&self, client: &str, at: &Discovery, ui: Ui) -> Result<String, Failure> {
        let Some(endpoint) = &at.device_authorization_endpoint else {
            let message = format!("{} gives no codes for other devices", self.offer.name);
            return Err(Failure::new(Exit::Failed, message).hint("leave --device out"));
        };
        let asked = form(&[("client_id", client), ("scope", "openid")]);
        let code: DeviceCode = self
            .post(endpoint, &asked)
            .await?
            .map_err(|e| refused(&e))?;
        let place = code.verification_uri_complete.as_ref();
        // No lines of its own.
        let shown = crate::table::printable;
        ui.note(&format!(
            "open {} and type {}",
            shown(place.unwrap_or(&code.verification_uri)),
            shown(&code.user_code)
        ));
        let pause = code.interval.map_or(DEVICE_PAUSE, Duration::from_secs);
        let mut pause = pause.clamp(LEAST_PAUSE, PATIENCE);
        let asked = form(&[
            ("grant_type", DEVICE_GRANT),
            ("device_code", &code.device_code),
            ("client_id", client),
        ]);
        let typed = async {
            loop {
                tokio::time::sleep(pause).await;
                match self.post::<Tokens>(&at.token_endpoint, &asked).await? {
                    Ok(tokens) => return self.identity(tokens, None),
                    Err(refusal) => match refusal.error.as_str() {
                        "authorization_pending" => {}
                        "slow_down" => pause += DEVICE_PAUSE,
                        _ => return Err(refused(&refusal)),
                    },
                }
            }
        };
        let lifetime = Duration::from_secs(code.expires_in);
        let late = |_| Failure::new(Exit::Failed, "the code was not typed in time");
        tokio::time::timeout(lifetime, typed).await.map_err(late)?
    }

    async fn by_browser(&self, client: &str, at: &Discovery, ui: Ui) -> Result<String, Failure> {
        let Some(endpoint) = &at.authorization_endpoint else {
            let message = format!("{} has no page to log in", self.offer.name);
            return Err(Failure::new(Exit::Failed, message).hint("use --device"));
        };
        if !self.may_be(endpoint) {
            let message = format!("{} logs in at {endpoint}: without TLS", self.offer.name);
            return Err(Failure::new(Exit::Failed, message));
        }
        let visit = browser::Visit::new().map_err(|error| {
            let message = "no browser can come back to this machine";
            Failure::new(Exit::Failed, message)
                .caused_by(&error)
                .hint("use --device")
        })?;
        let asked = form(&[
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", &visit.address),
            ("scope", "openid"),
            ("state", &visit.state),
            ("nonce", &visit.nonce),
            ("code_challenge", &visit.challenge()),
            ("code_challenge_method", "S256"),
        ]);
        let separator = if endpoint.contains('?') { '&' } else { '?' };
        let endpoint = crate::table::printable(endpoint);
        ui.note(&format!("open {endpoint}{separator}{asked}"));
        let code = visit.code().await?;
        let asked = form(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &visit.address),
            ("client_id", client),
            ("code_verifier", &visit.verifier),
        ]);
        let tokens = self.post::<Tokens>(&at.token_endpoint, &asked).await?;
        let tokens = tokens.map_err(|refusal| refused(&refusal))?;
        self.identity(tokens, Some(&visit.nonce))
    }

    /// `nonce`: what the token says, too, when it is of this login.
    fn identity(&self, tokens: Tokens, nonce: Option<&str>) -> Result<String, Failure> {
        let name = &self.offer.name;
        let Some(token) = tokens.id_token else {
            let message = format!("{name} says that somebody logged in, and not who");
            return Err(Failure::new(Exit::Failed, message));
        };
        match nonce {
            Some(nonce) if nonce_of(&token).as_deref() != Some(nonce) => {
                let message = format!("what {name} says is of another login than this");
                Err(Failure::new(Exit::Failed, message).hint("log in once more"))
            }
            _ => Ok(token),
        }
    }

    /// Whether something of it may be at this address: what an issuer says does not lead from TLS to a
    /// service of this machine.
    fn may_be(&self, url: &str) -> bool {
        url.starts_with("https://") || (self.plain() && url.starts_with("http://"))
    }

    fn plain(&self) -> bool {
        self.here && self.offer.issuer.starts_with("http://")
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, Failure> {
        let request = WebRequest {
            url,
            plain: self.plain(),
            form: None,
            bearer: None,
            ca_file: self.ca_file,
        };
        ask(&request).await?.map_err(|refusal| refused(&refusal))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        form: &str,
    ) -> Result<Result<T, Refusal>, Failure> {
        let request = WebRequest {
            url,
            plain: self.plain(),
            form: Some(form),
            bearer: None,
            ca_file: self.ca_file,
        };
        ask(&request).await
    }
}

/// The answer, or what the other side has against it.
async fn ask<T: DeserializeOwned>(request: &WebRequest<'_>) -> Result<Result<T, Refusal>, Failure> {
    let place = request.url.split(['?', '#']).next().unwrap_or_default();
    let (status, body) = web(request).await.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot ask {place}")).caused_by(&error)
    })?;
    if status.is_success() {
        return serde_json::from_slice(&body).map(Ok).map_err(|error| {
            let message = format!("cannot understand the answer of {place}");
            Failure::new(Exit::Failed, message).caused_by(&error)
        });
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => Ok(Err(refusal)),
        Err(_) => Err(Failure::new(
            Exit::Failed,
            format!("{place} answers with {status}"),
        )),
    }
}

fn refused(refusal: &Refusal) -> Failure {
    let message = format!("nobody was logged in: {}", refusal.error);
    let failure = Failure::new(Exit::Failed, message);
    match refusal.error_description.is_empty() {
        true => failure,
        false => failure.hint(&refusal.error_description),
    }
}

/// The nonce that an identity token has. All else of it is looked at by the server.
fn nonce_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        nonce: Option<String>,
    }
    let claims = token.split('.').nth(1)?.trim_end_matches('=');
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?;
    serde_json::from_slice::<Claims>(&claims).ok()?.nonce
}

/// As a form has it.
fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    pairs.join("&")
}

/// Percent-encoded, all but letters, digits and `-._~`.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The fields of a query.
fn fields(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (byte, after.get(..2).and_then(hex)) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(offer: &OidcOffer, here: bool) -> Issuer<'_> {
        Issuer {
            offer,
            ca_file: None,
            here,
        }
    }

    fn offer(issuer: &str) -> OidcOffer {
        OidcOffer {
            name: "company".to_owned(),
            issuer: issuer.to_owned(),
            audience: String::new(),
            client_id: Some("havre-cli".to_owned()),
        }
    }

    #[test]
    fn a_token_of_another_login_is_not_taken() {
        let offer = offer("https://issuer.example.org");
        let issuer = issuer(&offer, false);
        let given = |claims: &str, nonce| {
            let token = format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(claims.as_bytes()));
            let tokens = Tokens {
                id_token: Some(token),
            };
            issuer.identity(tokens, nonce)
        };
        assert!(given(r#"{"nonce":"ours","sub":"x"}"#, Some("ours")).is_ok());
        for claims in [r#"{"nonce":"another"}"#, r#"{"sub":"x"}"#, "", "{"] {
            let refused = given(claims, Some("ours")).expect_err(claims);
            assert!(refused.message.contains("another login"), "{refused:?}");
        }
        // A device has none.
        assert!(given("{}", None).is_ok());
    }

    #[test]
    fn an_issuer_leads_to_no_service_of_this_machine() {
        let (tls, plain) = (offer("https://a.example.org"), offer("http://127.0.0.1:80"));
        for (offer, here, url, may) in [
            (&tls, true, "https://a.example.org/token", true),
            (&tls, true, "http://127.0.0.1:2375/token", false),
            (&tls, false, "javascript:alert(1)", false),
            (&plain, false, "http://127.0.0.1:80/token", false),
            (&plain, true, "http://127.0.0.1:80/token", true),
        ] {
            assert_eq!(issuer(offer, here).may_be(url), may, "{offer:?} {url}");
        }
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        for text in ["", "a b&c=d", "https://x/?y#z", "ä+%"] {
            assert_eq!(decoded(&encoded(text)), text);
            let read = fields(&form(&[("a", text), ("b", "1")]));
            assert_eq!(read["a"], text);
            assert_eq!(read["b"], "1");
        }
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
