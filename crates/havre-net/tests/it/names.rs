//! Names: the resolver's process as a container sees it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use havre_net::{Lookup, Net, Records, hosts_file};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rustix::mount::MountFlags;

use crate::Test;
use crate::machine::{Machine, PUBLIC, inside, networks, sh, sh_in, wait_until};

pub const TESTS: &[Test] = &[
    (
        "names_are_known_on_shared_networks",
        names_are_known_on_shared_networks,
    ),
    ("new_names_are_known_at_once", new_names_are_known_at_once),
    ("the_c_library_resolves", the_c_library_resolves),
    (
        "questions_from_outside_are_forwarded",
        questions_from_outside_are_forwarded,
    ),
    (
        "a_container_may_have_resolvers_of_its_own",
        a_container_may_have_resolvers_of_its_own,
    ),
    (
        "a_silent_resolver_is_passed_over",
        a_silent_resolver_is_passed_over,
    ),
    ("long_answers_come_over_tcp", long_answers_come_over_tcp),
    (
        "hostile_packets_change_nothing",
        hostile_packets_change_nothing,
    ),
    (
        "the_resolver_is_started_again",
        the_resolver_is_started_again,
    ),
    ("a_resolver_is_confined", a_resolver_is_confined),
    ("a_resolver_is_small", a_resolver_is_small),
];

const PATIENCE: Duration = Duration::from_secs(8);

fn message(name: &str, kind: RecordType, udp: Option<u16>) -> Message {
    let id = Instant::now().elapsed().subsec_nanos() as u16 ^ 0x5a5a;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.edns = udp.map(|size| {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        edns
    });
    message
}

/// Asks over UDP from a namespace.
pub fn ask_udp(from: &Path, server: Ipv4Addr, name: &str, kind: RecordType) -> Message {
    let question = message(name, kind, None);
    let bytes = question.to_vec().expect("encoded");
    let answer = inside(from, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.connect((server, 53)).expect("connected");
        socket.send(&bytes).expect("sent");
        let mut buffer = [0; 65_535];
        let length = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        buffer[..length].to_vec()
    });
    let answer = Message::from_vec(&answer).expect("well formed");
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}

/// Asks over TCP from a namespace; several questions on one connection.
fn ask_tcp(from: &Path, server: Ipv4Addr, names: &[&str]) -> Vec<Message> {
    inside(from, || {
        let mut stream = TcpStream::connect((server, 53)).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        for name in names {
            let bytes = message(name, RecordType::A, None)
                .to_vec()
                .expect("encoded");
            // In two pieces, as a slow network would.
            stream
                .write_all(&(bytes.len() as u16).to_be_bytes())
                .expect("sent");
            stream.write_all(&bytes).expect("sent");
        }
        names
            .iter()
            .map(|_| read_message(&mut stream).expect("answered"))
            .collect()
    })
}

fn read_message(stream: &mut TcpStream) -> std::io::Result<Message> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Message::from_vec(&bytes).map_err(std::io::Error::other)
}

/// `code: addresses or names`, as short as can be compared.
pub fn short(answer: &Message) -> String {
    let data: Vec<String> = answer
        .answers
        .iter()
        .map(|record| match &record.data {
            RData::A(address) => address.0.to_string(),
            RData::PTR(name) => name.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    match answer.metadata.response_code {
        ResponseCode::NoError => data.join(" "),
        code => format!("{code:?}"),
    }
}

pub fn records(of: &[(&str, &str, &[Ipv4Addr])]) -> Records {
    let mut records = Records::default();
    for (network, name, addresses) in of {
        let names: &mut BTreeMap<_, _> = records.networks.entry((*network).to_owned()).or_default();
        names.insert((*name).to_owned(), addresses.to_vec());
    }
    records
}

pub fn start(net: &Net, environment: &str) {
    let exe = std::env::current_exe().expect("this program");
    net.ensure_dns(environment, &exe).expect("a resolver");
}

/// The resolvers of the machine.
fn resolv_conf(machine: &Machine, text: &str) {
    let path = machine.dir().join("resolv.conf");
    fs::write(&path, text).expect("written");
    rustix::mount::mount(&path, "/etc/resolv.conf", "", MountFlags::BIND, None).expect("in place");
}

/// A resolver of the host: knows what its tests need.
fn upstream(address: &str) {
    let address: SocketAddr = address.parse().expect("an address");
    let udp = UdpSocket::bind(address).expect("a free port");
    let tcp = TcpListener::bind(address).expect("a free port");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            if let Some(answer) = upstream_answer(&buffer[..length], 20) {
                // A forgery first: wrong number, right question, another address.
                let mut forged = answer.clone();
                forged[0] ^= 0xff;
                if let Some(last) = forged.last_mut() {
                    *last ^= 0xff;
                }
                udp.send_to(&forged, client).expect("sent");
                udp.send_to(&answer, client).expect("sent");
            }
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.expect("accepted");
            let question = read_message(&mut stream).expect("a question");
            let question = question.to_vec().expect("encoded");
            let answer = upstream_answer(&question, usize::MAX).expect("an answer");
            let mut bytes = (answer.len() as u16).to_be_bytes().to_vec();
            bytes.extend_from_slice(&answer);
            for piece in bytes.chunks(1000) {
                stream.write_all(piece).expect("sent");
            }
        }
    });
}

/// `N.count.example.org` has N addresses; `fail.…` fails; `none.…` does not exist; `silent.…`
/// is not answered.
fn upstream_answer(question: &[u8], most: usize) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).expect("well formed");
    let query = question.queries.first().expect("a question").clone();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.add_query(query.clone());
    let name = query.name().to_string().to_ascii_lowercase();
    match name.split('.').next()? {
        "silent" => return None,
        "fail" => answer.metadata.response_code = ResponseCode::ServFail,
        "none" => answer.metadata.response_code = ResponseCode::NXDomain,
        count => {
            let count: u32 = count.parse().unwrap_or(1);
            for n in (0..count).take(most) {
                let address = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(192, 0, 2, 1)) + n);
                let data = RData::A(A(address));
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
            answer.metadata.truncation = count as usize > most;
        }
    }
    Some(answer.to_vec().expect("encoded"))
}

fn names_are_known_on_shared_networks() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["front", "back"]))
        .expect("set up");
    let web = net
        .attach("e", "web.1", &["front", "back"])
        .expect("attached");
    let db = net.attach("e", "db.1", &["back"]).expect("attached");
    let other = net.attach("e", "other.1", &["front"]).expect("attached");
    let db_address = db.addresses["back"];
    let both = [web.addresses["front"], other.addresses["front"]];
    let all = records(&[
        ("back", "db", &[db_address]),
        ("back", "db.1", &[db_address]),
        ("front", "web", &both),
        ("front", "web.1", &both[..1]),
    ]);
    net.set_names("e", &all).expect("set");
    start(&net, "e");
    let front = environment.networks["front"].gateway;
    let back = environment.networks["back"].gateway;
    let ask = |from: &Path, at, name, kind| short(&ask_udp(from, at, name, kind));
    let a = RecordType::A;
    assert_eq!(ask(&web.netns, front, "DB.", a), db_address.to_string());
    assert_eq!(ask(&db.netns, back, "db.1.", a), db_address.to_string());
    assert_eq!(ask(&other.netns, front, "db.", a), "NXDomain");
    assert_eq!(ask(&db.netns, back, "web.", a), "NXDomain");
    assert_eq!(ask(&web.netns, front, "db.", RecordType::AAAA), "");
    let reverse = format!("{}.in-addr.arpa.", reversed(db_address));
    assert_eq!(ask(&web.netns, front, &reverse, RecordType::PTR), "db.1.");
    assert_eq!(
        ask(&other.netns, front, &reverse, RecordType::PTR),
        "NXDomain"
    );
    let turns: std::collections::BTreeSet<_> =
        (0..4).map(|_| ask(&web.netns, front, "web.", a)).collect();
    assert_eq!(turns.len(), 2, "both addresses come first: {turns:?}");
    let ttl = ask_udp(&web.netns, front, "web.", a).answers[0].ttl;
    assert!((1..=5).contains(&ttl));
    // A gateway answers its own network only: what another knows cannot be had by asking there.
    let bytes = message("db.", a, None).to_vec().expect("encoded");
    let silence = inside(&other.netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("set");
        socket.connect((back, 53)).expect("connected");
        socket.send(&bytes).expect("sent");
        socket.recv(&mut [0; 512])
    });
    assert!(silence.is_err(), "another network's gateway answers");
    let answers = ask_tcp(&web.netns, front, &["db.", "db.1.", "nobody."]);
    let answers: Vec<_> = answers.iter().map(short).collect();
    assert_eq!(
        answers,
        [
            db_address.to_string(),
            db_address.to_string(),
            "NXDomain".to_owned()
        ]
    );
}

fn reversed(address: Ipv4Addr) -> String {
    let mut octets = address.octets();
    octets.reverse();
    Ipv4Addr::from(octets).to_string()
}

fn new_names_are_known_at_once() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let gateway = |name: &str, names: &[&str]| {
        net.ensure_environment("e", &networks(names))
            .expect("set up")
            .networks[name]
            .gateway
    };
    let x = gateway("x", &["x"]);
    start(&net, "e");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    for n in 0..100 {
        let address = Ipv4Addr::new(10, 0, 0, n);
        net.set_names("e", &records(&[("x", "app", &[address])]))
            .expect("set");
        let answer = short(&ask_udp(&a.netns, x, "app.", RecordType::A));
        assert_eq!(answer, address.to_string());
    }
    // A network that came later has its resolver at once too, and sees its own names.
    let y = gateway("y", &["x", "y"]);
    let b = net.attach("e", "b", &["y"]).expect("attached");
    net.set_names("e", &records(&[("y", "late", &[y])]))
        .expect("set");
    assert_eq!(
        short(&ask_udp(&b.netns, y, "late.", RecordType::A)),
        y.to_string()
    );
    assert_eq!(
        short(&ask_udp(&b.netns, y, "app.", RecordType::A)),
        "NXDomain"
    );
    // And a container that joins later sees both.
    net.attach("e", "a", &["x", "y"]).expect("attached");
    assert_eq!(
        short(&ask_udp(&a.netns, x, "late.", RecordType::A)),
        y.to_string()
    );
}

fn the_c_library_resolves() {
    let machine = Machine::new();
    resolv_conf(&machine, "nameserver 127.0.0.53\n");
    sh("ip link set lo up");
    upstream("127.0.0.53:53");
    let net = machine.net("t1");
    let wanted = ["internal", "x"];
    net.ensure_environment("e", &networks(&wanted))
        .expect("set up");
    start(&net, "e");
    let a = net.attach("e", "a", &wanted).expect("attached");
    net.set_names(
        "e",
        &records(&[("internal", "db", &[Ipv4Addr::new(10, 1, 2, 3)])]),
    )
    .expect("set");
    let resolv = machine.dir().join("for-a");
    let text = net.resolv_conf("e", &wanted, &[], &[]).expect("text");
    assert!(text.ends_with("options ndots:0\n"), "{text}");
    fs::write(&resolv, text).expect("written");
    let hosts = machine.dir().join("hosts-for-a");
    let extra = [(
        "host.docker.internal".to_owned(),
        Ipv4Addr::new(100, 64, 0, 2).into(),
    )];
    fs::write(&hosts, hosts_file("a-host", &a.addresses, &extra)).expect("written");
    let getent = |name: &str| {
        let script = format!(
            "unshare --mount sh -c 'mount --bind {} /etc/resolv.conf && mount --bind {} \
             /etc/hosts && getent ahosts {name}'",
            resolv.display(),
            hosts.display()
        );
        let text = sh_in(&a.netns, &script);
        text.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(getent("db"), "10.1.2.3");
    assert_eq!(getent("1.example.org"), "192.0.2.1");
    assert_eq!(getent("a-host"), a.addresses["internal"].to_string());
    assert_eq!(getent("host.docker.internal"), "100.64.0.2");
    assert_eq!(getent("nobody"), "");
}

fn questions_from_outside_are_forwarded() {
    let machine = Machine::new();
    resolv_conf(&machine, "nameserver 127.0.0.53\n");
    upstream("127.0.0.53:53");
    upstream("127.0.0.54:53");
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x", "internal"]))
        .expect("set up");
    start(&net, "e");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    let closed = net.attach("e", "closed", &["internal"]).expect("attached");
    let x = environment.networks["x"].gateway;
    let ask = |name| short(&ask_udp(&a.netns, x, name, RecordType::A));
    assert_eq!(ask("2.example.org."), "192.0.2.1 192.0.2.2");
    assert_eq!(ask("none.example.org."), "NXDomain");
    assert_eq!(ask("fail.example.org."), "ServFail");
    assert_eq!(ask("1.single."), "192.0.2.1");
    let internal = environment.networks["internal"].gateway;
    let answer = ask_udp(&closed.netns, internal, "1.example.org.", RecordType::A);
    assert_eq!(
        short(&answer),
        "NXDomain",
        "no way out, no names from outside"
    );
    // The machine's resolvers may change; this one would not be reached from the router.
    fs::write("/etc/resolv.conf", "# changed\nnameserver 127.0.0.54\n").expect("written");
    wait_until("the new resolver answers", Duration::from_secs(5), || {
        ask("1.example.org.") == "192.0.2.1"
    });
    // Many at once, each gets its own.
    let questions = 60;
    inside(&a.netns, || {
        let sockets: Vec<_> = (0..questions)
            .map(|_| UdpSocket::bind("0.0.0.0:0").expect("a socket"))
            .collect();
        for (n, socket) in sockets.iter().enumerate() {
            let name = format!("{}.example.org.", n % 9 + 1);
            let bytes = message(&name, RecordType::A, None)
                .to_vec()
                .expect("encoded");
            socket.send_to(&bytes, (x, 53)).expect("sent");
        }
        for (n, socket) in sockets.iter().enumerate() {
            socket.set_read_timeout(Some(PATIENCE)).expect("set");
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).expect("answered");
            let answer = Message::from_vec(&buffer[..length]).expect("well formed");
            assert_eq!(answer.answers.len(), n % 9 + 1);
        }
    });
}

fn a_container_may_have_resolvers_of_its_own() {
    let machine = Machine::new();
    // Nobody listens there: whoever asks the host's resolver learns nothing.
    resolv_conf(&machine, "nameserver 127.0.0.53\n");
    upstream(&format!("{PUBLIC}:53"));
    let net = machine.net("t1");
    let wanted = ["x", "y"];
    let environment = net
        .ensure_environment("e", &networks(&wanted))
        .expect("set up");
    start(&net, "e");
    let plain = net.attach("e", "plain", &["x"]).expect("attached");
    let own = net.attach("e", "own", &wanted).expect("attached");
    // The first does not answer either.
    let resolvers = [Ipv4Addr::new(198, 51, 100, 77).into(), PUBLIC.into()];
    let lookup = Lookup {
        resolvers: resolvers.to_vec(),
        aliases: [("base".to_owned(), "db".to_owned())].into(),
    };
    net.set_lookup("e", "own", &lookup).expect("set");
    let names = records(&[("y", "db", &[Ipv4Addr::new(10, 1, 2, 3)])]);
    net.set_names("e", &names).expect("set");
    let ask = |from: &Path, network: &str, name| {
        let at = environment.networks[network].gateway;
        short(&ask_udp(from, at, name, RecordType::A))
    };
    for network in wanted {
        assert_eq!(ask(&own.netns, network, "1.example.org."), "192.0.2.1");
        assert_eq!(ask(&own.netns, network, "none.example.org."), "NXDomain");
    }
    assert_eq!(
        ask(&own.netns, "x", "db."),
        "10.1.2.3",
        "names go on working"
    );
    assert_eq!(ask(&own.netns, "x", "base."), "10.1.2.3", "by an alias");
    assert_eq!(ask(&plain.netns, "x", "base."), "NXDomain");
    assert_eq!(ask(&own.netns, "x", "nobody."), "NXDomain");
    let x = environment.networks["x"].gateway;
    let over_tcp = ask_tcp(&own.netns, x, &["30.example.org.", "db."]);
    assert_eq!(over_tcp[0].answers.len(), 30);
    assert_eq!(short(&over_tcp[1]), "10.1.2.3");
    assert_eq!(ask(&plain.netns, "x", "1.example.org."), "ServFail");

    let text = |search: &[&str], options: &[&str]| {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let text = net.resolv_conf("e", &["x"], &own(search), &own(options));
        text.expect("text").replace(&x.to_string(), "GATEWAY")
    };
    assert_eq!(
        text(&["a.example", "b.example"], &["timeout:1"]),
        "nameserver GATEWAY\nsearch a.example b.example\noptions ndots:0 timeout:1\n"
    );
    assert_eq!(
        text(&[], &["ndots:2", "rotate"]),
        "nameserver GATEWAY\noptions ndots:2 rotate\n"
    );

    // They are the container's, not its address's.
    net.detach("e", "own").expect("detached");
    let leases = fs::read_to_string(machine.dir().join("t1/run/e/leases.json")).expect("leases");
    assert!(!leases.contains(&PUBLIC.to_string()), "{leases}");
}

fn a_silent_resolver_is_passed_over() {
    let machine = Machine::new();
    // The first takes everything and says nothing, the second is not there at all.
    let _silent = UdpSocket::bind("127.0.0.52:53").expect("a free port");
    resolv_conf(
        &machine,
        "nameserver 127.0.0.52\nnameserver 127.0.0.51\nnameserver 127.0.0.53\n",
    );
    upstream("127.0.0.53:53");
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    start(&net, "e");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    let x = environment.networks["x"].gateway;
    let ask = |name| short(&ask_udp(&a.netns, x, name, RecordType::A));
    let begun = Instant::now();
    assert_eq!(ask("1.example.org."), "192.0.2.1");
    let first = begun.elapsed();
    let begun = Instant::now();
    assert_eq!(ask("1.example.org."), "192.0.2.1");
    assert!(
        begun.elapsed() < first / 2,
        "the one that answers is asked first from then on"
    );
    // None answers: a failure, before the client gives up by itself.
    let begun = Instant::now();
    assert_eq!(ask("silent.example.org."), "ServFail");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let answers = ask_tcp(&a.netns, x, &["1.example.org.", "300.example.org."]);
    assert_eq!(answers[0].answers.len() + answers[1].answers.len(), 301);
}

fn long_answers_come_over_tcp() {
    let machine = Machine::new();
    resolv_conf(&machine, "nameserver 127.0.0.53\n");
    upstream("127.0.0.53:53");
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    start(&net, "e");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    let many: Vec<_> = (0..200).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
    net.set_names("e", &records(&[("x", "many", &many)]))
        .expect("set");
    let x = environment.networks["x"].gateway;
    for (name, count) in [("many.", 200), ("300.example.org.", 300)] {
        let cut = ask_udp(&a.netns, x, name, RecordType::A);
        assert!(cut.metadata.truncation, "{name}");
        let whole = &ask_tcp(&a.netns, x, &[name])[0];
        assert!(!whole.metadata.truncation);
        assert_eq!(whole.answers.len(), count, "{name}");
    }
}

fn hostile_packets_change_nothing() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    start(&net, "e");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    let b = net.attach("e", "b", &["x"]).expect("attached");
    net.set_names("e", &records(&[("x", "app", &[Ipv4Addr::LOCALHOST])]))
        .expect("set");
    let x = environment.networks["x"].gateway;
    let before = net.dns_status("e").expect("asked").expect("alive").pid;
    // Deterministic noise, and damaged copies of a good question.
    let good = message("www.example.org.", RecordType::A, Some(4096))
        .to_vec()
        .expect("encoded");
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let _idle = inside(&a.netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect((x, 53)).expect("connected");
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..random() % 4 + 1 {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(random() as usize % (bytes.len() + 1));
            // Answers may be refused by then; what counts is that the resolver lives.
            if socket.send(&bytes).is_err() {
                continue;
            }
        }
        // Connections that say nothing, too much or nonsense, more than one client may have.
        (0..40)
            .map(|n| {
                let mut stream = TcpStream::connect((x, 53)).expect("connected");
                let nonsense: &[u8] = if n % 2 == 0 {
                    &[0xff, 0xff, 0, 1, 2]
                } else {
                    &[]
                };
                stream.write_all(nonsense).expect("sent");
                stream
            })
            .collect::<Vec<_>>()
    });
    // The flood may have filled the queue; clients ask again, as this one does.
    let begun = Instant::now();
    wait_until("another client is answered", PATIENCE, || {
        let question = message("app.", RecordType::A, None);
        let bytes = question.to_vec().expect("encoded");
        inside(&b.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket
                .set_read_timeout(Some(Duration::from_millis(200)))
                .expect("set");
            socket.send_to(&bytes, (x, 53)).expect("sent");
            socket.recv(&mut [0; 512]).is_ok()
        })
    });
    println!("answered {:?} after the flood", begun.elapsed());
    assert_eq!(
        short(&ask_tcp(&b.netns, x, &["app."])[0]),
        "127.0.0.1",
        "a place is left"
    );
    assert_eq!(
        net.dns_status("e").expect("asked").expect("alive").pid,
        before
    );
}

fn the_resolver_is_started_again() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    assert!(net.dns_status("e").expect("asked").is_none());
    let exe = std::env::current_exe().expect("this program");
    let first = net.ensure_dns("e", &exe).expect("a resolver");
    let again = net.ensure_dns("e", &exe).expect("a resolver");
    assert_eq!(first.pid, again.pid, "one is enough");
    // Another instance of the daemon finds it as well.
    assert_eq!(
        machine
            .net("t1")
            .dns_status("e")
            .expect("asked")
            .expect("alive")
            .pid,
        first.pid
    );
    rustix::process::pidfd_send_signal(&first.pidfd, rustix::process::Signal::KILL).expect("sent");
    let mut watched = [rustix::event::PollFd::new(
        &first.pidfd,
        rustix::event::PollFlags::IN,
    )];
    let patience = rustix::event::Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    assert_eq!(
        rustix::event::poll(&mut watched, Some(&patience)).expect("polled"),
        1
    );
    assert!(net.dns_status("e").expect("asked").is_none());
    let second = net.ensure_dns("e", &exe).expect("a resolver");
    assert_ne!(first.pid, second.pid);
    let a = net.attach("e", "a", &["x"]).expect("attached");
    let x = environment.networks["x"].gateway;
    assert_eq!(
        short(&ask_udp(&a.netns, x, "nobody.", RecordType::A)),
        "NXDomain"
    );
    // It goes with its environment, also when nobody ends it.
    let errors = net.remove_environment("e");
    assert!(errors.is_empty(), "{errors:?}");
    let mut watched = [rustix::event::PollFd::new(
        &second.pidfd,
        rustix::event::PollFlags::IN,
    )];
    assert_eq!(
        rustix::event::poll(&mut watched, Some(&patience)).expect("polled"),
        1
    );
    // A resolver that cannot start says why.
    net.ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    let error = net
        .ensure_dns("e", Path::new("/bin/false"))
        .expect_err("no resolver");
    assert!(
        error.to_string().contains("start the resolver of e"),
        "{error}"
    );
    let _ = second.pidfd.as_fd();
}

/// Number and capabilities of each process of a resolver: itself and its helper.
fn a_resolver_is_confined() {
    let machine = Machine::new();
    let net = machine.net("t1");
    net.ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    start(&net, "e");
    let resolver = net.dns_status("e").expect("asked").expect("alive").pid;
    let children = format!("/proc/{resolver}/task/{resolver}/children");
    let children = fs::read_to_string(children).expect("its children");
    let helper: u32 = children.trim().parse().expect("one child");
    // CAP_NET_BIND_SERVICE, for port 53 of networks to come; the helper has nothing.
    for (pid, capabilities) in [(resolver, "0000000000000400"), (helper, "0000000000000000")] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read");
        for line in [
            "Uid:\t60953\t60953\t60953\t60953".to_owned(),
            "Gid:\t60953\t60953\t60953\t60953".to_owned(),
            "Groups:\t ".to_owned(),
            format!("CapPrm:\t{capabilities}"),
            format!("CapEff:\t{capabilities}"),
            "CapBnd:\t0000000000000000".to_owned(),
            "NoNewPrivs:\t1".to_owned(),
            "Seccomp:\t2".to_owned(),
        ] {
            assert!(status.lines().any(|it| it == line), "{line} in:\n{status}");
        }
    }
    // It sees its folder alone, and no pin of a namespace in it.
    let root = format!("/proc/{resolver}/root");
    for hidden in ["/etc", "/proc", "/run/netns"] {
        assert!(!Path::new(&format!("{root}{hidden}")).exists(), "{hidden}");
    }
    let mounts = fs::read_to_string(format!("/proc/{resolver}/mountinfo")).expect("its mounts");
    assert_eq!(mounts.lines().count(), 2, "{mounts}");
    assert!(!mounts.contains("nsfs"), "{mounts}");
    // It ends with its folder, though nobody ends it, and the helper with it.
    let watched = [resolver, helper].map(|pid| {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a number");
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("alive")
    });
    let folder = machine.config("t1").run_dir.join("e");
    sh(&format!("umount -l {}", folder.join("router").display()));
    fs::remove_dir_all(&folder).expect("removed");
    for pidfd in &watched {
        let mut ended = [rustix::event::PollFd::new(
            pidfd,
            rustix::event::PollFlags::IN,
        )];
        let patience = rustix::event::Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let count = rustix::event::poll(&mut ended, Some(&patience)).expect("polled");
        assert_eq!(count, 1);
    }
    let errors = net.remove_environment("e");
    assert!(errors.is_empty(), "{errors:?}");
}

fn a_resolver_is_small() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    start(&net, "e");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    let x = environment.networks["x"].gateway;
    for _ in 0..1000 {
        ask_udp(&a.netns, x, "nobody.", RecordType::A);
    }
    let begun = Instant::now();
    for _ in 0..200 {
        ask_udp(&a.netns, x, "nobody.", RecordType::A);
    }
    let each = begun.elapsed() / 200;
    let pid = net.dns_status("e").expect("asked").expect("alive").pid;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("read");
    let kilobytes = |key: &str| -> u64 {
        rollup
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .expect("a number")
    };
    let (dirty, pss) = (kilobytes("Private_Dirty:"), kilobytes("Pss:"));
    println!("figures: resolver private dirty {dirty} kB, PSS {pss} kB; a question {each:?}");
    assert!(dirty < 1024, "private dirty {dirty} kB");
}
