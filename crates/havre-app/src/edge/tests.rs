//! What the edge is told of several environments.

use havre_model::{EnvironmentName, ProjectName};

use super::*;

fn id(project: &str, environment: &str) -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new(project),
        environment: EnvironmentName::new(environment),
    }
}

fn part(id: &EnvironmentId, host: &str, published: u16) -> EnvironmentEdge {
    let pool = format!("{id}/web:80");
    let forward = |id: &str| Forward {
        id: id.to_owned(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, published)),
        pool: id.to_owned(),
    };
    EnvironmentEdge {
        certificates: vec![Certificate {
            hosts: vec![host.to_owned()],
            chain: "chain".to_owned(),
            key: havre_edge::PrivateKey("key".to_owned()),
        }],
        routes: vec![Route {
            id: format!("{id}/"),
            hosts: vec![host.to_owned()],
            path: "/".to_owned(),
            strip_prefix: false,
            pool: pool.clone(),
            protocol: UpstreamProtocol::Http,
        }],
        forwards: vec![forward(&pool)],
        datagram_forwards: vec![forward(&pool)],
        pools: BTreeMap::from([(pool, Pool::default())]),
    }
}

#[test]
fn the_part_of_an_environment_that_cannot_be_read_is_found_in_the_edges_state() {
    let all = [
        (id("shop", "production"), "shop.test"),
        (id("shop", "production2"), "second.test"),
        (id("shop2", "production"), "other.test"),
    ];
    let parts: Vec<EnvironmentEdge> = (9000..)
        .zip(&all)
        .map(|(port, (id, host))| part(id, host, port))
        .collect();
    let state = HubState {
        gateway: EnvironmentEdge::default(),
        machine: EdgeState::default(),
        awaited: BTreeSet::new(),
        environments: (all.iter().zip(&parts))
            .map(|((id, _), part)| (environment_key(id), part.clone()))
            .collect(),
        generation: 0,
        pushed: None,
        status: None,
        kept: None,
    };
    let pushed = state.wanted();
    for ((id, _), part) in all.iter().zip(&parts) {
        assert_eq!(part_of(&pushed, id), *part, "{id}");
    }
    let stranger = part_of(&pushed, &id("shop", "staging"));
    assert_eq!(stranger, EnvironmentEdge::default());
}
