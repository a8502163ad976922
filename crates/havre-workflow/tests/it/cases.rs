//! What is said about broken workflows, and where.

use std::path::Path;

use havre_workflow::{Limits, Read, read};

/// Findings, a line each: place, severity, code, message, and the hint.
fn findings(text: &str) -> String {
    let path = Path::new("/p/ci.yml");
    let found = match read(Path::new("/p"), path, text, &Limits::default()) {
        Ok(Read { warnings, .. }) => warnings,
        Err(failure) => failure.errors.into_iter().chain(failure.warnings).collect(),
    };
    let lines = found.iter().map(|finding| {
        let place = finding.location.as_ref();
        let place = place.map_or(String::new(), |at| format!("{}:{}", at.line, at.column));
        let hint = finding.hint.as_ref();
        let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
        let code = finding.code.trim_start_matches("workflow/");
        format!(
            "{place} {} {code}: {}{hint}\n",
            finding.severity, finding.message
        )
    });
    lines.collect()
}

/// One job `a` with what is given, indented by four.
fn job(body: &str) -> String {
    findings(&format!("on: push\njobs:\n  a:\n    runs-on: x\n{body}"))
}

/// Steps of one job, indented by six.
fn steps(body: &str) -> String {
    job(&format!("    steps:\n{body}"))
}

#[test]
fn keys() {
    insta::assert_snapshot!(findings("on: push\nnmae: x\njobs:\n  a:\n    runs_on: x\n    steps: []\n"), @r#"
    2:1 error unknown-key: the workflow has unknown key `nmae` (did you mean `name`?)
    5:5 error unknown-key: `jobs.a` has unknown key `runs_on` (did you mean `runs-on`?)
    5:5 error missing-key: `jobs.a` lacks `runs-on`
    "#);
    insta::assert_snapshot!(job("    uses: ./.github/workflows/a.yml\n    snapshot: x\n    Env: {}\n    env: {A: 1, a: 2}\n"), @r#"
    5:5 error conflict: `jobs.a`: `uses` does not go with `runs-on`
    7:5 error unknown-key: `jobs.a` has unknown key `Env` (did you mean `env`?)
    8:5 error duplicate-key: `jobs.a` has `env` twice, in capital and in small letters
    8:17 error duplicate-key: `jobs.a.env` has `a` twice, in capital and in small letters
    4:5 warning ignored: the job has no `steps` and does nothing
    6:5 warning ignored: `jobs.a`: `snapshot` has no effect: no image of a runner is made here; build one from a Dockerfile
    "#);
    insta::assert_snapshot!(steps("      - run: x\n        uses: a/b@c\n      - name: x\n      - uses: a/b@c\n        shell: sh\n"), @r#"
    7:9 error conflict: `jobs.a.steps[0]`: `uses` does not go with `run`
    8:9 error missing-key: `jobs.a.steps[1]` lacks one of `run`, `uses`, `wait`, `wait-all`, `cancel`
    10:9 error conflict: `jobs.a.steps[2]`: `shell` does not go with `uses`
    "#);
    insta::assert_snapshot!(findings("on: [push, pusch, release]\njobs: {}\n"), @r#"
    1:12 error value: `on[1]` has the unknown value `pusch` (did you mean `push`?)
    2:7 error missing-key: the workflow has no job
    1:19 warning ignored: `on`: `release` has no effect: it happens at GitHub only; it starts nothing here
    "#);
    insta::assert_snapshot!(findings(""), @r#"
    1:1 error empty: the file is empty
    "#);
    insta::assert_snapshot!(findings("a: 1\n---\nb: 1\n"), @r#"
    3:1 error documents: a workflow file holds one document
    "#);
}

#[test]
fn yaml_of_its_own() {
    insta::assert_snapshot!(findings("x: &a {b: 1}\non: push\njobs: {<<: *a}\n"), @r#"
    3:8 error yaml/merge-key: `<<` merges nothing here (an alias stands for a whole value; write the keys out)
    "#);
    insta::assert_snapshot!(steps("      - &s\n        run: echo ${{ nope }}\n      - *s\n"), @r#"
    7:23 error context: `jobs.a.steps[0].run`: there is no context `nope` (texts are written in single quotes)
    7:23 error context: `jobs.a.steps[1].run`: there is no context `nope` (texts are written in single quotes)
    "#);
    insta::assert_snapshot!(steps("      - if: !cancelled()\n        run: x\n"), @r#"
    6:13 error yaml/unknown-tag: tag `!cancelled()` is not known (leave it out; an expression that begins with `!` is written in `${{ }}`)
    "#);
}

#[test]
fn kinds_of_values() {
    insta::assert_snapshot!(job("    timeout-minutes: '5'\n    continue-on-error: yes\n    env:\n    steps: {}\n    container: [a]\n"), @r#"
    5:22 error type: `jobs.a.timeout-minutes` must be a number, not `5` (leave the quotes out)
    6:24 error type: `jobs.a.continue-on-error` must be `true` or `false`, not `yes`
    7:8 error type: `jobs.a.env` must be a mapping, not empty
    8:12 error type: `jobs.a.steps` must be a list, not a mapping
    9:16 error type: `jobs.a.container` must be a single value or a mapping, not a list
    "#);
    insta::assert_snapshot!(job("    timeout-minutes: 1${{ github.x }}\n    continue-on-error: ${{ github.x }}\n    steps: []\n"), @r#"
    5:22 error type: `jobs.a.timeout-minutes` must be a number or one expression, not text around one
    "#);
    insta::assert_snapshot!(steps("      - uses: a/b@c\n        with: {python-version: 3.10, x: 3.9, y: '3.10'}\n"), @r#"
    7:32 warning number: `jobs.a.steps[0].with.python-version`: `3.10` is the number 3.1 (write '3.10' where text is meant)
    "#);
    insta::assert_snapshot!(steps("      - uses: a/b@c\n        with: {x: 0.00001}\n"), @"7:19 warning number: `jobs.a.steps[0].with.x`: `0.00001` is the number 1E-05 (write '0.00001' where text is meant)");
    let (far, name) = ("k".repeat(900), "f".repeat(900));
    let deep =
        format!("{{{far}: {{{far}: {{{far}: {{{far}: {{{far}: '${{{{ {name}() }}}}'}}}}}}}}}}");
    let said = job(&format!(
        "    strategy: {{matrix: {{include: [{deep}]}}}}\n    steps: []\n"
    ));
    let (k, f) = ("k".repeat(60), "f".repeat(60));
    let place = format!("`jobs.a.strategy.matrix.include[0].{k}….{k}….{k}……`");
    assert!(
        said.contains(&format!("{place}: there is no function `{f}`\n")),
        "{said}"
    );
    insta::assert_snapshot!(findings("on: push\npermissions: {contents: reed, id-token: read, foo: read}\njobs: {a: {runs-on: x, steps: []}}\n"), @r#"
    2:25 error value: `permissions.contents` has the unknown value `reed` (did you mean `read`?)
    2:41 error value: `permissions.id-token` has the unknown value `read` (there are write, none)
    2:47 error unknown-key: `permissions` has unknown key `foo`
    "#);
}

#[test]
fn expressions() {
    insta::assert_snapshot!(steps("      - run: |\n          one\n          echo ${{ github.x }} ${{ secret.a }} ${{ jobs.b }}\n          echo ${{ always() }} ${{ fromJSON( }}\n"), @r#"
    8:36 error context: `jobs.a.steps[0].run`: there is no context `secret` (did you mean `secrets`?)
    8:52 error context: `jobs.a.steps[0].run`: context `jobs` is not available here (there are github, inputs, vars, needs, strategy, matrix, secrets, steps, job, runner, env)
    9:20 error function: `jobs.a.steps[0].run`: `always()` is not available here
    9:44 error expression: `jobs.a.steps[0].run`: the expression is not understood: unexpected end of expression
    "#);
    insta::assert_snapshot!(job("    env:\n      A: ${{ env.B }}\n      B: \"x \\\"y\\\" ${{ foo }}\"\n    steps: []\n    if: env.A == 'b' && hashFiles('x')\n"), @r#"
    6:14 error context: `jobs.a.env.A`: context `env` is not available here (there are github, inputs, vars, needs, secrets, strategy, matrix)
    7:23 error context: `jobs.a.env.B`: there is no context `foo` (texts are written in single quotes)
    9:9 error context: `jobs.a.if`: context `env` is not available here (there are github, inputs, vars, needs)
    9:25 error function: `jobs.a.if`: `hashFiles()` is not available here
    "#);
    insta::assert_snapshot!(steps("      - run: x\n        if: secrets.a == \"b\"\n      - run: x\n        if: ${{ github.a }} == 'b'\n      - run: x\n        if: success('a')\n"), @r#"
    7:26 error expression: `jobs.a.steps[0].if`: the expression is not understood: texts stand in single quotes
    11:13 error function: `jobs.a.steps[2].if`: `success` takes at most 0 arguments here
    9:13 warning condition: `jobs.a.steps[1].if` is always true: it is text, which is not empty (put all of it into one `${{ }}`, or leave `${{ }}` out)
    "#);
    insta::assert_snapshot!(steps("      - run: ${{ case(github.a, 1, 2) }}${{ case(github.a, 1) }}${{ format() }}${{\n"), @r#"
    6:45 error expression: `jobs.a.steps[0].run`: `case` takes pairs of condition and value, and a value for otherwise
    6:69 error expression: `jobs.a.steps[0].run`: `format` takes 1 to 255 arguments
    6:80 error expression: `jobs.a.steps[0].run`: the expression has no end: `}}` is missing
    "#);
}

#[test]
fn names_in_expressions() {
    insta::assert_snapshot!(steps("      - run: ${{ steps.b.outputs.x }}${{ matrix.os }}${{ needs.z.result }}${{ inputs.x }}\n      - id: b\n        run: ${{ steps.bb.outputs.x }}${{ steps.b.x }}\n"), @r#"
    6:18 warning unknown-name: job `a`: `steps.b` is always empty: `b` is the id of a step that has not run by then
    6:42 warning unknown-name: job `a`: `matrix.os` is always empty: `os` is not in the job's matrix
    6:58 warning unknown-name: job `a`: `needs.z` is always empty: `z` is not in the job's `needs`
    8:18 warning unknown-name: job `a`: `steps.bb` is always empty: `bb` is no id of a step of this job (did you mean `b`?)
    8:43 warning unknown-name: job `a`: `steps.b` is always empty: `b` is the id of a step that has not run by then
    "#);
}

#[test]
fn jobs_that_need_others() {
    insta::assert_snapshot!(findings("on: push\njobs:\n  a: {runs-on: x, needs: [b, d], steps: []}\n  b: {runs-on: x, needs: c, steps: []}\n  c: {runs-on: x, needs: b, steps: []}\n"), @r#"
    3:30 error needs: job `a` needs `d`, which is no job (did you mean `a`?)
    4:3 error cycle: jobs wait for each other: b → c
    "#);
}

#[test]
fn steps_in_the_background() {
    insta::assert_snapshot!(steps("      - {id: a, run: x, background: true}\n      - {id: b, run: x}\n      - wait: [a, b, c]\n      - cancel: d\n      - parallel:\n          - {run: x, background: true}\n          - {wait: a}\n          - {uses: a/b@v1, id: a}\n      - wait-all:\n      - {wait: [a], if: always()}\n"), @r#"
    8:19 error wait: step `b` does not run in the background
    8:22 error wait: no step before has the id `c`
    9:17 error wait: no step before has the id `d`
    11:22 error conflict: `background` says nothing inside `parallel`: its steps run side by side (leave it out)
    12:13 error missing-key: `jobs.a.steps[4].parallel[1]` lacks one of `run`, `uses`
    12:14 error unknown-key: `jobs.a.steps[4].parallel[1]` has unknown key `wait`
    13:32 error id: a step before has the id `a` as well
    15:21 error conflict: `jobs.a.steps[6]`: `if` does not go with `wait`
    "#);
}

#[test]
fn additions_of_late() {
    insta::assert_snapshot!(job("    concurrency: {group: x, queue: max, cancel-in-progress: true}\n    environment: {name: y, deployment: false}\n    services:\n      db: {image: postgres, command: a, entrypoint: b, volumes: ['/a:/b', '/run/docker.sock:/x', c:/d]}\n    container: ''\n    cache-mode: write-only\n    steps: [{uses: $/a}, {uses: $/a@v1}]\n"), @r#"
    5:29 error conflict: `queue: max` and `cancel-in-progress: true` exclude each other
    8:75 error unsupported: a container engine's socket is given to no job (`docker/build-push-action` builds and pushes images without it)
    11:33 error uses: `uses` names no action: `$/a@v1` (`$/` is this repository at this commit: leave `@` out)
    8:66 warning ignored: `/a` of the machine is not given to jobs: the container gets an empty folder
    "#);
    insta::assert_snapshot!(findings("on:\n  schedule:\n    - {cron: '0 4 * * *', timezone: Europe/Berlin}\n    - {cron: '0 4 * * * *'}\n    - {cron: '99 4 * * *', timezone: 'a b'}\njobs: {a: {uses: $/.github/workflows/x.yml}}\n"), @r#"
    4:14 error schedule: a time has five fields: minute, hour, day, month, day of the week
    5:14 error schedule: `99` is no minute (0 to 59)
    5:38 error schedule: `timezone` is no name of a time zone (names are like `Europe/Berlin`)
    "#);
}

#[test]
fn triggers() {
    insta::assert_snapshot!(findings("on:\n  push: {branches: [a], branches-ignore: [b], tags: ['!v1']}\n  pull_request: {types: [labeled]}\n  workflow_run:\n  schedule:\n  release:\n  workflow_dispatch:\n    inputs:\n      a: {type: choice}\n      b: {type: choice, options: [x], default: y}\n      c: {type: number, default: z}\njobs: {a: {runs-on: macos-13, steps: []}}\n"), @r#"
    2:25 error conflict: `branches` and `branches-ignore` exclude each other (write what is not meant as `!PATTERN` in `branches`)
    2:54 error filter: `tags` matches nothing: all its patterns begin with `!` (put `'**'` before them, or use `tags-ignore`)
    4:3 error missing-key: `workflow_run` does not say which workflows: it lacks `workflows`
    5:11 error type: `on.schedule` must be a list, not empty
    9:7 error missing-key: input `a` is a choice and lacks `options`
    10:48 error value: input `b`: the default is none of its options
    11:34 error value: input `c`: the default must be a number
    3:26 warning ignored: `pull_request` starts nothing here with these types (there are opened, synchronize, reopened)
    6:3 warning ignored: `on`: `release` has no effect: it happens at GitHub only; it starts nothing here
    12:21 warning foreign: label `macos-13` is no Linux: such a job does not start here
    "#);
}

#[test]
fn matrices() {
    insta::assert_snapshot!(job("    strategy:\n      matrix:\n        a: []\n        b: [1, 2]\n        exclude: [{c: 1}]\n    steps: []\n"), @r#"
    7:12 error matrix: `a` of the matrix has no values
    9:23 warning matrix: `exclude` names `c`, which the matrix does not have (did you mean `a`?)
    "#);
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let many = many.join(", ");
    insta::assert_snapshot!(job(&format!("    strategy: {{matrix: {{a: [{many}], b: [{many}]}}}}\n    steps: []\n")), @r#"
    5:24 error too-many-jobs: the matrix makes 289 jobs; 256 are allowed
    "#);
}
