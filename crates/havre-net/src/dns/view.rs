//! What the resolver knows, and what it says to whom. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::message::{Answers, Code, Name, TYPE_A, TYPE_ANY, TYPE_PTR};
use crate::leases::Leases;
use crate::subnet::Subnet;

/// Names by network: service, alias and container names with the addresses they stand for on
/// that network, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Records {
    /// network → name → addresses
    pub networks: BTreeMap<String, BTreeMap<String, Vec<Ipv4Addr>>>,
}

/// What the full names of services on shared networks end with: of nobody else, so that one whose
/// environment is down is not looked for outside.
pub const DOMAIN: &str = "havre";

/// Names that end so are whoever asks, for every program alike (RFC 6761, 6.3): some ask nobody.
const LOOPBACK: &str = "localhost";

/// Names of the other environments on shared networks, as [`Records`] has them.
pub type Foreign = Records;

/// A network as the resolver sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Where the resolver listens.
    pub gateway: Ipv4Addr,
    /// Its addresses.
    pub subnet: Subnet,
    /// Without a way out.
    pub internal: bool,
    /// Of a shared network: the addresses of all environments on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Subnet>,
}

/// All the resolver knows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Networks of the environment.
    pub zones: Vec<Zone>,
    /// network → name in lower case → addresses
    names: BTreeMap<String, BTreeMap<String, Vec<Ipv4Addr>>>,
    /// The same of other environments: where a name is none of our own.
    foreign: BTreeMap<String, BTreeMap<String, Vec<Ipv4Addr>>>,
    /// Networks of the container that has an address, in its own order.
    clients: BTreeMap<Ipv4Addr, Vec<String>>,
    /// Resolvers of the container that has an address, where they are not the host's.
    pub resolvers: BTreeMap<Ipv4Addr, Vec<IpAddr>>,
    /// Names that hold for the container that has an address: alias → name, in lower case.
    aliases: BTreeMap<Ipv4Addr, BTreeMap<String, String>>,
}

/// What is to be done with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer with these.
    Answer(Answers),
    /// Answer with none.
    Empty(Code),
    /// Ask the resolvers outside.
    Forward,
}

impl View {
    /// Puts the four files together.
    pub fn new(zones: Vec<Zone>, leases: Leases, records: Records, foreign: Foreign) -> Self {
        let lower = |names: BTreeMap<String, Vec<Ipv4Addr>>| {
            names
                .into_iter()
                .map(|(name, to)| (name.to_ascii_lowercase(), to))
                .collect()
        };
        let mut clients = BTreeMap::new();
        let mut resolvers = BTreeMap::new();
        let mut aliases = BTreeMap::new();
        for (container, of_container) in leases.containers {
            if let Some(own) = leases.lookups.get(&container) {
                for lease in &of_container {
                    if !own.resolvers.is_empty() {
                        resolvers.insert(lease.address, own.resolvers.clone());
                    }
                    if !own.aliases.is_empty() {
                        aliases.insert(lease.address, own.aliases.clone());
                    }
                }
            }
            let leases = of_container;
            let networks: Vec<String> = leases.iter().map(|lease| lease.network.clone()).collect();
            clients.extend(leases.iter().map(|lease| (lease.address, networks.clone())));
        }
        let by_zone = |records: Records| {
            let zones = records.networks.into_iter();
            zones.map(|(zone, names)| (zone, lower(names))).collect()
        };
        Self {
            zones,
            names: by_zone(records),
            foreign: by_zone(foreign),
            clients,
            resolvers,
            aliases,
        }
    }

    /// Decides on a question from `client` that came in through network `through`. `turn`
    /// counts questions and turns the order of addresses.
    pub fn decide(
        &self,
        client: Ipv4Addr,
        through: &str,
        name: &Name,
        kind: u16,
        turn: usize,
    ) -> Decision {
        let own = [through.to_owned()];
        let visible = self.clients.get(&client).map_or(&own[..], Vec::as_slice);
        let text = name.text();
        let own = self.aliases.get(&client).and_then(|own| own.get(&text));
        let (text, is_alias) = match own {
            Some(meant) => (meant.to_ascii_lowercase(), true),
            None => (text, false),
        };
        if let Some(addresses) = self.lookup(visible, &text) {
            return match kind {
                TYPE_A | TYPE_ANY => Decision::Answer(Answers::Addresses(turned(addresses, turn))),
                _ => Decision::Empty(Code::NoError),
            };
        }
        if text.rsplit('.').next() == Some(LOOPBACK) {
            return match kind {
                TYPE_A | TYPE_ANY => {
                    Decision::Answer(Answers::Addresses(vec![Ipv4Addr::LOCALHOST]))
                }
                _ => Decision::Empty(Code::NoError),
            };
        }
        if let Some(address) = name.reversed_address()
            && self
                .zones
                .iter()
                .any(|zone| zone.block.unwrap_or(zone.subnet).contains(address))
        {
            return self.reverse(address, visible, kind);
        }
        let leads_out = visible.iter().any(|network| {
            self.zones
                .iter()
                .any(|zone| zone.name == *network && !zone.internal)
        });
        let is_ours = text.rsplit('.').next() == Some(DOMAIN);
        if name.is_single_label() || is_ours || is_alias || !leads_out {
            return Decision::Empty(Code::NameError);
        }
        Decision::Forward
    }

    /// What a name stands for. One of our own that stands for nobody at the moment is ours all the
    /// same: a database that restarts is not another environment's.
    fn lookup(&self, visible: &[String], name: &str) -> Option<&Vec<Ipv4Addr>> {
        let mut own = visible
            .iter()
            .filter_map(|network| self.names.get(network)?.get(name))
            .peekable();
        let first = own.peek().copied();
        let foreign = || {
            let mut foreign = visible.iter();
            foreign.find_map(|network| self.foreign.get(network)?.get(name))
        };
        own.find(|addresses| !addresses.is_empty())
            .or(first)
            .or_else(foreign)
    }

    /// Names of an address of the environment; others on the machine's network never hear of it.
    fn reverse(&self, address: Ipv4Addr, visible: &[String], kind: u16) -> Decision {
        let best = visible
            .iter()
            .flat_map(|network| [self.names.get(network), self.foreign.get(network)])
            .flatten()
            .flatten()
            .filter(|(_, addresses)| addresses.contains(&address))
            // The name that says most: the container's own stands for one address only.
            .min_by_key(|(name, addresses)| (addresses.len(), Reverse(name.len()), *name));
        match best {
            None => Decision::Empty(Code::NameError),
            Some((name, _)) if matches!(kind, TYPE_PTR | TYPE_ANY) => {
                Decision::Answer(Answers::Names(vec![name.clone()]))
            }
            Some(_) => Decision::Empty(Code::NoError),
        }
    }
}

fn turned(addresses: &[Ipv4Addr], turn: usize) -> Vec<Ipv4Addr> {
    let mut turned = addresses.to_vec();
    if !turned.is_empty() {
        turned.rotate_left(turn % addresses.len());
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::message;

    const AAAA: u16 = 28;

    fn address(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    /// Networks front (leads out), back (internal); web.1 on both, db.1 on back, new.1 on front.
    fn view() -> View {
        let zone = |name: &str, subnet: &str, internal| {
            let subnet: Subnet = subnet.parse().expect("a subnet");
            Zone {
                name: name.to_owned(),
                gateway: subnet.gateway(),
                subnet,
                internal,
                block: (name == "front").then(|| "10.0.0.0/12".parse().expect("a subnet")),
            }
        };
        let leases = serde_json::json!({ "next": {}, "containers": {
            "web.1": [{ "network": "front", "address": "10.0.0.2" }, { "network": "back", "address": "10.0.1.2" }],
            "db.1": [{ "network": "back", "address": "10.0.1.3" }],
            "new.1": [{ "network": "front", "address": "10.0.0.4" }],
        }, "lookups": {
            "web.1": { "resolvers": [], "aliases": {
                "database": "DB", "db.example.org": "db", "lost.example.org": "nobody",
            }},
        }});
        let foreign = serde_json::json!({
            "front": {
                "web": ["10.8.0.9"], "DB": ["10.8.0.3"], "cache": ["10.8.0.4", "10.8.1.4"],
                "later": ["10.8.0.7"],
            },
        });
        let records = serde_json::json!({
            "front": { "later": [], "web": ["10.0.0.2", "10.0.0.4"], "web.1": ["10.0.0.2"] },
            "back": { "Db": ["10.0.1.3"], "db.1": ["10.0.1.3"], "idle": [] },
        });
        View::new(
            vec![
                zone("front", "10.0.0.0/24", false),
                zone("back", "10.0.1.0/24", true),
            ],
            serde_json::from_value(leases).expect("leases"),
            serde_json::from_value(records).expect("records"),
            serde_json::from_value(foreign).expect("records"),
        )
    }

    /// `what` as seen by the container at `client` through network `through`.
    fn ask(client: &str, through: &str, what: &str, kind: u16, turn: usize) -> String {
        let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in what.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 1]);
        let query = message::parse(&bytes).expect("a question");
        match view().decide(address(client), through, &query.name, query.kind, turn) {
            Decision::Answer(Answers::Addresses(addresses)) => addresses
                .iter()
                .map(Ipv4Addr::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Decision::Answer(Answers::Names(names)) => names.join(" "),
            Decision::Empty(code) => format!("{code:?}"),
            Decision::Forward => "forward".to_owned(),
        }
    }

    #[test]
    fn names_are_known_on_shared_networks_only() {
        assert_eq!(
            ask("10.0.0.2", "front", "db", TYPE_A, 0),
            "10.0.1.3",
            "by its other network"
        );
        assert_eq!(ask("10.0.0.4", "front", "idle", TYPE_A, 0), "NameError");
        assert_eq!(ask("10.0.1.3", "back", "DB.1", TYPE_A, 0), "10.0.1.3");
        assert_eq!(
            ask("10.0.0.99", "front", "web.1", TYPE_A, 0),
            "10.0.0.2",
            "nobody we know"
        );
        assert_eq!(ask("10.0.1.2", "back", "idle", TYPE_A, 0), "");
    }

    #[test]
    fn aliases_hold_for_one_container() {
        for (name, expected) in [
            ("database", "10.0.1.3"),
            ("Database", "10.0.1.3"),
            ("db.example.org", "10.0.1.3"),
            ("lost.example.org", "NameError"),
        ] {
            assert_eq!(
                ask("10.0.0.2", "front", name, TYPE_A, 0),
                expected,
                "{name}"
            );
        }
        assert_eq!(ask("10.0.1.3", "back", "database", TYPE_A, 0), "NameError");
        assert_eq!(
            ask("10.0.0.4", "front", "db.example.org", TYPE_A, 0),
            "forward"
        );
    }

    #[test]
    fn names_of_other_environments_come_after_all_of_our_own() {
        let front = |name| ask("10.0.0.4", "front", name, TYPE_A, 0);
        assert_eq!(front("cache"), "10.8.0.4 10.8.1.4", "all who have the name");
        assert_eq!(front("db"), "10.8.0.3", "ours is not on this network");
        assert_eq!(front("web"), "10.0.0.2 10.0.0.4");
        assert_eq!(front("later"), "", "ours, though nobody answers");
        let web = |name| ask("10.0.0.2", "front", name, TYPE_A, 0);
        assert_eq!(web("db"), "10.0.1.3", "ours, on another network");
        assert_eq!(ask("10.0.1.3", "back", "cache", TYPE_A, 0), "NameError");
        let reverse = |client, through| ask(client, through, "4.1.8.10.in-addr.arpa", TYPE_PTR, 0);
        assert_eq!(reverse("10.0.0.4", "front"), "cache");
        assert_eq!(reverse("10.0.1.3", "back"), "NameError");
    }

    #[test]
    fn addresses_take_turns_and_other_types_are_empty() {
        assert_eq!(
            ask("10.0.0.2", "front", "web", TYPE_A, 0),
            "10.0.0.2 10.0.0.4"
        );
        assert_eq!(
            ask("10.0.0.2", "front", "web", TYPE_A, 3),
            "10.0.0.4 10.0.0.2"
        );
        assert_eq!(ask("10.0.0.2", "front", "web", AAAA, 0), "NoError");
        assert_eq!(
            ask("10.0.0.2", "front", "web", TYPE_ANY, 0),
            "10.0.0.2 10.0.0.4"
        );
    }

    #[test]
    fn the_rest_goes_out_where_there_is_a_way_out() {
        assert_eq!(
            ask("10.0.0.2", "front", "www.example.org", TYPE_A, 0),
            "forward"
        );
        assert_eq!(
            ask("10.0.1.2", "back", "www.example.org", AAAA, 0),
            "forward"
        );
        assert_eq!(
            ask("10.0.1.3", "back", "www.example.org", TYPE_A, 0),
            "NameError"
        );
        for name in ["unknown", "db.shop.havre", "Havre"] {
            assert_eq!(ask("10.0.0.2", "front", name, TYPE_A, 0), "NameError");
        }
    }

    #[test]
    fn names_of_localhost_are_whoever_asks() {
        for (client, through) in [("10.0.0.2", "front"), ("10.0.1.3", "back")] {
            for name in ["localhost", "staging.shop.Localhost"] {
                assert_eq!(ask(client, through, name, TYPE_A, 0), "127.0.0.1", "{name}");
                assert_eq!(ask(client, through, name, AAAA, 0), "NoError", "{name}");
            }
        }
        let other = "localhost.example.org";
        assert_eq!(ask("10.0.0.2", "front", other, TYPE_A, 0), "forward");
    }

    #[test]
    fn reverse_names_stay_inside() {
        let reverse = |client, through, what, kind| ask(client, through, what, kind, 0);
        let web = "2.0.0.10.in-addr.arpa";
        assert_eq!(reverse("10.0.0.2", "front", web, TYPE_PTR), "web.1");
        assert_eq!(reverse("10.0.0.2", "front", web, TYPE_A), "NoError");
        assert_eq!(
            reverse("10.0.1.3", "back", web, TYPE_PTR),
            "NameError",
            "not visible"
        );
        assert_eq!(
            reverse("10.0.0.2", "front", "1.0.0.10.in-addr.arpa", TYPE_PTR),
            "NameError"
        );
        assert_eq!(
            reverse("10.0.0.2", "front", "8.8.8.8.in-addr.arpa", TYPE_PTR),
            "forward"
        );
    }
}
