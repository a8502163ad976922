//! Two files, between them a line of `%%%`, become a project or errors; a project can be written
//! as one file that is the same project.
#![no_main]

use std::fs;
use std::path::PathBuf;

use havre_model::{ConfigView, EnvironmentName, LoadOptions, config, load};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (first, second) = text.split_once("\n%%%\n").unwrap_or((text, "{}"));
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file in memory");
        path
    };
    let options = LoadOptions {
        directory: folder.path().to_owned(),
        files: vec![write("a.yaml", first), write("b.yaml", second)],
        project_name: Some("case".to_owned()),
        // Where an unset variable is a warning: most inputs have one.
        environment: Some(EnvironmentName::new("staging")),
        profiles: vec!["*".to_owned()],
        ..LoadOptions::default()
    };
    let mut shown = None;
    havre_fuzz::bounded(|| {
        let view = ConfigView {
            reveal: true,
            sources: true,
        };
        shown = config(&options, view).ok();
    });
    if let Some((loaded, shown)) = shown {
        let text = shown.to_yaml();
        let again = LoadOptions {
            files: Vec::<PathBuf>::from([write("c.yaml", &text)]),
            ..options
        };
        let again = load(&again).unwrap_or_else(|failure| panic!("{failure}\n{text}"));
        assert_eq!(loaded.project, again.project, "{text}");
    }
});
