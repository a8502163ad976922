//! What is kept, for how long, and how it is read.

use std::time::{Duration, Instant};

use havre_job::Told;
use havre_runs::{Conclusion, Filter, LegId, LegKey, Settings};

use crate::world::{Does, Stage, World};

const ONE: &str = "on: push\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n";

fn key(run: havre_runs::RunId) -> LegKey {
    LegKey {
        run,
        leg: LegId {
            job: "a".to_owned(),
            index: 0,
            attempt: 1,
        },
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_is_followed_while_it_grows_and_cut_where_it_is_too_long() {
    let settings = Settings {
        log_bytes: 250,
        ..Settings::default()
    };
    let stage = Stage::new(World::new(&[("ci.yml", ONE)]), settings);
    stage.world.does("a", Does::Holds);
    let run = stage.push().await;
    let mut log = stage.runs.log(key(run), 0, true).unwrap();
    let part = log.next().await.unwrap().unwrap();
    let (mut told, from) = (part.told, part.next);
    // What follows is told again from its beginning.
    let stage = stage.again().await;
    let mut log = stage.runs.log(key(run), from, true).unwrap();
    stage.world.let_go("a");
    while let Some(part) = log.next().await.unwrap() {
        told.extend(part.told);
    }
    let lines = told.iter().filter_map(|told| match told {
        Told::Line { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[2].contains("what comes behind is not kept"),
        "{lines:?}"
    );
    assert_eq!(stage.ended(run).await, Conclusion::Success);
    stage
        .until("it is let go", || stage.runs.watch(run).is_none())
        .await;
    stage.runs.remove_logs(run).unwrap();
    let mut log = stage.runs.log(key(run), 0, true).unwrap();
    assert!(log.next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_runs_are_listed_quickly_and_the_oldest_forgotten() {
    let settings = Settings {
        kept_runs: 300,
        ..Settings::default()
    };
    let stage = Stage::new(World::new(&[("ci.yml", ONE)]), settings);
    let mut last = stage.push().await;
    for _ in 1..1000 {
        stage.ended(last).await;
        last = stage.push().await;
    }
    stage.ended(last).await;
    let began = Instant::now();
    let page = stage
        .runs
        .list("shop", &Filter::default(), None, 50)
        .unwrap();
    let took = began.elapsed();
    assert_eq!(page.len(), 50);
    assert_eq!(page[0].number, Some(1000));
    let next = stage
        .runs
        .list("shop", &Filter::default(), Some(page[49].id), 50)
        .unwrap();
    assert_eq!(next[0].number, Some(950));
    assert!(took < Duration::from_millis(100), "{took:?}");
    tokio::time::sleep(Duration::from_secs(3700)).await;
    let kept = || stage.runs.numbered("shop", 700).unwrap().is_none();
    stage.until("old runs are forgotten", kept).await;
    assert!(stage.runs.numbered("shop", 701).unwrap().is_some());
    let logs = std::fs::read_dir(stage.dir.path().join("logs/shop")).unwrap();
    assert_eq!(logs.count(), 300);
    stage.runs.forget_project("shop").unwrap();
    let left = stage
        .runs
        .list("shop", &Filter::default(), None, 1)
        .unwrap();
    assert_eq!(left, []);
    let next = stage.push().await;
    assert_eq!(stage.runs.show(next).unwrap().run.number, Some(1001));
}
