//! Answers from what the resolver knows.

use std::net::Ipv4Addr;

use super::message::{self, Transport};
use super::view::{Decision, View};

/// What questions are answered from.
#[derive(Default)]
pub struct Known {
    view: View,
    turn: usize,
}

impl Known {
    /// Takes over what holds from now on.
    pub fn replace(&mut self, view: View) {
        self.view = view;
    }

    /// The answer to a question, or `None` when it is to be passed on or ignored.
    pub fn answer(
        &mut self,
        question: &[u8],
        client: Ipv4Addr,
        gateway: Ipv4Addr,
        transport: Transport,
    ) -> Reply {
        let query = match message::parse(question) {
            Ok(query) => query,
            Err(unreadable) => {
                return unreadable.answer().map_or(Reply::Nothing, Reply::Now);
            }
        };
        let zone = self.view.zones.iter().find(|zone| zone.gateway == gateway);
        let Some(zone) = zone else {
            return Reply::Nothing;
        };
        self.turn = self.turn.wrapping_add(1);
        match self
            .view
            .decide(client, &zone.name, &query.name, query.kind, self.turn)
        {
            Decision::Answer(answers) => Reply::Now(query.answer(&answers, transport)),
            Decision::Empty(code) => Reply::Now(query.empty(code)),
            Decision::Forward => Reply::PassOn,
        }
    }
}

/// What is done with a message from a client.
pub enum Reply {
    /// Send this.
    Now(Vec<u8>),
    /// Ask the resolvers outside.
    PassOn,
    /// Ignore it.
    Nothing,
}
