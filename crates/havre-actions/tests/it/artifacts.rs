//! `actions/upload-artifact` and `actions/download-artifact`, against a strict fake of the service.

use std::fs;

use crate::fake::Fake;
use crate::job::Job;

crate::tests![
    an_artifact_is_uploaded_and_downloaded,
    names_begin_where_all_places_have_in_common,
    without_files_it_is_as_was_asked_for,
    a_name_is_taken_once_unless_overwritten,
    one_file_goes_as_it_is,
    artifacts_are_chosen_by_name_pattern_and_id,
    another_content_than_was_kept_is_an_error,
    other_runs_and_merging_are_refused,
];

const UPLOAD: &str = "actions/upload-artifact";
const DOWNLOAD: &str = "actions/download-artifact";

fn job() -> (Job, Fake) {
    let mut job = Job::new();
    let fake = Fake::of(&mut job);
    job.write("work/shop/dist/web/index.html", "<html>");
    job.write("work/shop/dist/.env", "hidden");
    job.write("work/shop/report.txt", "fine");
    (job, fake)
}

/// Files of a folder, from it.
fn files(job: &Job, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![job.at(folder)];
    while let Some(place) = left.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(
                    path.strip_prefix(job.at(folder))
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    found.sort();
    found
}

fn an_artifact_is_uploaded_and_downloaded() {
    let (job, fake) = job();
    let done = job
        .main(
            UPLOAD,
            &[("name", "site"), ("path", "dist"), ("retention-days", "3")],
        )
        .well();
    assert_eq!(done.output("artifact-id"), "1");
    assert_eq!(
        done.output("artifact-url"),
        "https://shop.localhost/acme/shop/actions/runs/7/artifacts/1"
    );
    assert_eq!(done.output("artifact-digest").len(), 64);
    let begun = fake.kept.lock().unwrap().begun[0].clone();
    assert_eq!(
        (begun["version"].as_u64(), begun["mime_type"].as_str()),
        (Some(7), Some("application/zip"))
    );
    assert!(begun["expires_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        fake.calls(),
        [
            "CreateArtifact",
            "PUT block",
            "PUT blocklist",
            "FinalizeArtifact"
        ]
    );

    let done = job
        .main(DOWNLOAD, &[("name", "site"), ("path", "~/got")])
        .well();
    assert_eq!(
        done.output("download-path"),
        job.at("home/got").to_str().unwrap()
    );
    assert_eq!(files(&job, "home/got"), ["web/index.html"]);
    assert_eq!(job.read("home/got/web/index.html"), "<html>");
    assert_eq!(
        fs::read_dir(job.at("temp")).unwrap().count(),
        0,
        "scratch files are removed"
    );
}

fn names_begin_where_all_places_have_in_common() {
    let check = |path: &str, more: &[(&str, &str)], expected: &[&str]| {
        let (job, _fake) = job();
        job.main(UPLOAD, &[&[("path", path)], more].concat()).well();
        job.main(DOWNLOAD, &[("name", "artifact"), ("path", "../got")])
            .well();
        assert_eq!(files(&job, "work/got"), expected, "{path}");
    };
    check("dist", &[], &["web/index.html"]);
    check("dist/web/index.html", &[], &["index.html"]);
    check("dist/**/*.html", &[], &["web/index.html"]);
    check(
        "dist\nreport.txt",
        &[],
        &["dist/web/index.html", "report.txt"],
    );
    check(
        "dist",
        &[("include-hidden-files", "true")],
        &[".env", "web/index.html"],
    );
    check(
        ".\n!dist/**",
        &[("compression-level", "0")],
        &["report.txt"],
    );
}

fn without_files_it_is_as_was_asked_for() {
    let (job, fake) = job();
    let done = job.main(UPLOAD, &[("path", "gone")]).well();
    assert!(
        done.log.contains("::warning::no files were found"),
        "{}",
        done.log
    );
    let done = job
        .main(UPLOAD, &[("path", "gone"), ("if-no-files-found", "ignore")])
        .well();
    assert!(!done.log.contains("::warning::"), "{}", done.log);
    job.main(UPLOAD, &[("path", "gone"), ("if-no-files-found", "error")])
        .badly("no files were found");
    job.main(UPLOAD, &[("path", "gone"), ("if-no-files-found", "what")])
        .badly("must be warn, error or ignore");
    assert_eq!(fake.calls(), Vec::<String>::new());
}

fn a_name_is_taken_once_unless_overwritten() {
    let (job, fake) = job();
    let inputs = [("name", "site"), ("path", "report.txt")];
    job.main(UPLOAD, &inputs).well();
    job.main(UPLOAD, &inputs)
        .badly("there is an artifact `site` in this run already");
    job.write("work/shop/report.txt", "better");
    job.main(UPLOAD, &[inputs[0], inputs[1], ("overwrite", "true")])
        .well();
    job.main(
        UPLOAD,
        &[("name", "other"), inputs[1], ("overwrite", "true")],
    )
    .well();
    job.main(DOWNLOAD, &[("name", "site"), ("path", "got")])
        .well();
    assert_eq!(job.read("work/shop/got/report.txt"), "better");
    job.main(UPLOAD, &[("name", "a/b"), inputs[1]])
        .badly("cannot be the name of an artifact");
    drop(fake);
}

fn one_file_goes_as_it_is() {
    let (job, fake) = job();
    job.main(UPLOAD, &[("path", "report.txt"), ("archive", "false")])
        .well();
    assert_eq!(fake.kept.lock().unwrap().artifacts["report.txt"].2, b"fine");
    job.main(DOWNLOAD, &[("name", "report.txt"), ("path", "got")])
        .well();
    assert_eq!(job.read("work/shop/got/report.txt"), "fine");
    job.main(
        UPLOAD,
        &[("path", "report.txt\ndist"), ("archive", "false")],
    )
    .badly("is for one file");
    // An archive is not unpacked, if so asked.
    job.main(UPLOAD, &[("name", "zip"), ("path", "report.txt")])
        .well();
    job.main(
        DOWNLOAD,
        &[
            ("name", "zip"),
            ("path", "raw"),
            ("skip-decompress", "true"),
        ],
    )
    .well();
    assert!(
        fs::read(job.at("work/shop/raw/zip"))
            .unwrap()
            .starts_with(b"PK")
    );
}

fn artifacts_are_chosen_by_name_pattern_and_id() {
    let (job, _fake) = job();
    for name in ["log-a", "log-b", "site"] {
        job.write("work/shop/of.txt", name);
        job.main(UPLOAD, &[("name", name), ("path", "of.txt")])
            .well();
    }
    let check = |inputs: &[(&str, &str)], expected: &[&str]| {
        job.main(DOWNLOAD, &[&[("path", "../got")], inputs].concat())
            .well();
        assert_eq!(files(&job, "work/got"), expected, "{inputs:?}");
        fs::remove_dir_all(job.at("work/got")).unwrap();
    };
    check(&[], &["log-a/of.txt", "log-b/of.txt", "site/of.txt"]);
    check(&[("pattern", "log-*")], &["log-a/of.txt", "log-b/of.txt"]);
    check(
        &[("pattern", "log-*"), ("merge-multiple", "true")],
        &["of.txt"],
    );
    check(&[("pattern", "none-*")], &[]);
    check(&[("artifact-ids", "3")], &["of.txt"]);
    check(
        &[("artifact-ids", "1, 3")],
        &["log-a/of.txt", "site/of.txt"],
    );
    job.main(DOWNLOAD, &[("name", "gone")])
        .badly("there is no artifact `gone` in this run; there are: log-a, log-b, site");
    job.main(DOWNLOAD, &[("artifact-ids", "9")])
        .badly("not of this run");
    job.main(DOWNLOAD, &[("artifact-ids", "1"), ("name", "site")])
        .badly("not both");
}

fn another_content_than_was_kept_is_an_error() {
    let (job, fake) = job();
    job.main(UPLOAD, &[("path", "report.txt")]).well();
    fake.kept.lock().unwrap().digest = Some(format!("sha256:{}", "0".repeat(64)));
    job.main(DOWNLOAD, &[("name", "artifact"), ("path", "got")])
        .badly("but was kept as sha256:000");
    assert_eq!(files(&job, "work/shop/got"), Vec::<String>::new());
    let done = job
        .main(
            DOWNLOAD,
            &[
                ("name", "artifact"),
                ("path", "got"),
                ("digest-mismatch", "warn"),
            ],
        )
        .well();
    assert!(done.log.contains("::warning::the artifact"), "{}", done.log);
}

fn other_runs_and_merging_are_refused() {
    let (mut job, _fake) = job();
    job.main(DOWNLOAD, &[("run-id", "8")])
        .badly("must be those of this run");
    job.main(DOWNLOAD, &[("repository", "acme/other")])
        .badly("must be those of this run");
    job.main(DOWNLOAD, &[("github-token", "t")])
        .badly("artifacts of the own run only");
    job.main(DOWNLOAD, &[("run-id", "7"), ("repository", "acme/shop")])
        .well();
    job.main("actions/upload-artifact/merge", &[])
        .badly("`pattern` and `merge-multiple: true`");
    job.vars.remove("ACTIONS_RESULTS_URL");
    job.main(UPLOAD, &[("path", "dist")])
        .badly("this run keeps no artifacts");
}
