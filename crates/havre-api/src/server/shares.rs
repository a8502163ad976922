//! Whose a call is, and so much for each of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use havre_base::network;
use tokio::sync::Semaphore;

use crate::*;

/// Who shares with nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    Owner,
    User(u32),
    Token(String),
    /// However often they log in.
    Person {
        issuer: String,
        subject: String,
    },
    /// Of whom nobody knows more.
    Network(Option<IpAddr>),
}

impl Asker {
    pub(super) fn of(asked: &Asked) -> Self {
        match &asked.principal.who {
            Who::Local(LocalPeer { uid: 0, .. }) => Self::Owner,
            Who::Local(peer) => Self::User(peer.uid),
            Who::Token { id, .. } => Self::Token(id.clone()),
            Who::Login {
                issuer, subject, ..
            } => Self::Person {
                issuer: issuer.clone(),
                subject: subject.clone(),
            },
            Who::Nobody => Self::Network(asked.address.map(network)),
        }
    }
}

/// What each has: it is there as long as somebody has some of it.
#[derive(Debug)]
pub(super) struct Shares {
    each: usize,
    all: Mutex<HashMap<Asker, Weak<Semaphore>>>,
}

impl Shares {
    pub(super) fn new(each: usize) -> Self {
        let all = Mutex::default();
        Self { each, all }
    }

    /// That of one. It is never closed.
    pub(super) fn of(&self, who: Asker) -> Arc<Semaphore> {
        // The map is whole after every statement.
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = all.get(&who).and_then(Weak::upgrade) {
            return share;
        }
        all.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.each));
        all.insert(who, Arc::downgrade(&share));
        share
    }
}
