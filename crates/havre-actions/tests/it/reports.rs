//! What would send reports elsewhere keeps them as artifacts.

use std::fs;

use crate::fake::Fake;
use crate::job::Job;

crate::tests![coverage_is_kept_and_not_sent, sarif_is_kept_and_not_sent];

const CODECOV: &str = "codecov/codecov-action";
const SARIF: &str = "github/codeql-action/upload-sarif";

fn coverage_is_kept_and_not_sent() {
    let mut job = Job::new();
    job.main(CODECOV, &[("fail_ci_if_error", "true")])
        .badly("no reports of coverage were found");
    let done = job.main(CODECOV, &[]).well();
    assert!(done.log.contains("::warning::no reports"), "{}", done.log);
    job.write("work/shop/web/lcov.info", "TN:");
    job.write("work/shop/odd.name", "x");
    job.write("work/shop/node_modules/a/coverage.xml", "of others");
    let done = job.main(CODECOV, &[("token", "t")]).well();
    assert!(
        done.log.contains("not uploaded to Codecov, and not kept"),
        "{}",
        done.log
    );
    let fake = Fake::of(&mut job);
    for name in ["coverage", "coverage-2"] {
        let done = job
            .main(
                CODECOV,
                &[("files", "./odd.name,gone.xml"), ("flags", "unit")],
            )
            .well();
        assert!(
            done.log.contains(&format!(
                "::warning::coverage is not uploaded to Codecov; it is in the artifact {name}"
            )),
            "{}",
            done.log
        );
        assert!(
            done.log.contains("there is no report gone.xml"),
            "{}",
            done.log
        );
    }
    assert_eq!(fake.kept.lock().unwrap().artifacts.len(), 2);
    job.main(
        "actions/download-artifact",
        &[("name", "coverage"), ("path", "got")],
    )
    .well();
    assert_eq!(job.read("work/shop/got/web/lcov.info"), "TN:");
    assert_eq!(job.read("work/shop/got/odd.name"), "x");
    assert!(!job.at("work/shop/got/node_modules").exists());
}

fn sarif_is_kept_and_not_sent() {
    let mut job = Job::new();
    let _fake = Fake::of(&mut job);
    job.main(SARIF, &[("sarif_file", "gone.sarif")])
        .badly("names no file of SARIF");
    job.write("work/results/deep/a.sarif", "{}");
    let done = job.main(SARIF, &[("category", "/lang:js")]).well();
    assert_eq!(done.output("sarif-id"), "1");
    assert!(
        done.log
            .contains("not uploaded to GitHub; it is in the artifact sarif--lang-js"),
        "{}",
        done.log
    );
    job.main(
        "actions/download-artifact",
        &[("name", "sarif--lang-js"), ("path", "got")],
    )
    .well();
    assert_eq!(
        fs::read(job.at("work/shop/got/deep/a.sarif")).unwrap(),
        b"{}"
    );
}
