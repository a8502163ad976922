//! What the target of an environment cannot do: refused before anything is sent, where it is written.

use havre_api::{TargetCapabilities, TargetInfo};
use havre_model::{Capabilities, Lack};
use havre_testing::api::Script;

use crate::fixtures::backend;
use crate::program::World;

/// A FAKE target of several machines.
fn fleet() -> TargetInfo {
    let lack = |key: &str, values: &[&str], reason: &str| Lack {
        key: key.to_owned(),
        values: values.iter().map(ToString::to_string).collect(),
        reason: reason.to_owned(),
        hint: "remove it".to_owned(),
    };
    let lacks = vec![
        lack(
            "services.*.ports[].protocol",
            &["udp"],
            "its balancer has TCP only",
        ),
        lack("services.*.sysctls", &[], "its machines are not yours"),
        lack(
            "havre.yaml: rollout.strategy",
            &["canary"],
            "it moves all requests at once",
        ),
    ];
    TargetInfo {
        capabilities: Capabilities::new("Fleet", lacks).unwrap(),
        host_ca_detected: false,
    }
}

/// What says so, asked for `times` times.
fn on_fleet(script: Script, times: usize) -> Script {
    (0..times).fold(script, |script, _| {
        script.call::<TargetCapabilities, _>(async |_| Ok(fleet()))
    })
}

fn world(script: Script) -> World {
    let world = World::new(script);
    let write = |name, text| std::fs::write(world.folder.path().join(name), text).unwrap();
    write(
        "compose.yaml",
        "name: shop\nservices:\n  web:\n    image: example.test/web:1\n    ports: ['53:53/udp']\n    \
         sysctls: {net.core.somaxconn: '1'}\n",
    );
    write("havre.yaml", "rollout:\n  strategy: canary\n");
    world
}

const REFUSED: [&str; 6] = [
    "`ports[].protocol: udp` of service `web` is not possible on Fleet: its balancer has TCP only",
    "compose.yaml:5:13",
    "`sysctls` of service `web` is not possible on Fleet: its machines are not yours",
    "compose.yaml:6:5",
    "`rollout.strategy: canary` is not possible on Fleet: it moves all requests at once",
    "havre.yaml:2:13",
];

#[test]
fn what_the_target_lacks_is_refused_where_it_is_written_and_not_sent() {
    let world = world(on_fleet(backend(0), 4));
    for command in ["check", "doctor", "plan", "up"] {
        let ran = world.run(&[command, "."]);
        assert_eq!(ran.code, 3, "{command}: {ran:?}");
        let told = format!("{}{}", ran.out, ran.err);
        for part in REFUSED
            .iter()
            .chain(&["error[target/unsupported]", "= help: remove it"])
        {
            assert!(told.contains(part), "{command}: {part:?} is not in\n{told}");
        }
    }
    assert_eq!(world.daemon.calls(), ["target"; 4]);
}

#[test]
fn on_this_machine_and_without_an_answer_nothing_is_refused() {
    let this_machine = TargetInfo {
        capabilities: Capabilities::default(),
        host_ca_detected: false,
    };
    // The second `check` gets no answer, as of a daemon that does not know the call.
    let world = world(backend(0).call::<TargetCapabilities, _>(async |_| Ok(this_machine)));
    for _ in 0..2 {
        let ran = world.run(&["check"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    assert_eq!(world.daemon.calls(), ["target"; 2]);
}
