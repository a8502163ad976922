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
        public: BTreeSet::new(),
    }
}

fn hub_state(environments: BTreeMap<String, EnvironmentEdge>) -> HubState {
    HubState {
        own_hosts: BTreeSet::new(),
        gateway: Some(EnvironmentEdge::default()),
        machine: EdgeState::default(),
        awaited: BTreeSet::new(),
        environments,
        generation: 0,
        pushed: None,
        status: None,
        kept: None,
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
    let environments = all.iter().zip(&parts);
    let environments = environments.map(|((id, _), part)| (environment_key(id), part.clone()));
    let state = hub_state(environments.collect());
    let pushed = state.wanted(&Issued::default()).expect("nobody is awaited");
    for ((id, _), part) in all.iter().zip(&parts) {
        assert_eq!(part_of(&pushed, id), *part, "{id}");
    }
    let stranger = part_of(&pushed, &id("shop", "staging"));
    assert_eq!(stranger, EnvironmentEdge::default());
}

#[test]
fn a_new_daemon_takes_nothing_from_the_edge_before_its_gateway_serves_again() {
    let shop = id("shop", "production");
    let mut state = hub_state(BTreeMap::new());
    state.awaited.insert(environment_key(&shop));
    state.reserve(BTreeSet::from(["registry.test".to_owned()]));
    state.awaited.clear();
    let served = part(&shop, "shop.test", 9000);
    state.environments.insert(environment_key(&shop), served);
    assert!(
        state.wanted(&Issued::default()).is_none(),
        "the gateway is awaited"
    );
    // An environment may be called as the gateway's pool is.
    let havre = id("havre", "gateway");
    let theirs = part(&havre, "gateway.test", 9001);
    state.environments.insert(environment_key(&havre), theirs);
    let mut gateway = part(&havre, "registry.test", 9002);
    gateway.routes[0].id = "havre/gateway".to_owned();
    gateway.forwards.clear();
    gateway.datagram_forwards.clear();
    gateway.pools = BTreeMap::from([("havre/gateway".to_owned(), Pool::default())]);
    state.gateway = Some(gateway.clone());
    let pushed = state.wanted(&Issued::default()).expect("nobody is awaited");
    assert_eq!(pushed.routes.len(), 3);
    // One that cannot be served goes on with that.
    assert_eq!(part_by(&pushed, |name| name == "havre/gateway"), gateway);
    state.reserve(BTreeSet::new());
    assert!(
        state.wanted(&Issued::default()).is_some(),
        "nothing is served, so nothing is awaited"
    );
}

#[test]
fn an_authoritys_certificate_goes_before_the_machines_for_the_hosts_that_want_one() {
    let shop = id("shop", "production");
    let mut served = part(&shop, "shop.havre.dev", 9000);
    served.public = BTreeSet::from(["shop.havre.dev".to_owned()]);
    let other = part(&id("old", "production"), "old.havre.dev", 9001);
    let parts = [
        (environment_key(&shop), served.clone()),
        ("other".to_owned(), other.clone()),
    ];
    let state = hub_state(parts.into());
    let mut issued = Issued::default();
    let chains = |issued: &Issued| -> Vec<String> {
        let pushed = state.wanted(issued).expect("nobody is awaited");
        let certificates = pushed.certificates.into_iter();
        certificates.map(|it| it.chain).collect()
    };
    assert_eq!(chains(&issued), ["chain", "chain"]);
    for host in ["shop.havre.dev", "old.havre.dev"] {
        issued.put(Name::parse(host).expect("a name"), "signed", "key");
    }
    // The other one's files, or its own word, go before.
    assert_eq!(chains(&issued), ["signed", "chain", "chain"]);
    // After a start, an environment that cannot be read keeps what the edge has.
    let pushed = state.wanted(&issued).expect("nobody is awaited");
    let mut kept = part_of(&pushed, &shop);
    assert_eq!(kept.certificates.len(), 2);
    kept.public = issued.known(&kept);
    assert_eq!(kept.public, served.public);
}
