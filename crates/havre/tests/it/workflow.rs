//! A workflow that is vouched for by an issuer on loopback, as GitHub vouches for those of Actions: it exchanges
//! its identity token and deploys.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

/// Made for tests.
const KEY: &[u8] = include_bytes!("../../../havre-access/tests/data/rsa-test-key.pkcs8");

/// Serves its configuration and its key until the test ends.
pub struct Issuer {
    key: RsaKeyPair,
    pub url: String,
}

impl Issuer {
    pub fn start() -> Self {
        let key = RsaKeyPair::from_pkcs8(KEY).expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let keys = json!({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k",
                                    "n": part(&public.n), "e": part(&public.e)}]});
        let configuration = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")});
        // Ends with the process: the test's own.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n")
                    && reader.read_line(&mut head).is_ok_and(|n| n > 0)
                {}
                let body = match head.starts_with("GET /jwks ") {
                    true => &keys,
                    false => &configuration,
                };
                let body = body.to_string();
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
                (&stream).write_all(answer.as_bytes()).ok();
            }
        });
        Self { key, url }
    }

    /// A token for a workflow of `acme/shop` on that branch.
    pub fn token(&self, id: &str, branch: &str) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        let claims = json!({
            "iss": self.url, "aud": "https://havre.example.org", "jti": id, "iat": now, "exp": now + 300,
            "sub": format!("repo:acme-3/shop-7:ref:refs/heads/{branch}"),
            "repository": "acme/shop", "repository_id": "7", "ref": format!("refs/heads/{branch}"),
        });
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!(
            "{}.{}",
            part(&json!({"alg": "RS256", "kid": "k"})),
            part(&claims)
        );
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        let done = self.key.sign(
            &RSA_PKCS1_SHA256,
            &random,
            signed.as_bytes(),
            &mut signature,
        );
        done.expect("signed");
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}
