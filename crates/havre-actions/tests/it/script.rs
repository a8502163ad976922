//! `actions/github-script`, with the machine's Node.js.

use std::process::Command;

use crate::job::Job;

crate::tests![
    a_script_has_what_it_needs_around_it,
    a_script_that_fails_fails_the_step,
    without_node_it_says_so
];

const SCRIPT: &str = "actions/github-script";

fn has_node() -> bool {
    let there = Command::new("node")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: needs node");
    }
    there
}

fn a_script_has_what_it_needs_around_it() {
    if !has_node() {
        return;
    }
    let mut job = Job::new();
    job.set(
        "GITHUB_EVENT_PATH",
        job.write("event.json", r#"{"issue":{"number":7}}"#)
            .to_str()
            .unwrap(),
    );
    job.write("work/shop/own.js", "module.exports = 'own';");
    let script = "
        core.setOutput('number', context.issue.number);
        core.exportVariable('NAME', `${context.repo.owner}/${context.repo.repo}`);
        core.addPath('/x');
        core.setSecret('hush\\n%');
        core.warning('careful', { file: 'a,b.js', startLine: 3 });
        await core.summary.addHeading('Done').write();
        await core.group('title', async () => core.info('inside'));
        return { own: require('./own.js'), cwd: process.cwd() };
    ";
    let done = job.main(SCRIPT, &[("script", script)]).well();
    assert_eq!(done.output("number"), "7");
    assert_eq!(
        done.output("result"),
        format!(
            r#"{{"own":"own","cwd":"{}"}}"#,
            job.at("work/shop").display()
        )
    );
    assert_eq!(done.env["NAME"], "acme/shop");
    assert_eq!(done.path, ["/x"]);
    assert_eq!(job.read("commands/GITHUB_STEP_SUMMARY"), "<h1>Done</h1>\n");
    for line in [
        "::add-mask::hush%0A%25",
        "::warning file=a%2Cb.js,line=3::careful",
        "::group::title",
        "inside",
        "::endgroup::",
    ] {
        assert!(
            done.log.lines().any(|told| told == line),
            "{line}: {}",
            done.log
        );
    }
    let done = job
        .main(
            SCRIPT,
            &[("script", "return 'plain'"), ("result-encoding", "string")],
        )
        .well();
    assert_eq!(done.output("result"), "plain");
    assert_eq!(
        std::fs::read_dir(job.at("temp")).unwrap().count(),
        0,
        "the shim is removed"
    );
}

fn a_script_that_fails_fails_the_step() {
    if !has_node() {
        return;
    }
    let job = Job::new();
    let done = job.main(
        SCRIPT,
        &[("script", "await github.rest.issues.listForRepo({})")],
    );
    assert!(
        done.log
            .contains("github.rest is not there in a job of Havre"),
        "{}",
        done.log
    );
    done.badly("`node` ended with exit status: 1");
    job.main(SCRIPT, &[("script", "core.setFailed('no')")])
        .badly("`node` ended");
    job.main(SCRIPT, &[("script", "this is no script")])
        .badly("`node` ended");
    job.main(SCRIPT, &[]).badly("needs the input `script`");
    job.main(SCRIPT, &[("script", "1"), ("result-encoding", "xml")])
        .badly("must be json or string");
}

fn without_node_it_says_so() {
    let mut job = Job::new();
    job.set("PATH", "/nowhere");
    job.main(SCRIPT, &[("script", "1")])
        .badly("put `actions/setup-node` before");
}
