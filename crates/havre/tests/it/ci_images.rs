//! Images in jobs: built, pushed to a real registry, and run as steps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use std::process::Command;

use havre_testing::wait_until;

use crate::ci_run::{Repository, left, says};
use crate::machine::{Machine, SOON, on_machine};
use crate::pipeline::{images, initialise, push, until_ended};
use crate::program::Ran;

const DOCKERFILE: &str = r#"FROM scratch AS base
COPY busybox /bin/busybox
FROM base
ARG GREETING=none
RUN --mount=type=secret,id=token ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin; echo $GREETING > /greeting; echo built-with-$GREETING; cat /run/secrets/token || true"]
WORKDIR /srv
CMD ["cat", "/greeting"]
"#;

/// Listens in the job's own network.
const REGISTRY: &str = "version: 0.1
storage: {filesystem: {rootdirectory: /tmp/registry}, delete: {enabled: true}}
http: {addr: 'localhost:5000', secret: s}
";

/// As it is started by a step.
const START: &str = "      - run: |
          docker-registry serve registry.yml > registry.log 2>&1 &
          for i in $(seq 100); do curl -fs http://localhost:5000/v2/ > /dev/null && exit 0; sleep 0.1; done
          cat registry.log; exit 1
";

fn executable(from: &str, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("{from}: {error}"));
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

fn repository<'a>(machine: &'a Machine, name: &str, jobs: &str) -> Repository<'a> {
    let repository = Repository::new(machine, name, jobs);
    executable("/bin/busybox", &repository.path.join("busybox"));
    fs::write(repository.path.join("Dockerfile"), DOCKERFILE).unwrap();
    fs::write(repository.path.join("registry.yml"), REGISTRY).unwrap();
    fs::write(repository.path.join(".dockerignore"), "*\n!busybox\n").unwrap();
    repository
}

#[test]
fn what_a_job_builds_is_what_a_registry_gets() {
    on_machine(|machine| {
        let jobs = format!(
            "  images:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
{START}      - uses: docker/setup-qemu-action@v3
      - uses: docker/setup-buildx-action@v3
      - uses: docker/login-action@v3
        with: {{registry: 'localhost:5000', username: u, password: pass-word-1}}
      - id: build
        uses: docker/build-push-action@v6
        with:
          context: .
          push: true
          tags: localhost:5000/shop:1
          labels: team=shop
          build-args: GREETING=hello
          secrets: token=hush-hush-hush
          cache-from: type=gha
          cache-to: type=gha,mode=max
      - env: {{WANTED: '${{{{ steps.build.outputs.digest }}}}'}}
        run: |
          accept='Accept: application/vnd.oci.image.manifest.v1+json'
          got=$(curl -fsI -H \"$accept\" http://localhost:5000/v2/shop/manifests/1 | tr -d '\\r' | sed -n 's/^Docker-Content-Digest: //p')
          test \"$got\" = \"$WANTED\" && echo \"the registry has $got\"
          curl -fs -H \"$accept\" http://localhost:5000/v2/shop/manifests/$got | sha256sum | grep -q \"${{got#sha256:}}\"
      - run: |
          docker build -q -t mine:1 --build-arg GREETING=other .
          docker tag mine:1 localhost:5000/shop:2
          docker push localhost:5000/shop:2
          docker save -o mine.tar mine:1
          tar -tf mine.tar | grep -q manifest.json
          printf 'FROM mine:1\\nRUN cat /greeting && echo from-own\\n' > Second
          docker buildx build --load -t second:1 -f Second .
          for words in 'run mine:1' 'compose up' 'build --squash .' 'push nobody/knows:1'; do
            if docker $words; then exit 1; fi
          done
      - uses: docker://mine:1
        env: {{COLOUR: red}}
        with:
          args: sh -c 'pwd; cat /greeting; echo \"$COLOUR $HOME $GITHUB_WORKSPACE\"; echo colour=$COLOUR >> $GITHUB_ENV; echo from-container > made; test -f Dockerfile'
      - run: test \"$colour\" = red && cat made
"
        );
        let repository = repository(machine, "images", &jobs);
        let ran = repository.run(&[]);
        says(
            &ran,
            0,
            &[
                "#5 built-with-hello",
                "the registry has sha256:",
                "localhost:5000/shop:1@sha256:",
                "from-own",
                "`docker run` is not there in a job of Havre",
                "`havre up` runs what the compose file says",
                "the option `--squash` is not supported",
                "this job has no image \"nobody/knows:1\"",
                "/github/workspace",
                "red /github/home /github/workspace",
                "from-container",
            ],
        );
        let all = format!("{}{}", ran.out, ran.err);
        assert!(
            !all.contains("hush-hush-hush") && !all.contains("pass-word-1"),
            "{all}"
        );
        // The next run finds what this one has left in the cache, and leaves no other trace.
        let ran = repository.run(&[]);
        says(&ran, 0, &["#5 CACHED"]);
        assert!(!ran.out.contains("built-with-hello"), "{}", ran.out);
        assert_eq!(left(machine), (0, 0));
    });
}

const ACTION: &str = "name: greet
inputs:
  who: {default: nobody}
outputs:
  said: {description: what was said}
runs:
  using: docker
  image: Dockerfile
  pre-entrypoint: /pre.sh
  entrypoint: /main.sh
  post-entrypoint: /post.sh
  args: ['${{ inputs.who }}', two words]
  env: {MOOD: good}
";

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_action_in_a_container_is_run_as_on_github() {
    on_machine(|machine| {
        let jobs = "  act:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - id: greet
        uses: ./greet
        with: {who: mira}
      - run: |
          echo \"it said ${{ steps.greet.outputs.said }}\"
          stat -c %u left
          ls -A > listing; grep -q left listing
      - uses: ./plain
        id: plain
        continue-on-error: true
      - run: echo \"plain ended ${{ steps.plain.outcome }}\"
      - uses: ./wrong
        continue-on-error: true
      - uses: docker://nowhere.invalid/x:1
        continue-on-error: true
      - timeout-minutes: 0.05
        continue-on-error: true
        uses: ./plain
        with: {entrypoint: /bin/sleep, args: '1000007'}
";
        let repository = repository(machine, "act", jobs);
        let at = |path: &str| repository.path.join(path);
        for folder in ["greet", "plain", "wrong"] {
            fs::create_dir(at(folder)).unwrap();
            executable("/bin/busybox", &at(folder).join("busybox"));
        }
        let from = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
        fs::write(at("greet/action.yml"), ACTION).unwrap();
        fs::write(
            at("greet/Dockerfile"),
            format!("{from}COPY *.sh /\nENV OF_IMAGE=yes\n"),
        )
        .unwrap();
        script(
            &at("greet/pre.sh"),
            "echo \"pre of $1\"; echo kept=for-post >> $GITHUB_STATE\n",
        );
        script(
            &at("greet/main.sh"),
            "echo \"::notice::hello $1, $2, $MOOD, $INPUT_WHO, $OF_IMAGE\"
echo said=hello-$1 >> $GITHUB_OUTPUT
pwd; touch left; test \"$RUNNER_TEMP\" = /github/runner_temp; test -f $GITHUB_EVENT_PATH
",
        );
        script(&at("greet/post.sh"), "echo \"post with $STATE_kept\"\n");
        fs::write(
            at("plain/Dockerfile"),
            format!("{from}ENTRYPOINT [\"sh\", \"-c\", \"echo plain; exit 7\"]\n"),
        )
        .unwrap();
        fs::write(
            at("wrong/Dockerfile"),
            format!("{from}RUN echo on-the-way; exit 3\n"),
        )
        .unwrap();
        let ran = repository.run(&[]);
        says(
            &ran,
            0,
            &[
                "pre of mira",
                "hello mira, two words, good, mira, yes",
                "it said hello-mira",
                "post with for-post",
                "plain ended failure",
                "exit code 7",
                "wrong/Dockerfile:4",
                "on-the-way",
                "nowhere.invalid",
                "The step took longer than its `timeout-minutes`.",
            ],
        );
        assert!(!crate::ci_run::runs("1000007"), "a container is left");
        assert_eq!(left(machine), (0, 0));
    });
}

/// Its files outlive the job, and are the project's.
const KEPT: &str = "version: 0.1
storage: {filesystem: {rootdirectory: /opt/hostedtoolcache/registry/1/x64}}
http: {addr: 'localhost:5000', secret: s}
";

#[test]
fn a_release_runs_what_a_job_has_pushed_by_its_digest() {
    on_machine(|machine| {
        machine.shop("one");
        // Another project's own image, which no job of the shop may build from.
        let bank = machine.root().join("bank");
        fs::create_dir_all(&bank).unwrap();
        let compose = "name: bank\nservices:\n  vault:\n    image: bank-vault\n    build:\n      context: .\n      dockerfile_inline: |\n        FROM base:1\n        RUN echo hidden > /www/index.html\n    command: [sleep, '1000000']\n    init: true\n";
        fs::write(bank.join("compose.yaml"), compose).unwrap();
        let mut up = machine.command(&["up"]);
        let up: Ran = up.current_dir(&bank).output().unwrap().into();
        assert_eq!(up.code, 0, "{up:?}");

        let start = START.replace("registry.log", "/tmp/registry.log");
        let workflow = format!(
            "name: CI
on: push
jobs:
  images:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
{start}      - id: web
        uses: docker/build-push-action@v6
        with: {{context: ., push: true, tags: 'localhost:5000/shop:${{{{ github.sha }}}}', cache-from: type=gha}}
      - run: echo \"${{{{ steps.web.outputs.digest }}}}\" > /opt/hostedtoolcache/registry/1/x64/digest
      - run: touch /opt/hostedtoolcache/registry/1/x64.complete
      - run: |
          printf 'FROM bank-vault\\n' > Stolen
          if docker build -f Stolen . 2> why; then exit 1; fi
          cat why; grep -q 'was built for another environment' why
      - uses: docker://bank-vault
        id: stolen
        continue-on-error: true
      - run: test \"${{{{ steps.stolen.outcome }}}}\" = failure
"
        );
        machine.write("registry.yml", KEPT);
        let folder = machine.project().join(".github/workflows");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ci.yml"), workflow).unwrap();
        initialise(machine);
        let mut pushed = push(machine, "one");
        pushed.ends();
        let ended = until_ended(machine, "1");
        assert_eq!(ended, "success", "{}", pushed.talk());

        // The same registry again, where the machine reaches it.
        let tools = machine.root().join("lib/jobs/tools/shop");
        let mut kept = None;
        wait_until("what the job left as a tool is kept", SOON, || {
            let of_references = fs::read_dir(&tools).into_iter().flatten().flatten();
            kept = of_references
                .map(|entry| entry.path().join("registry/1/x64"))
                .find(|path| path.join("digest").exists());
            kept.is_some()
        });
        let kept = kept.unwrap();
        let digest = fs::read_to_string(kept.join("digest")).unwrap();
        let digest = digest.trim();
        let settings = KEPT.replace(
            "/opt/hostedtoolcache/registry/1/x64",
            kept.to_str().unwrap(),
        );
        machine.write("registry.yml", &settings);
        let mut registry = Command::new("docker-registry");
        registry
            .args(["serve", "registry.yml"])
            .current_dir(machine.project());
        let registry = machine.start_command("registry", registry);
        wait_until("the registry listens", SOON, || {
            std::net::TcpStream::connect("127.0.0.1:5000").is_ok()
        });
        let compose = fs::read_to_string(machine.project().join("compose.yaml")).unwrap();
        let by_digest = format!("image: localhost:5000/shop@{digest}");
        let compose = compose.replace("build: .", &by_digest);
        assert!(compose.contains(&by_digest), "{compose}");
        machine.write("compose.yaml", &compose);
        machine.ok(&["up"]);
        machine.until_answers("one");
        assert_eq!(images(machine, "production"), [format!("\"{digest}\"")]);
        drop(registry);
        machine.ok(&["down", "-p", "bank"]);
        machine.ok(&["down"]);
    });
}
