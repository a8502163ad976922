//! What `seal.json` says: slots, each of which opens the root key, and the keys under it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::passphrase::Kdf;
use crate::age::{Identity, Recipient, decrypt, encrypt};
use crate::key::{CryptoError, Key, fill};
use crate::text;

/// The form of the file that this version writes and reads.
pub(crate) const VERSION: u32 = 1;
/// What is before the root key in a slot, so that it says what it is when somebody opens it with age.
const ROOT_KEY: &str = "HAVRE-ROOT-KEY-1 ";

/// All of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) version: u32,
    /// Tells this seal from others.
    pub(crate) id: String,
    pub(crate) slots: Vec<Slot>,
    /// Numbers are not used again.
    pub(crate) next_slot: u32,
    /// Keys under the root key; the last one is the one in use.
    pub(crate) generations: Vec<Generation>,
    /// The key by which the audit trail is signed, so that one that is gone is missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trail: Option<String>,
}

/// One way to the root key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slot {
    pub(crate) number: u32,
    pub(crate) opener: Opener,
    /// To whom the root key is encrypted: made from the opener, so that a new root key needs none.
    pub(crate) recipient: String,
    /// The root key, as an age file.
    #[serde(with = "text")]
    pub(crate) sealed_root: Vec<u8>,
    pub(crate) created_at: i64,
    /// When it was last seen to open; none: nobody knows whether it does.
    pub(crate) opened_at: Option<i64>,
    /// By the root key: what else writes to the file cannot add a slot.
    #[serde(with = "text")]
    pub(crate) mac: Vec<u8>,
}

/// Where the identity of a slot comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Opener {
    /// A file that only root can read.
    MachineFile { path: PathBuf },
    /// A credential of systemd's: the host's key, with the TPM where it is asked for.
    MachineCredential {
        tpm: bool,
        #[serde(with = "text")]
        credential: Vec<u8>,
    },
    /// Somebody remembers it.
    Passphrase { kdf: Kdf },
    /// Somebody keeps its identity elsewhere.
    Age,
}

/// A key that seals, encrypted by the root key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Generation {
    /// Eight bytes in hex, with which whatever it seals begins.
    pub(crate) id: String,
    #[serde(with = "text")]
    pub(crate) sealed_key: Vec<u8>,
    pub(crate) created_at: i64,
}

/// What a generation is called where bytes are counted.
pub(crate) type GenerationId = [u8; 8];

/// What an open record gives.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) root: Key,
    pub(crate) keys: BTreeMap<GenerationId, Key>,
    pub(crate) newest: GenerationId,
}

impl Opener {
    /// Whether it opens without anybody.
    pub(crate) fn is_machine(&self) -> bool {
        match self {
            Self::MachineFile { .. } | Self::MachineCredential { .. } => true,
            Self::Passphrase { .. } | Self::Age => false,
        }
    }
}

impl Record {
    /// A new seal without slots.
    pub(crate) fn new(now: i64) -> Result<(Self, Key), CryptoError> {
        let root = Key::random()?;
        let mut record = Self {
            version: VERSION,
            id: random_id()?,
            slots: Vec::new(),
            next_slot: 1,
            generations: Vec::new(),
            trail: None,
        };
        record.add_generation(&root, now)?;
        Ok((record, root))
    }

    /// Another key under the root key, which is in use from now on.
    pub(crate) fn add_generation(&mut self, root: &Key, now: i64) -> Result<(), CryptoError> {
        let id = random_id()?;
        let key = Key::random()?;
        self.generations.push(Generation {
            sealed_key: root.encrypt(&self.aad(&id), key.bytes())?,
            id,
            created_at: now,
        });
        Ok(())
    }

    /// Adds a slot and returns its number.
    pub(crate) fn add_slot(
        &mut self,
        root: &Key,
        opener: Opener,
        recipient: &Recipient,
        now: i64,
    ) -> Result<u32, CryptoError> {
        let number = self.next_slot;
        let mut slot = Slot {
            number,
            opener,
            recipient: recipient.to_string(),
            sealed_root: seal_root(root, recipient)?,
            created_at: now,
            opened_at: None,
            mac: Vec::new(),
        };
        slot.mac = root.mac(&self.signed(&slot)).to_vec();
        self.slots.push(slot);
        self.next_slot += 1;
        Ok(number)
    }

    /// Another root key, with a key of its own that is in use from now on, for all slots that are its
    /// own. The numbers of others, which something else put there, are returned: they are left out.
    pub(crate) fn renew(&self, old: &Key, now: i64) -> Result<(Self, Key, Vec<u32>), RecordError> {
        let Opened { keys, .. } = self.open(old.clone())?;
        let root = Key::random()?;
        let mut fresh = Self {
            slots: Vec::new(),
            generations: Vec::new(),
            ..self.clone()
        };
        for generation in &self.generations {
            // All are among the keys, or the record would not have opened.
            let Some(key) = generation.key_id().and_then(|id| keys.get(&id)) else {
                continue;
            };
            fresh.generations.push(Generation {
                sealed_key: root.encrypt(&self.aad(&generation.id), key.bytes())?,
                ..generation.clone()
            });
        }
        fresh.add_generation(&root, now)?;
        let mut dropped = Vec::new();
        for slot in &self.slots {
            let own = self.is_own(old, slot);
            let recipient = slot.recipient.parse::<Recipient>();
            let (true, Ok(recipient)) = (own, recipient) else {
                dropped.push(slot.number);
                continue;
            };
            let mut slot = slot.clone();
            slot.sealed_root = seal_root(&root, &recipient)?;
            slot.mac = root.mac(&fresh.signed(&slot)).to_vec();
            fresh.slots.push(slot);
        }
        Ok((fresh, root, dropped))
    }

    /// The root key and those under it, where this identity opens one of the slots that `among` names.
    pub(crate) fn unlock(
        &self,
        identity: &Identity,
        among: impl Fn(&Slot) -> bool,
    ) -> Option<(u32, Key)> {
        let recipient = identity.recipient().to_string();
        let mut slots = self.slots.iter().filter(|slot| among(slot));
        slots.find_map(|slot| {
            (slot.recipient == recipient).then_some(())?;
            Some((slot.number, open_root(identity, &slot.sealed_root)?))
        })
    }

    /// The keys under the root key.
    pub(crate) fn open(&self, root: Key) -> Result<Opened, RecordError> {
        let mut keys = BTreeMap::new();
        let mut newest = None;
        for generation in &self.generations {
            let id = generation.key_id();
            let key = root.decrypt_key(&self.aad(&generation.id), &generation.sealed_key);
            let (Some(id), Some(key)) = (id, key) else {
                let id = generation.id.clone();
                return Err(RecordError::Generation { id });
            };
            keys.insert(id, key);
            newest = Some(id);
        }
        let newest = newest.ok_or(RecordError::Empty)?;
        Ok(Opened { root, keys, newest })
    }

    /// Whether who had the root key put this slot there.
    pub(crate) fn is_own(&self, root: &Key, slot: &Slot) -> bool {
        root.is_mac(&self.signed(slot), &slot.mac)
    }

    /// What of a slot must not be edited: whom the next root key is encrypted to, and how it is come by.
    fn signed(&self, slot: &Slot) -> [Vec<u8>; 5] {
        [
            b"havre seal slot 1".to_vec(),
            self.id.clone().into_bytes(),
            slot.number.to_be_bytes().to_vec(),
            slot.recipient.clone().into_bytes(),
            // Serialising it cannot fail: it has no map with keys that are not strings.
            serde_json::to_vec(&slot.opener).unwrap_or_default(),
        ]
    }

    fn aad<'a>(&'a self, generation: &'a str) -> [&'a [u8]; 3] {
        [
            b"havre seal generation 1",
            self.id.as_bytes(),
            generation.as_bytes(),
        ]
    }
}

impl Generation {
    fn key_id(&self) -> Option<GenerationId> {
        let bytes = HEXLOWER.decode(self.id.as_bytes()).ok()?;
        bytes.try_into().ok()
    }
}

/// A record that its own root key does not open.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("key {id} in it was edited or is damaged")]
    Generation { id: String },
    #[error("there is no key in it")]
    Empty,
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

fn seal_root(root: &Key, to: &Recipient) -> Result<Vec<u8>, CryptoError> {
    let hex = zeroize::Zeroizing::new(HEXLOWER.encode(root.bytes()));
    let text = zeroize::Zeroizing::new(format!("{ROOT_KEY}{}\n", *hex));
    encrypt(to, text.as_bytes())
}

fn open_root(identity: &Identity, sealed: &[u8]) -> Option<Key> {
    let text = decrypt(identity, sealed).ok()?;
    let hex = text.strip_prefix(ROOT_KEY.as_bytes())?.trim_ascii_end();
    let bytes = zeroize::Zeroizing::new(HEXLOWER.decode(hex).ok()?);
    Key::from_bytes(&bytes)
}

fn random_id() -> Result<String, CryptoError> {
    let mut bytes = GenerationId::default();
    fill(&mut bytes)?;
    Ok(HEXLOWER.encode(&bytes))
}
