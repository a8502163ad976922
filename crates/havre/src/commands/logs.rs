//! `havre logs`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use havre_api::{EnvironmentId, LogLine, LogQuery, Logs};
use havre_model::ServiceName;

use crate::cli::LogsArgs;
use crate::connect;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::{padded, printable};
use crate::target::short_replica;

pub async fn run(context: &Context, args: LogsArgs) -> Outcome {
    let environment = args.project.environment()?;
    let (client, _) = connect::running(context).await?;
    let query = LogQuery {
        environment: environment.clone(),
        services: args.services.iter().map(ServiceName::new).collect(),
        tail: args.tail.lines(),
        since: args.since,
        follow: args.follow,
    };
    let mut lines = client.feed::<Logs>(&query).await?;
    let mut writer = Writer {
        environment,
        json: args.json.json,
        timestamps: args.timestamps,
        prefix: !args.no_prefix,
        paint: context.ui.out,
        tame: std::io::stdout().is_terminal(),
        replicas: BTreeMap::new(),
        width: 0,
    };
    while let Some(line) = lines.next().await? {
        context.ui.data(&writer.render(&line)?)?;
    }
    Ok(Exit::Ok)
}

/// Turns lines into text; remembers replicas, so that each keeps its colour.
struct Writer {
    environment: EnvironmentId,
    json: bool,
    timestamps: bool,
    prefix: bool,
    paint: Paint,
    /// What would move a terminal's cursor, or worse, is left out.
    tame: bool,
    /// Order of appearance.
    replicas: BTreeMap<String, usize>,
    /// Columns of the widest replica so far.
    width: usize,
}

impl Writer {
    fn render(&mut self, line: &LogLine) -> std::io::Result<String> {
        if self.json {
            return Ok(format!("{}\n", serde_json::to_string(line)?));
        }
        let mut text = String::new();
        if self.prefix {
            let next = self.replicas.len();
            let index = *self.replicas.entry(line.replica.clone()).or_insert(next);
            let name = short_replica(&line.replica, &self.environment);
            self.width = self.width.max(name.len());
            let prefix = format!("{} |", padded(name, self.width));
            text.push_str(&self.paint.one_of(index, &prefix));
            text.push(' ');
        }
        if self.timestamps {
            text.push_str(&self.paint.dim(&format!("{:.3}", line.at)));
            text.push(' ');
        }
        match self.tame {
            true => text.push_str(&printable(&line.text)),
            false => text.push_str(&line.text),
        }
        // As it was printed, where nothing is added to it.
        if self.prefix || self.timestamps || !line.partial {
            text.push('\n');
        }
        Ok(text)
    }
}
