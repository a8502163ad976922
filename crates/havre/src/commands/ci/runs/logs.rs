//! `havre ci logs`: read, or followed over restarts of the daemon.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use havre_api::{
    Client, ClientError, ErrorCode, MAX_RUN_MARKS, RunLegId, RunLog, RunLogItem, RunLogMark,
    RunLogQuery, RunLogSaid, RunLogsRemove, RunQuery,
};

use super::project;
use crate::cli::JsonArg;
use crate::cli::runs::RunLogsArgs;
use crate::commands::ci::view::View;
use crate::connect;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::target::ProjectArgs;
use crate::ui::Ui;

/// How long a daemon may be away.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long until it is asked again.
const AGAIN: Duration = Duration::from_millis(250);

pub async fn run(context: &Context, args: RunLogsArgs) -> Outcome {
    let query = RunLogQuery {
        project: project(&args.project)?,
        number: args.number.unwrap_or_default(),
        job: args.job,
        index: args.leg,
        attempt: args.attempt,
        follow: args.follow,
        from: Vec::new(),
    };
    let (client, _) = connect::running(context).await?;
    let mut reader = Reader {
        ui: context.ui,
        json: args.json.json,
        view: View::new(context.ui.out, &[]),
        marks: BTreeMap::new(),
        noted: HashSet::new(),
        lost: None,
    };
    reader.read(&client, query).await?;
    Ok(Exit::Ok)
}

pub async fn remove(context: &Context, number: u64, args: &ProjectArgs, json: JsonArg) -> Outcome {
    let query = RunQuery {
        project: project(args)?,
        number,
    };
    let (client, _) = connect::running(context).await?;
    let removed = client.call::<RunLogsRemove>(&query).await?;
    match json.json {
        true => context.ui.json(&removed)?,
        false => context
            .ui
            .note(&format!("the logs of run {number} are removed")),
    }
    Ok(Exit::Ok)
}

/// Shows what comes, and knows how far it is.
struct Reader {
    ui: Ui,
    json: bool,
    view: View,
    /// Behind what was shown of each leg.
    marks: BTreeMap<RunLegId, u64>,
    /// What was said beside the logs: it is said again to who goes on.
    noted: HashSet<(RunLegId, String)>,
    /// Since when nothing came, as the daemon is away.
    lost: Option<Instant>,
}

impl Reader {
    /// Reads to the end. Where the connection is lost, it goes on from where it was.
    async fn read(&mut self, client: &Client, query: RunLogQuery) -> Result<(), Failure> {
        loop {
            let marks = self.marks.iter().take(MAX_RUN_MARKS);
            let from = marks.map(|(leg, next)| RunLogMark {
                leg: leg.clone(),
                next: *next,
            });
            let query = RunLogQuery {
                from: from.collect(),
                ..query.clone()
            };
            let error = match self.read_once(client, &query).await {
                Ok(()) => return Ok(()),
                Err(Broken::Here(failure)) => return Err(failure),
                Err(Broken::There(error)) => error,
            };
            // More places than a daemon takes to go on from would be read twice.
            let can_go_on = self.marks.len() <= MAX_RUN_MARKS && passes(&error);
            if self.lost.is_none() && can_go_on {
                self.ui.say("lost the daemon; going on once it is back");
            }
            let lost = *self.lost.get_or_insert_with(Instant::now);
            if !can_go_on || lost.elapsed() > PATIENCE {
                return Err(error.into());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn read_once(&mut self, client: &Client, query: &RunLogQuery) -> Result<(), Broken> {
        let mut items = client.feed::<RunLog>(query).await?;
        while let Some(item) = items.next().await? {
            self.lost = None;
            self.show(&item)
                .map_err(|error| Broken::Here(error.into()))?;
        }
        Ok(())
    }

    fn show(&mut self, item: &RunLogItem) -> std::io::Result<()> {
        let mut text = String::new();
        match &item.said {
            RunLogSaid::Told { told, next } => {
                for told in told {
                    if self.json {
                        let line = serde_json::json!({
                            "leg": item.name,
                            "attempt": item.leg.attempt,
                            "told": told,
                        });
                        text.push_str(&format!("{line}\n"));
                        continue;
                    }
                    for line in self.view.lines(&item.name, told) {
                        text.push_str(&format!("{line}\n"));
                    }
                }
                self.ui.data(&text)?;
                self.marks.insert(item.leg.clone(), *next);
                return Ok(());
            }
            RunLogSaid::Waits { why } => self.note(item, format!("waits: {why}"), &mut text),
            RunLogSaid::Ended { why } => self.note(item, why.clone(), &mut text),
        }
        self.ui.data(&text)
    }

    fn note(&mut self, item: &RunLogItem, note: String, text: &mut String) {
        if !self.noted.insert((item.leg.clone(), note.clone())) {
            return;
        }
        let line = match self.json {
            true => serde_json::json!({
                "leg": item.name,
                "attempt": item.leg.attempt,
                "note": note,
            })
            .to_string(),
            false => self.view.note(&item.name, &note),
        };
        text.push_str(&format!("{line}\n"));
    }
}

/// Why reading ended before its end.
enum Broken {
    /// Nobody reads what is shown.
    Here(Failure),
    There(ClientError),
}

impl From<ClientError> for Broken {
    fn from(error: ClientError) -> Self {
        Self::There(error)
    }
}

/// Whether it may go on once the daemon is back.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::TimedOut { .. }
        | ClientError::Lost { .. }
        | ClientError::CutShort => true,
        ClientError::Garbled { .. } => false,
        ClientError::Refused(error) => error.code == ErrorCode::Unavailable,
    }
}
