//! Signed addresses of uploads and downloads, which need no token: paths of three parts, since clients that take them
//! for Azure's want as many.

use data_encoding::HEXLOWER;
use ring::hmac;

/// What an address is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Upload,
    Download,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Upload, Self::Download]
            .into_iter()
            .find(|purpose| purpose.word() == word)
    }
}

/// Path and query of an address; `expires` in seconds since 1970.
pub(crate) fn make(key: &hmac::Key, purpose: Purpose, folder: &str, expires: i64) -> String {
    let path = path(purpose, folder);
    let signature = hmac::sign(key, text(&path, purpose, expires).as_bytes());
    let signature = HEXLOWER.encode(signature.as_ref());
    format!("{path}?se={expires}&sig={signature}")
}

/// Whether an address is one that [`make`] made and its time is not over.
pub(crate) fn holds(
    key: &hmac::Key,
    purpose: Purpose,
    folder: &str,
    (expires, signature): (i64, &str),
    now: i64,
) -> bool {
    let Ok(signature) = HEXLOWER.decode(signature.as_bytes()) else {
        return false;
    };
    let text = text(&path(purpose, folder), purpose, expires);
    hmac::verify(key, text.as_bytes(), &signature).is_ok() && now < expires
}

fn path(purpose: Purpose, folder: &str) -> String {
    format!("/results/{}/{folder}", purpose.word())
}

fn text(path: &str, purpose: Purpose, expires: i64) -> String {
    format!("{path}\n{expires}\n{}", purpose.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_good_for_its_path_purpose_and_time_alone() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        let other = hmac::Key::new(hmac::HMAC_SHA256, &[2; 32]);
        let made = make(&key, Purpose::Upload, "ab", 100);
        let (path, query) = made.split_once('?').unwrap();
        assert_eq!(path, "/results/upload/ab");
        let signature = query.rsplit_once("sig=").unwrap().1;
        let check = |key, purpose, folder, expires, now| {
            holds(key, purpose, folder, (expires, signature), now)
        };
        assert!(check(&key, Purpose::Upload, "ab", 100, 99));
        assert!(!check(&key, Purpose::Upload, "ab", 100, 100));
        assert!(!check(&key, Purpose::Upload, "ab", 101, 99));
        assert!(!check(&key, Purpose::Upload, "ac", 100, 99));
        assert!(!check(&key, Purpose::Download, "ab", 100, 99));
        assert!(!check(&other, Purpose::Upload, "ab", 100, 99));
        for forged in ["", "00", "zz", &signature[2..]] {
            assert!(!holds(&key, Purpose::Upload, "ab", (100, forged), 99));
        }
    }
}
