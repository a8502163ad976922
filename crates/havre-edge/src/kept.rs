//! Listening sockets that outlive the edge: while somebody holds duplicates of them, the kernel goes on
//! queueing connections after an edge was killed, and the next edge accepts them.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use socket2::{Domain, Socket, Type};

use crate::handover::{self, HandoverError, Heritage};
use crate::listen::{Wanted, wanted};
use crate::state::EdgeState;

/// Duplicates of an edge's listening sockets. Nobody accepts from them: whoever holds them drops
/// them with the edge that he does not replace, or clients wait in vain.
#[derive(Debug, Default)]
pub struct KeptSockets {
    listeners: Vec<(Wanted, Vec<Socket>)>,
}

/// Sockets were not obtained.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the edge's listening sockets")]
pub struct KeepError(#[source] HandoverError);

impl KeptSockets {
    /// Those of the edge whose run directory this is; none where no edge runs. Blocks while the edge
    /// does not answer, for seconds at most.
    pub fn of_edge(run: &Path) -> Result<Self, KeepError> {
        let Some((heritage, edge)) = handover::ask(run).map_err(KeepError)? else {
            return Ok(Self::default());
        };
        let left = edge.leave().map_err(HandoverError::Exchange);
        left.map_err(KeepError)?;
        Ok(Self {
            listeners: heritage.listeners,
        })
    }

    /// Drops those that a state does not listen on. To be called before it is pushed: an edge closes
    /// them, and nobody would accept from the duplicates.
    pub fn retain(&mut self, state: &EdgeState) {
        let wanted = wanted(state);
        self.listeners.retain(|(one, _)| wanted.contains(one));
    }

    /// Passes them on to an edge that is to be started with `--inherit`: its standard input.
    pub fn pass_on(self) -> io::Result<OwnedFd> {
        let (here, there) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        handover::limit_steps(&here)?;
        let heritage = Heritage {
            listeners: self.listeners,
            lock: None,
        };
        // In a thread of its own, since there may be more of them than the kernel queues.
        std::thread::Builder::new()
            .name("edge-sockets".to_owned())
            .stack_size(handover::STACK)
            .spawn(move || {
                // Where this fails, the edge notices the end of the stream and does not start.
                drop(handover::send_all(&here, &heritage));
            })?;
        Ok(there.into())
    }
}

/// What [`KeptSockets::pass_on`] sends to this process.
pub fn inherit() -> Result<Heritage, HandoverError> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    let connection = Socket::from(input.map_err(HandoverError::Exchange)?);
    handover::limit_steps(&connection).map_err(HandoverError::Exchange)?;
    handover::receive_all(&connection).map(|(heritage, _)| heritage)
}
