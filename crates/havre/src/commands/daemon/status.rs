//! `havre daemon status`: what runs, since when, and what its tasks did last.

use havre_api::{DaemonInfo, RefusedCalls, TaskReport, Timestamp};

use super::answering;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::human::age;
use crate::paint::Paint;
use crate::table::Table;

pub async fn status(context: &Context, json: bool) -> Outcome {
    let client = context.client();
    let Some(info) = answering(&client).await? else {
        return Err(Failure::new(Exit::Unreachable, "no daemon runs")
            .hint("`havre up` starts one; `havre daemon install` has systemd start it at boot"));
    };
    if json {
        context.ui.json(&info)?;
    } else {
        context
            .ui
            .data(&render(&info, context.ui.out, Timestamp::now()))?;
    }
    Ok(Exit::Ok)
}

fn render(info: &DaemonInfo, paint: Paint, now: Timestamp) -> String {
    let edge = match &info.edge {
        Some(edge) => format!("{} (pid {})", edge.version, edge.pid),
        None => "does not answer".to_owned(),
    };
    let listens: Vec<String> = info
        .http
        .iter()
        .map(|address| format!("http://{address}"))
        .chain(
            info.https
                .iter()
                .map(|address| format!("https://{address}")),
        )
        .collect();
    let mut text = format!(
        "daemon  {} (pid {}), for {}\nedge    {edge}\nlistens {}\n",
        info.version,
        info.pid,
        age(info.since.age_at(now)),
        listens.join(", "),
    );
    if let Some(root) = &info.root {
        text.push_str(&format!("root    {}\n", root.display()));
    }
    if let Some(refused) = &info.refused
        && refused.unauthenticated + refused.limited > 0
    {
        text.push_str(&format!("refused {}\n", refused_calls(refused, now)));
    }
    let mut tasks = Table::new(["TASK", "RUNS FOR", "RESTARTS", "LAST RESULT"]);
    for task in &info.tasks {
        tasks.row([
            task.name.clone(),
            age(task.since.age_at(now)),
            task.restarts.to_string(),
            last(task, now),
        ]);
    }
    text.push('\n');
    text.push_str(&tasks.render(paint, ""));
    for problem in info.problems.iter().chain(&info.advice) {
        text.push_str(&format!("\n! {}\n", crate::table::printable(problem)));
    }
    text
}

fn refused_calls(refused: &RefusedCalls, now: Timestamp) -> String {
    let calls = crate::human::count(refused.unauthenticated, "call");
    let mut text = format!("{calls} without a token that holds");
    if refused.limited > 0 {
        text.push_str(&format!(", {} that were too many", refused.limited));
    }
    if let Some(at) = refused.last {
        text.push_str(&format!(", the last {} ago", age(at.age_at(now))));
    }
    if let Some(address) = refused.last_address {
        text.push_str(&format!(" from {address}"));
    }
    text
}

fn last(task: &TaskReport, now: Timestamp) -> String {
    match &task.last {
        None => "-".to_owned(),
        Some(last) => {
            let failed = if last.failed { "failed: " } else { "" };
            format!("{failed}{} ({} ago)", last.text, age(last.at.age_at(now)))
        }
    }
}

#[cfg(test)]
mod tests {
    use havre_api::{EdgeInfo, TaskResult};

    use super::*;

    #[test]
    fn what_runs_and_what_failed_is_told_on_one_screen() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let info = DaemonInfo {
            version: "0.1.0".to_owned(),
            pid: 7,
            root: None,
            since: at("2026-05-01T10:00:00Z"),
            http: vec!["0.0.0.0:80".parse().expect("an address")],
            https: vec!["0.0.0.0:443".parse().expect("an address")],
            given: None,
            edge: Some(EdgeInfo {
                pid: 8,
                version: "0.1.0".to_owned(),
            }),
            tasks: vec![TaskReport {
                name: "build cache".to_owned(),
                since: at("2026-05-01T10:00:00Z"),
                restarts: 2,
                last: Some(TaskResult {
                    at: at("2026-05-01T11:58:00Z"),
                    failed: true,
                    text: "its disk cannot be looked at".to_owned(),
                }),
            }],
            refused: Some(RefusedCalls {
                unauthenticated: 12,
                limited: 3,
                last: Some(at("2026-05-01T11:58:00Z")),
                last_address: "203.0.113.7".parse().ok(),
            }),
            problems: vec!["port 80 is taken".to_owned()],
            advice: vec!["add a slot".to_owned()],
        };
        let shown = render(&info, Paint::plain(), at("2026-05-01T12:00:00Z"));
        for part in [
            "daemon  0.1.0 (pid 7), for 2 h",
            "edge    0.1.0 (pid 8)",
            "listens http://0.0.0.0:80, https://0.0.0.0:443",
            "refused 12 calls without a token that holds, 3 that were too many, the last 2 min ago \
             from 203.0.113.7",
            "build cache",
            "failed: its disk cannot be looked at (2 min ago)",
            "! port 80 is taken",
            "! add a slot",
        ] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
    }
}
