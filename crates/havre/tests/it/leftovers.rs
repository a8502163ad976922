//! What killed containers and builds leave on disk, on a real machine.

use std::fs;

use havre_testing::wait_until;

use crate::machine::{SOON, kill, on_machine};

#[test]
fn folders_of_killed_containers_and_builds_go_while_the_next_daemon_serves() {
    on_machine(|machine| {
        machine.shop("one");
        machine.ok(&["up"]);
        let state = machine.root().join("lib");
        // A build under way, whose daemon is killed.
        machine.write("Dockerfile", "FROM base:1\nRUN sleep 600\n");
        let build = machine.start(&["up"]);
        let scratch = || fs::read_dir(state.join("images/tmp")).unwrap().count();
        let steps = || fs::read_dir(state.join("build")).map_or(0, Iterator::count);
        wait_until("a step runs", SOON, || scratch() > 0 && steps() > 0);
        kill(machine.info()["pid"].as_u64().unwrap());
        drop(build);
        // Of a container that nobody knows.
        let lost = state.join("containers/shop.production.lost.1/upper");
        fs::create_dir_all(lost.join("a/b/c")).unwrap();
        let mut deep = lost;
        for _ in 0..300 {
            deep.push("deep");
        }
        fs::create_dir_all(&deep).unwrap();

        // Of a repository that was being fetched.
        fs::create_dir_all(state.join("git/fetch-x/context/.git")).unwrap();

        machine.start_daemon();
        assert_eq!(scratch(), 0);
        let names = |folder: &str| {
            let entries = fs::read_dir(state.join(folder)).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name != ".leftovers")
                .collect();
            names.sort();
            names
        };
        // The daemon answers before it has looked at its containers.
        wait_until("the folders left are those of replicas", SOON, || {
            let replicas = machine.replicas().into_iter().map(|(id, _)| id);
            !names("containers").is_empty() && replicas.eq(names("containers"))
        });
        assert_eq!(names("build"), [""; 0]);
        assert_eq!(names("git"), [""; 0]);
        wait_until("nothing of them is left", SOON, || {
            [
                "images/leftovers",
                "containers/.leftovers",
                "build/.leftovers",
                "git/.leftovers",
            ]
            .iter()
            .all(|folder| fs::read_dir(state.join(folder)).map_or(0, Iterator::count) == 0)
        });
        machine.until_answers("one");
    });
}
