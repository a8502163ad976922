//! Sending what a project needs to a daemon elsewhere: build contexts, mounts of its own files, secrets.
//!
//! ```text
//! pack (paths of this machine ─► /@source/<tree>/…, secrets ─► their content) ─► transfer (what is lacking)
//! ```

use std::time::Duration;

use havre_api::{
    Client, ClientError, EnvironmentId, ErrorCode, LackingFile, MAX_PIECES, MAX_PIECES_BYTES,
    OfferedTree, SourceLack, SourceOffer, SourcePiece, SourcePieces, SourcesOffer, SourcesPut,
};
use havre_model::Project;
use havre_sources::{Digest, Snapshot};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::human;

mod pack;

use pack::Parcels;

/// How often a call is made again whose connection was lost, and the pauses before.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// How often it is asked what is lacking of one tree without that it has become less: others may send to the
/// same environment.
const ROUNDS: usize = 10;

/// Sends what the project needs, and has the project name it where it is then.
pub async fn send(
    context: &Context,
    client: &Client,
    project: &mut Project,
) -> Result<(), Failure> {
    let environment = EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    };
    let parcels = pack::pack(project, context.ui)?;
    let transfer = Transfer {
        context,
        client,
        environment,
    };
    transfer.all(&parcels).await.map_err(|failure| {
        let stays = "what was sent stays for a day: the same command goes on from there";
        match &failure.hint {
            Some(_) => failure,
            None => failure.hint(stays),
        }
    })
}

/// Has a project name what it needs by what that holds, and sends nothing.
pub fn name(context: &Context, project: &mut Project) -> Result<(), Failure> {
    pack::pack(project, context.ui).map(drop)
}

/// The contents of configs go with the project.
pub fn take_configs(project: &mut Project) -> Result<(), Failure> {
    let mut configs = project.configs.iter_mut();
    configs.try_for_each(|(name, source)| pack::content(name, source))
}

struct Transfer<'a> {
    context: &'a Context,
    client: &'a Client,
    environment: EnvironmentId,
}

impl Transfer<'_> {
    /// Where all is there already, one short question.
    async fn all(&self, parcels: &Parcels) -> Result<(), Failure> {
        if parcels.trees.is_empty() {
            return Ok(());
        }
        let names = parcels.trees.keys().map(|id| OfferedTree {
            id: *id,
            tree: None,
        });
        let unknown = self.offer(names.collect()).await?.unknown;
        for id in unknown {
            if let Some(snapshot) = parcels.trees.get(&id) {
                self.tree(id, snapshot).await?;
            }
        }
        Ok(())
    }

    async fn tree(&self, id: Digest, snapshot: &Snapshot) -> Result<(), Failure> {
        let mut rounds = Rounds::default();
        loop {
            let tree = Some(snapshot.tree.clone());
            let lack = self.offer(vec![OfferedTree { id, tree }]).await?;
            if lack.lacking.is_empty() {
                return Ok(());
            }
            let left_bytes = left_bytes(snapshot, &lack.lacking);
            if rounds.least_bytes.is_none() {
                self.tell(snapshot, lack.lacking.len(), left_bytes);
            }
            let in_vain = rounds.in_vain(left_bytes);
            match self.files(snapshot, &lack.lacking).await? {
                Sent::Lost(error) => match PAUSES.get(in_vain) {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err((*error).into()),
                },
                Sent::Elsewhere | Sent::All if in_vain >= ROUNDS => break,
                Sent::Elsewhere | Sent::All => {}
            }
        }
        let message = format!("{} is being changed by somebody else", self.environment);
        Err(Failure::new(Exit::Busy, message).hint("run the command again"))
    }

    fn tell(&self, snapshot: &Snapshot, lacking: usize, left_bytes: u64) {
        let files = human::count(lacking as u64, "file");
        let all = snapshot.tree.entries.len();
        self.context.ui.say(&format!(
            "sending {files} of {all} ({})",
            human::size(left_bytes)
        ));
    }

    /// Sends files from where the server has them on. It ends early where somebody else sends them too.
    async fn files(&self, snapshot: &Snapshot, lacking: &[LackingFile]) -> Result<Sent, Failure> {
        let mut pieces = Vec::new();
        let mut bytes = 0;
        for file in lacking {
            let Some(found) = snapshot.file(&file.digest) else {
                let message = format!("the server asks for a file {} of others", file.digest);
                return Err(Failure::new(Exit::Failed, message));
            };
            let mut offset = file.have_bytes;
            while offset < found.size_bytes {
                let piece = found.read(offset, MAX_PIECES_BYTES - bytes);
                let piece = piece.map_err(|error| pack::failed(&error))?;
                bytes += piece.len();
                let next = offset + piece.len() as u64;
                pieces.push(SourcePiece {
                    digest: file.digest,
                    offset,
                    bytes: piece,
                });
                offset = next;
                if bytes >= MAX_PIECES_BYTES || pieces.len() >= MAX_PIECES {
                    match self.put(std::mem::take(&mut pieces)).await? {
                        Sent::All => bytes = 0,
                        ended => return Ok(ended),
                    }
                }
            }
        }
        match pieces.is_empty() {
            true => Ok(Sent::All),
            false => self.put(pieces).await,
        }
    }

    async fn offer(&self, trees: Vec<OfferedTree>) -> Result<SourceLack, Failure> {
        let request = SourceOffer {
            environment: self.environment.clone(),
            trees,
        };
        let mut pauses = PAUSES.iter();
        loop {
            match self.client.call::<SourcesOffer>(&request).await {
                Err(error) if is_lost(&error) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(error.into()),
                },
                answer => return answer.map_err(Failure::from),
            }
        }
    }

    async fn put(&self, pieces: Vec<SourcePiece>) -> Result<Sent, Failure> {
        let request = SourcePieces {
            environment: self.environment.clone(),
            pieces,
        };
        match self.client.call::<SourcesPut>(&request).await {
            Ok(_) => Ok(Sent::All),
            Err(error) if is_lost(&error) => Ok(Sent::Lost(Box::new(error))),
            Err(ClientError::Refused(error)) if error.code == ErrorCode::Conflict => {
                Ok(Sent::Elsewhere)
            }
            Err(ClientError::Refused(error)) if error.code == ErrorCode::Invalid => {
                let hint = "files were changed while they were sent: run the command again";
                Err(Failure::from(error).hint(hint))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What became of pieces.
#[derive(Debug)]
enum Sent {
    /// The server has them.
    All,
    /// It has more or less of them by now, and has to be asked again.
    Elsewhere,
    /// The way there failed: what of them has arrived only the server knows.
    Lost(Box<ClientError>),
}

/// How far one tree is. A large one over a bad line takes any number of rounds, as long as each gets it on.
#[derive(Debug, Default)]
struct Rounds {
    /// The least that was ever left; `None`: it was not asked yet.
    least_bytes: Option<u64>,
    in_vain: usize,
}

impl Rounds {
    /// How many rounds in a row have come to nothing, now that so much is left.
    fn in_vain(&mut self, left_bytes: u64) -> usize {
        match self.least_bytes {
            Some(least) if left_bytes >= least => self.in_vain += 1,
            _ => (self.least_bytes, self.in_vain) = (Some(left_bytes), 0),
        }
        self.in_vain
    }
}

fn left_bytes(snapshot: &Snapshot, lacking: &[LackingFile]) -> u64 {
    let left = lacking.iter().filter_map(|file| {
        let found = snapshot.file(&file.digest)?;
        Some(found.size_bytes.saturating_sub(file.have_bytes))
    });
    left.sum()
}

/// Whether the way there failed, and not what was asked.
fn is_lost(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::TimedOut { .. }
        | ClientError::Lost { .. }
        | ClientError::CutShort => true,
        ClientError::Garbled { .. } | ClientError::Refused(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_get_it_on_are_not_counted() {
        let mut rounds = Rounds::default();
        let counted = [90, 80, 80, 85, 70, 70, 60].map(|left| rounds.in_vain(left));
        assert_eq!(counted, [0, 0, 1, 2, 0, 1, 0]);
    }
}
