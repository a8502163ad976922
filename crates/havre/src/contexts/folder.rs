//! The user's folder of contexts and tokens: files that only they can read, replaced as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use havre_api::{Address, Token};
use havre_base::{Durability, replace};

use super::Contexts;

/// Far more than anybody has contexts.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why contexts cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFolderError {
    /// The environment names no folder.
    #[error("neither XDG_CONFIG_HOME nor HOME says where your configuration is")]
    Homeless,
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it must be.
    #[error("cannot understand {}", path.display())]
    Garbled {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The folder; it need not exist.
#[derive(Clone, Debug)]
pub struct ConfigFolder(PathBuf);

impl ConfigFolder {
    /// Of the user whose environment this is.
    pub fn of_user() -> Result<Self, ConfigFolderError> {
        let absolute = |name: &str| {
            let path = PathBuf::from(std::env::var_os(name).unwrap_or_default());
            path.is_absolute().then_some(path)
        };
        let config = absolute("XDG_CONFIG_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".config")))
            .ok_or(ConfigFolderError::Homeless)?;
        Ok(Self(config.join("havre")))
    }

    /// The file of contexts.
    pub fn file(&self) -> PathBuf {
        self.0.join("contexts.json")
    }

    /// All contexts; none where none was ever kept.
    pub fn read(&self) -> Result<Contexts, ConfigFolderError> {
        let path = self.file();
        let Some(text) = read(&path)? else {
            return Ok(Contexts::default());
        };
        serde_json::from_slice(&text).map_err(|error| ConfigFolderError::Garbled {
            path,
            source: error.into(),
        })
    }

    /// Changes the contexts, one command after the other.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Contexts) -> T,
    ) -> Result<T, ConfigFolderError> {
        let path = self.file();
        let error = |source| ConfigFolderError::Write {
            path: path.clone(),
            source,
        };
        make(&self.0).map_err(error)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.0.join("contexts.lock"))
            .map_err(error)?;
        // Held until the file is closed.
        File::lock(&lock).map_err(error)?;
        let mut contexts = self.read()?;
        let before = contexts.clone();
        let changed = change(&mut contexts);
        if contexts != before {
            let mut text = serde_json::to_vec_pretty(&contexts)
                .map_err(|source| error(io::Error::other(source)))?;
            text.push(b'\n');
            replace(&path, &text, 0o600, Durability::Durable).map_err(error)?;
        }
        Ok(changed)
    }

    /// The token kept for a context, if it is for this address: a name may mean another server by now.
    pub fn token(
        &self,
        context: &str,
        address: &Address,
    ) -> Result<Option<Token>, ConfigFolderError> {
        let path = self.token_path(context);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&text);
        // Of one line: nobody knows whom it is for.
        let Some((whose, token)) = text.split_once('\n').filter(|(_, token)| !token.is_empty())
        else {
            return Ok(None);
        };
        if whose != address.to_string() {
            return Ok(None);
        }
        match Token::new(token) {
            Some(token) => Ok(Some(token)),
            None => Err(ConfigFolderError::Garbled {
                path,
                source: "it is no token".into(),
            }),
        }
    }

    /// Keeps a token for a context, as long as that has this address.
    pub fn keep_token(
        &self,
        context: &str,
        address: &Address,
        token: &Token,
    ) -> Result<(), ConfigFolderError> {
        let path = self.token_path(context);
        let written = make(&self.0.join("tokens")).and_then(|()| {
            let text = format!("{address}\n{}\n", token.reveal());
            replace(&path, text.as_bytes(), 0o600, Durability::Durable)
        });
        written.map_err(|source| ConfigFolderError::Write { path, source })
    }

    /// Forgets it; whether there was one.
    pub fn forget_token(&self, context: &str) -> Result<bool, ConfigFolderError> {
        let path = self.token_path(context);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ConfigFolderError::Write { path, source }),
        }
    }

    /// Names of contexts are names of files ([`super::is_name`]).
    fn token_path(&self, context: &str) -> PathBuf {
        self.0.join("tokens").join(context)
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// `None`: there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, ConfigFolderError> {
    let error = |source| ConfigFolderError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(error)?,
    };
    let mut text = Vec::new();
    let read = file.take(MAX_FILE_BYTES).read_to_end(&mut text);
    read.map_err(error)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_one_address() {
        let folder = tempfile::tempdir().unwrap();
        let folder = ConfigFolder(folder.path().join("havre"));
        let (one, other): (Address, Address) = (
            "https://a.example.org".parse().unwrap(),
            "https://a.example.org:8443".parse().unwrap(),
        );
        let token = Token::new("secret-of-somebody").expect("a token");
        folder.keep_token("prod", &one, &token).unwrap();
        let kept = |address| folder.token("prod", address).unwrap();
        assert_eq!(kept(&one).expect("kept").reveal(), token.reveal());
        assert!(kept(&other).is_none());
        // As earlier versions kept it.
        fs::write(folder.token_path("prod"), "secret-of-somebody\n").unwrap();
        assert!(kept(&one).is_none());
        fs::write(folder.token_path("prod"), "https://a.example.org\n\n\n").unwrap();
        assert!(folder.token("prod", &one).is_err());
    }
}
