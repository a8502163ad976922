//! That the subsystems answer for all that is declared.

use super::*;
use crate::fake::Stage;

/// Calls that nobody answers among these.
fn unanswered(stage: &Stage, parts: &[Part]) -> Vec<&'static str> {
    let parts = parts.iter();
    let built: Vec<_> = parts
        .map(|part| (part.build)(&stage.daemon, &stage.store))
        .collect();
    match calls(&stage.daemon, &built) {
        Ok(_) => Vec::new(),
        Err(DaemonError::Unanswered { calls }) => calls,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn every_declared_call_is_answered() {
    let stage = Stage::new();
    assert_eq!(unanswered(&stage, PARTS), [""; 0]);
    let without_images = unanswered(&stage, &PARTS[1..]);
    let image_calls = |path: &&str| path.contains("image");
    assert_eq!(
        without_images
            .iter()
            .filter(|path| image_calls(path))
            .count(),
        4
    );
    assert_eq!(without_images.len(), 4, "{without_images:?}");
}
