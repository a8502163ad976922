//! What is found, and what is not.

use crate::checksum::with_checksum;
use crate::{Found, is_binary, scan};

/// `rule name line:column masked` of each.
fn told(file: &str, text: &str) -> Vec<String> {
    let line = |one: Found| {
        let name = one.name.unwrap_or_default();
        format!(
            "{} {name} {}:{} {}",
            one.rule, one.line, one.column, one.masked
        )
    };
    scan(file, text).into_iter().map(line).collect()
}

fn rules(file: &str, text: &str) -> Vec<&'static str> {
    scan(file, text).into_iter().map(|one| one.rule).collect()
}

#[test]
fn tokens_are_told_by_their_form() {
    let havre = format!(
        "havre_{}",
        with_checksum(&"aB3dE5gH7jK9mN1pQ3rS5tU7vW9xY1zA3bC5dE7fG9h"[..43])
    );
    let github = format!("ghp_{}", with_checksum("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ"));
    for (token, rule) in [
        (havre.as_str(), "havre-token"),
        (&github, "github-token"),
        ("AKIAQYLPMN5HFIQR7XYA", "aws-key"),
        ("AIzaSyD4k9f3Jx8QwErTyUiOpAsDfGhJkLzXcVb", "google-key"),
        ("glpat-x7Kp2mQ9vR4tW8yZ1aBc", "gitlab-token"),
        (
            "AGE-SECRET-KEY-1QL3Z7HJY54PW3HYWW5AYYFG7ZQGVC7W3J2ELW8ZMRJ2KG5SFN9AQMCAC8P",
            "age-identity",
        ),
    ] {
        for text in [
            token.to_owned(),
            format!("x = \"{token}\"\n"),
            format!("curl -H 'Authorization: Bearer {token}'"),
        ] {
            assert_eq!(rules("a.sh", &text), [rule], "{text}");
        }
        assert_eq!(rules("a.txt", &format!("x{token}")), [""; 0]);
    }
}

#[test]
fn what_looks_like_a_token_and_is_none_is_left_alone() {
    for text in [
        // Checksums that do not hold.
        "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18",
        "havre_aB3dE5gH7jK9mN1pQ3rS5tU7vW9xY1zA3bC5dE7fG9h000000",
        "AKIAIOSFODNN7EXAMPLE",
        "AKIAXXXXXXXXXXXXXXXX",
        "-----BEGIN PRIVATE KEY----- is how a key begins",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA",
        "integrity sha512-v2kDEe57lecTulaDIuNTPy3Ry4gLGJ6Z1O3vE1krgXZNrsQ+LFTGHVxVjcXPs17LhbZVGedAJv8XZ1tvj5FvSg==",
    ] {
        assert_eq!(rules("a.txt", text), [""; 0], "{text}");
    }
}

#[test]
fn keys_are_found_over_lines_and_in_one() {
    let body = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    assert_eq!(told("key.pem", &pem), ["private-key  1:1 ---…"]);
    let inline = format!("{{\"key\": \"-----BEGIN RSA PRIVATE KEY-----\\n{body}\\n\"}}");
    assert_eq!(rules("a.json", &inline), ["private-key"]);
    let openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n";
    assert_eq!(rules("id_ed25519", openssh), ["private-key"]);
}

#[test]
fn addresses_with_passwords() {
    let text = "url: postgres://app:s3cr3t-Xy@db:5432/shop\n";
    assert_eq!(told("compose.yaml", text), ["address-password  1:21 s3c…"]);
    for text in [
        "postgres://app:${PASSWORD}@db/shop",
        "postgres://app:$PASSWORD@db/shop",
        "postgres://app:<password>@db/shop",
        "postgres://postgres:postgres@localhost/test",
        "https://example.org:8443/a@b",
        "git://host/path:x@y",
        "mailto://a@b",
        "redis://:{{ password }}@r",
    ] {
        assert_eq!(rules("a.py", text), [""; 0], "{text}");
    }
}

#[test]
fn names_that_say_so_with_values_that_look_it() {
    for (file, text) in [
        (".env", "DATABASE_PASSWORD=k3Jx8QwErTyUi\n"),
        (".env.production", "export API_TOKEN='k3Jx8QwErTyUi'"),
        ("compose.yaml", "      JWT_SECRET: 9f86d081884c7d659a2f"),
        ("compose.yaml", "      - JWT_SECRET=9f86d081884c7d659a2f"),
        ("Dockerfile", "ENV STRIPE_SECRET_KEY=k3Jx8QwErTyUi9"),
        ("app.py", "password = \"k3Jx8QwErTyUi\""),
        ("a.json", "{\"clientSecret\": \"k3Jx8QwErTyUi\"}"),
        ("a.rb", "  :api_key => 'k3Jx8QwErTyUi'"),
        ("main.tf", "  db_password = \"k3Jx8QwErTyUi\""),
    ] {
        assert_eq!(rules(file, text), ["assigned-secret"], "{text}");
    }
    let found = &scan(".env", "DATABASE_PASSWORD=k3Jx8QwErTyUi\n")[0];
    assert_eq!(
        (found.name.as_deref(), found.column),
        (Some("DATABASE_PASSWORD"), 19)
    );
    assert_eq!(found.masked, "k3Jx…");
}

#[test]
fn names_without_a_secret_in_their_value() {
    for (file, text) in [
        (".env", "DATABASE_PASSWORD="),
        (".env", "DATABASE_PASSWORD=changeme12345"),
        (".env", "DATABASE_PASSWORD_FILE=/run/secrets/db1password"),
        (".env", "# API_TOKEN=k3Jx8QwErTyUi"),
        (".env.example", "API_TOKEN=your-token-here-1"),
        ("compose.yaml", "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?1}"),
        ("compose.yaml", "secrets: [db_password1234]"),
        (
            "a.yaml",
            "password: ENC[AES256_GCM,data:k3Jx8QwErTyUi,iv:x]",
        ),
        ("a.py", "password = os.environ['DATABASE_PASSWORD1']"),
        ("a.py", "token = get_token(\"k3Jx8QwErTyUi\")"),
        ("a.rs", "let secret = &secrets.database1.password2;"),
        ("a.js", "const tokenType = \"k3Jx8QwErTyUi\";"),
        ("a.md", "password: k3Jx8QwErTyUi"),
        ("a.env", "API_TOKEN=k3Jx8QwErTyUi # havre:allow"),
        ("a.py", "api_key = \"k3Jx8QwErTyUi\"  # gitleaks:allow"),
        (
            "a.yaml",
            "tokenUrl: \"https://idp1.example.net/oauth2/token\"",
        ),
    ] {
        assert_eq!(rules(file, text), [""; 0], "{file}: {text}");
    }
}

#[test]
fn nothing_that_is_told_repeats_a_secret() {
    let secret = "k3Jx8QwErTyUiOpAs";
    for text in [
        format!("API_SECRET={secret}"),
        format!("amqp://b:{secret}@c"),
    ] {
        let told = format!("{:?}", scan(".env", &text));
        assert!(told.contains("k3Jx…") && !told.contains("k3Jx8"), "{told}");
    }
}

#[test]
fn any_text_is_taken() {
    let long = format!("PASSWORD={}", "é".repeat(100_000));
    assert_eq!(rules(".env", &long), [""; 0]);
    for text in [
        "",
        "=",
        ":",
        "://",
        "a://:@",
        "password=\"",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "é=é:é\u{0}",
    ] {
        assert_eq!(rules(".env", text), [""; 0], "{text}");
    }
    let many = "API_SECRET=k3Jx8QwErTyUi\n".repeat(1000);
    assert_eq!(scan(".env", &many).len(), 200);
    assert!(is_binary(b"\x7fELF\0") && !is_binary("é".as_bytes()));
}

#[test]
fn a_line_that_was_made_to_take_long_does_not() {
    let of = |part: &str| format!("{}\n", part.repeat((16 << 10) / part.len()));
    let word = "a".repeat(8 << 10);
    let mut text = [
        of(":"),
        of("="),
        of("pwd="),
        of("pwd:="),
        of("SG."),
        of("pwd='"),
        of("x://y:z@"),
    ]
    .concat();
    text.push_str(&format!("{word}{}\n", ":".repeat(8 << 10)));
    let started = std::time::Instant::now();
    scan("a.env", &text);
    let took = started.elapsed();
    assert!(took.as_secs() < 15, "{took:?}");
}

#[test]
fn what_stands_far_from_its_sign_is_no_name_and_no_value() {
    let value = "k3Jx8QwErTyUi";
    assert_eq!(
        rules("a.env", &format!("{} API_TOKEN={value}", "ü".repeat(300))),
        ["assigned-secret"]
    );
    let long = value.repeat(45);
    assert_eq!(rules("a.env", &format!("API_TOKEN={long}")), [""; 0]);
    assert_eq!(rules("a.py", &format!("api_token = '{long}'")), [""; 0]);
}
