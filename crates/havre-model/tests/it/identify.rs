//! The names alone, where the rest of the files is wrong.

use havre_model::{LoadOptions, identify, load};

#[test]
fn an_unset_variable_does_not_hide_what_runs_already() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("compose.yaml");
    let text = "name: shop\nservices: {web: {image: '${IMAGE:?unset}', no_such_key: 1}}\n";
    std::fs::write(file, text).unwrap();
    let options = LoadOptions {
        directory: folder.path().to_owned(),
        ..LoadOptions::default()
    };
    assert!(load(&options).is_err());
    let (project, environment) = identify(&options).unwrap();
    assert_eq!(
        (project.as_str(), environment.as_str()),
        ("shop", "production")
    );
}

#[test]
fn a_folder_without_a_project_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = LoadOptions {
        directory: folder.path().to_owned(),
        ..LoadOptions::default()
    };
    let failure = identify(&options).unwrap_err();
    assert_eq!(failure.errors[0].code, "compose/no-file");
}
