//! What must not be shown: values that are secrets by their name or their form.

/// Stands for what is not shown.
pub const MASK: &str = "********";

/// Words in the name of a variable that make its value a secret.
const WORDS: [&str; 9] = [
    "CREDENTIAL",
    "CREDENTIALS",
    "KEY",
    "PASS",
    "PASSWD",
    "PASSWORD",
    "PWD",
    "SECRET",
    "TOKEN",
];
/// Names with such a word that say where a secret is, or that are public.
const HARMLESS: [&str; 4] = ["FILE", "PATH", "DIR", "PUBLIC"];

/// Whether a variable of this name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let words: Vec<String> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .map(str::to_ascii_uppercase)
        .collect();
    let holds = |word: &String| {
        WORDS.contains(&word.as_str())
            || ["PASSWORD", "SECRET", "TOKEN", "APIKEY"]
                .iter()
                .any(|end| word.ends_with(end))
    };
    words.iter().any(holds) && !words.iter().any(|word| HARMLESS.contains(&word.as_str()))
}

/// Words that say something about a secret, where one of them ends a variable's name.
const ABOUT: [&str; 40] = [
    "ALGORITHM",
    "AUDIENCE",
    "CLASS",
    "CONVERTER",
    "COOKIE",
    "COUNT",
    "DAYS",
    "DISABLED",
    "ENABLED",
    "ENDPOINT",
    "EXPIRATION",
    "EXPIRES",
    "EXPIRY",
    "FIELD",
    "FORMAT",
    "HEADER",
    "HOST",
    "HOURS",
    "ISSUER",
    "ITERATIONS",
    "LENGTH",
    "LIFETIME",
    "LIMIT",
    "MAX",
    "MIN",
    "MINUTES",
    "MODE",
    "NAME",
    "POLICY",
    "PORT",
    "PREFIX",
    "PROVIDER",
    "REQUIRED",
    "ROUNDS",
    "SECONDS",
    "SIZE",
    "TIMEOUT",
    "TTL",
    "TYPE",
    "URL",
];
/// Ends of files with keys and the like: their name is no secret.
const FILES: [&str; 8] = [
    ".crt", ".der", ".json", ".key", ".p12", ".pem", ".pub", ".txt",
];

/// Whether a value is most likely a secret: its name says so, and neither the end of the name nor the
/// value says otherwise. For advice; what is shown is masked by [`value`].
pub fn holds_secret(name: &str, value: &str) -> bool {
    let last = name.rsplit(|c: char| !c.is_ascii_alphanumeric()).next();
    let about = last.map(str::to_ascii_uppercase);
    let switch =
        matches!(value, "" | "0" | "1" | "none" | "null") || crate::scalar::truth(value).is_some();
    let file = value.contains('/') && FILES.iter().any(|end| value.ends_with(end));
    is_secret_name(name)
        && !about.is_some_and(|word| ABOUT.contains(&word.as_str()))
        && !switch
        && !file
}

/// A variable's value as it may be shown.
pub fn value(name: &str, value: &str) -> String {
    if is_secret_name(name) && !value.is_empty() {
        return MASK.to_owned();
    }
    url_password(value)
}

/// The text without the password of a URL in it.
pub fn url_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority_ends = rest.find(['/', '?', '#', ' ']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_ends);
    match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, password)) if !password.is_empty() => {
                format!("{scheme}://{name}:{MASK}@{host}{tail}")
            }
            _ => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name_or_form() {
        for name in [
            "POSTGRES_PASSWORD",
            "API_KEY",
            "jwt-secret",
            "DB_PWD",
            "GITHUB_TOKEN",
        ] {
            assert_eq!(value(name, "x"), MASK, "{name}");
        }
        for name in [
            "POSTGRES_PASSWORD_FILE",
            "KEYBOARD",
            "TOKENIZER",
            "PUBLIC_KEY",
            "PATH",
        ] {
            assert_eq!(value(name, "x"), "x", "{name}");
        }
        assert_eq!(
            value("DATABASE_URL", "postgresql://u:p@db:5432/x"),
            "postgresql://u:********@db:5432/x"
        );
        assert_eq!(value("URL", "redis://redis:6379/0"), "redis://redis:6379/0");
        assert_eq!(value("PASSWORD", ""), "", "that it is empty is no secret");
    }

    #[test]
    fn what_is_only_about_a_secret_is_none() {
        for (name, value, secret) in [
            ("POSTGRES_PASSWORD", "hunter2", true),
            ("REDIS_PASSWORD", "123", true),
            ("SECRET_KEY_BASE", "abc", true),
            ("AWS_SECRET_ACCESS_KEY", "abc/def", true),
            ("PASSWORD_RESET_DISABLED", "1", false),
            ("MYSQL_RANDOM_ROOT_PASSWORD", "yes", false),
            ("MYSQL_ALLOW_EMPTY_PASSWORD", "True", false),
            (
                "CONNECT_KEY_CONVERTER",
                "org.example.StringConverter",
                false,
            ),
            ("ACCESS_TOKEN_TTL", "3600", false),
            ("PASSWORD_MIN_LENGTH", "12", false),
            ("TOKEN_ENDPOINT", "https://id.example/token", false),
            ("JWT_SIGNING_KEY", "/run/keys/jwt.pem", false),
            ("USER", "hunter2", false),
        ] {
            assert_eq!(holds_secret(name, value), secret, "{name}={value}");
        }
    }
}
