//! `havre logs`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::str::FromStr;

use havre_api::{EnvironmentId, LogLine, LogQuery, Logs, Timestamp};
use havre_model::ServiceName;

use super::Context;
use crate::cli::LogsArgs;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::{padded, printable};
use crate::target::short_replica;
use crate::{connect, human};

/// `--tail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail(Option<u64>);

/// Reads `all` or a number.
pub fn parse_tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        _ => text
            .parse()
            .map(|lines| Tail(Some(lines)))
            .map_err(|_| "a number or all".to_owned()),
    }
}

/// Reads a time or an age.
pub fn parse_since(text: &str) -> Result<Timestamp, String> {
    if let Some(age) = human::parse_duration(text) {
        return Ok(Timestamp::ago(age));
    }
    Timestamp::from_str(text)
        .map_err(|_| "a time as 2024-05-01T10:00:00Z or an age as 90s, 15m, 2h, 3d".to_owned())
}

pub async fn run(context: &Context, args: LogsArgs) -> Outcome {
    let environment = args.project.environment()?;
    let (client, _) = connect::running(&context.root).await?;
    let query = LogQuery {
        environment: environment.clone(),
        services: args.services.iter().map(ServiceName::new).collect(),
        tail: args.tail.0,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn since_is_a_time_or_an_age() {
        let time = parse_since("2024-05-01T10:00:00+02:00").unwrap();
        assert_eq!(time.to_string(), "2024-05-01T08:00:00Z");
        let age = parse_since("15m").unwrap().age_at(Timestamp::now());
        assert!(
            (Duration::from_secs(899)..Duration::from_secs(960)).contains(&age),
            "{age:?}"
        );
        assert!(parse_since("yesterday").is_err());
    }

    #[test]
    fn tail_is_a_number_or_all() {
        assert_eq!(parse_tail("all"), Ok(Tail(None)));
        assert_eq!(parse_tail("20"), Ok(Tail(Some(20))));
        assert!(parse_tail("-1").is_err());
    }
}
