//! What names may be. None of them ever is a file's.

/// Most bytes of a cache's key; GitHub's clients refuse longer ones.
const MAX_KEY: usize = 512;
const MAX_NAME: usize = 255;

/// Why a name is refused; a sentence for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadName(&'static str);

/// An artifact's: what GitHub's clients refuse, refused here too, since it becomes a file at who downloads it.
pub(crate) fn artifact(name: &str) -> Result<(), BadName> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(BadName("an artifact's name has 1 to 255 bytes"));
    }
    let refused = |c: char| c.is_control() || "\":<>|*?\\/".contains(c);
    if name.contains(refused) {
        return Err(BadName(
            "an artifact's name has no control characters and none of \" : < > | * ? \\ /",
        ));
    }
    if name.chars().all(|c| c == '.') {
        return Err(BadName("an artifact's name is not made of dots"));
    }
    Ok(())
}

/// A cache's key, or a part of one to look for.
pub(crate) fn key(key: &str) -> Result<(), BadName> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(BadName("a cache's key has 1 to 512 bytes"));
    }
    if key.contains(|c: char| c.is_control() || c == ',') {
        return Err(BadName(
            "a cache's key has no control characters and no comma",
        ));
    }
    Ok(())
}

/// A cache's version: of no meaning here.
pub(crate) fn version(version: &str) -> Result<(), BadName> {
    match (1..=256).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(BadName(
            "a cache's version has 1 to 256 visible ASCII characters",
        )),
    }
}

/// What kind of file an artifact is; it becomes a header.
pub(crate) fn mime(mime: &str) -> Result<(), BadName> {
    let word = |word: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        !word.is_empty() && word.len() <= 127 && word.bytes().all(allowed)
    };
    match mime.split_once('/') {
        Some((kind, of)) if word(kind) && word(of) => Ok(()),
        Some(_) | None => Err(BadName("a media type is two words with a '/' between them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_hurt_are_refused() {
        for good in ["dist", "a b", "é.zip", "..x", ".hidden"] {
            assert_eq!(artifact(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a/b",
            "..",
            ".",
            "a\\b",
            "a\nb",
            "a\0",
            "a:b",
            "\u{85}",
            &"x".repeat(256),
        ] {
            assert!(artifact(bad).is_err(), "{bad:?}");
        }
        for good in ["../x", "linux-/a/b", "é"] {
            assert_eq!(key(good), Ok(()), "{good}");
        }
        for bad in ["", "a,b", "a\nb", &"x".repeat(513)] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
        assert!(mime("application/zip").is_ok() && mime("image/svg+xml").is_ok());
        for bad in ["", "zip", "a/b\r\nx: y", "a/b; c", "/b", "a/"] {
            assert!(mime(bad).is_err(), "{bad:?}");
        }
        assert!(version("abc").is_ok() && version("").is_err() && version("a b").is_err());
    }
}
