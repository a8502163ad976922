//! Ports whose datagrams are passed on: flows, replacements, takeovers.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use havre_edge::{Forward, Pool, Replica, TakenPort, Transport};

use crate::edge::{Edge, wait_for};

/// For one answer, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// Answers `name payload` to each datagram; to `wait…` only after 400 ms.
pub struct Echo {
    pub address: SocketAddr,
    seen: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub fn start(name: &'static str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (seen, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let address = socket.local_addr().expect("an address");
        let (counter, told) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                counter.fetch_add(1, Ordering::SeqCst);
                let payload = &buffer[..length];
                if payload.starts_with(b"wait") {
                    std::thread::sleep(Duration::from_millis(400));
                }
                if payload.starts_with(b"quiet") {
                    continue;
                }
                // A full datagram has no room for the name.
                let answer = match length {
                    0..1000 => [name.as_bytes(), b" ", payload].concat(),
                    _ => payload.to_vec(),
                };
                drop(socket.send_to(&answer, from));
            }
        });
        Self {
            address,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// Nobody listens any more.
    fn kill(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let waker = UdpSocket::bind("127.0.0.1:0").expect("a port");
            waker.send_to(b"", self.address).expect("to wake it");
            thread.join().expect("its end");
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client with a port of its own.
pub struct Client {
    socket: UdpSocket,
}

impl Client {
    pub fn of(edge: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(edge).expect("a destination");
        socket.set_read_timeout(Some(SOON)).expect("the option");
        Self { socket }
    }

    pub fn send(&self, payload: &[u8]) {
        self.socket.send(payload).expect("to send");
    }

    pub fn receive(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The name of the replica that answers.
    fn ask(&self, payload: &str) -> String {
        self.send(payload.as_bytes());
        let answer = self.receive();
        let (name, echoed) = answer.split_once(' ').expect("a name and a payload");
        assert_eq!(echoed, payload, "answers come in order");
        name.to_owned()
    }
}

/// A free port of this machine.
pub fn free_port() -> u16 {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

/// An edge that passes datagrams at `listen` on to these.
pub fn edge(listen: SocketAddr, replicas: &[(&str, SocketAddr)]) -> Edge {
    let mut edge = Edge::start();
    edge.state.datagram_forwards = vec![Forward {
        id: "names:53".to_owned(),
        listen,
        pool: "names".to_owned(),
    }];
    edge.state.pools.insert("names".to_owned(), Pool::default());
    push(&mut edge, replicas, &[]);
    assert_eq!(edge.status.problems, [""; 0]);
    // Somebody may have taken the port since it was free; the edge tries again.
    wait_for("the port to be had", SOON, || {
        let taken = edge.try_status().expect("a status").taken;
        taken.is_empty().then_some(())
    });
    edge
}

fn push(edge: &mut Edge, serving: &[(&str, SocketAddr)], leaving: &[(&str, SocketAddr)]) {
    let replica = |(id, address): &(&str, SocketAddr), draining| Replica {
        id: (*id).to_owned(),
        address: *address,
        draining,
    };
    let serving = serving.iter().map(|it| replica(it, false));
    let leaving = leaving.iter().map(|it| replica(it, true));
    let pool = edge.state.pools.get_mut("names").expect("the pool");
    pool.replicas = serving.chain(leaving).collect();
    edge.push();
}

fn streams(edge: &Edge, id: &str) -> u64 {
    let status = edge.try_status().expect("a status");
    status.replicas.get(id).map_or(0, |known| known.streams)
}

pub fn datagrams_pass_both_ways_at_any_length() {
    let echo = Echo::start("a");
    let listen = ([127, 0, 0, 1], free_port()).into();
    let edge = edge(listen, &[("a", echo.address)]);
    let client = Client::of(listen);
    assert_eq!(client.ask("hello"), "a");
    client.send(b"");
    assert_eq!(client.receive(), "a ", "an empty one is one too");
    let long: Vec<u8> = (0..65_507_u32).map(|n| n.to_le_bytes()[0]).collect();
    client.send(&long);
    let mut answer = vec![0; 65_535];
    let length = client.socket.recv(&mut answer).expect("an answer");
    assert!(answer[..length] == long, "{length} bytes came back");
    assert_eq!(streams(&edge, "a"), 1, "one client is one flow");
}

pub fn answers_leave_from_the_address_that_was_spoken_to() {
    let echo = Echo::start("a");
    let port = free_port();
    let _edge = edge(([0, 0, 0, 0], port).into(), &[("a", echo.address)]);
    let client = UdpSocket::bind("0.0.0.0:0").expect("a port");
    client.set_read_timeout(Some(SOON)).expect("the option");
    for spoken_to in ["127.0.0.1", "127.0.0.7", "127.9.9.9"] {
        client.send_to(b"x", (spoken_to, port)).expect("to send");
        let (_, from) = client.recv_from(&mut [0; 16]).expect("an answer");
        assert_eq!(from.ip(), spoken_to.parse::<IpAddr>().expect("an address"));
    }
}

pub fn clients_stay_with_their_replicas_through_a_replacement() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let listen = ([127, 0, 0, 1], free_port()).into();
    let mut edge = edge(listen, &[("a", a.address), ("b", b.address)]);
    let clients: Vec<Client> = (0..24).map(|_| Client::of(listen)).collect();
    let homes: Vec<String> = clients.iter().map(|client| client.ask("1")).collect();
    assert!(homes.iter().any(|name| name == "a") && homes.iter().any(|name| name == "b"));

    // One more draws nobody away, one that leaves gives only its own.
    let c = Echo::start("c");
    let all = [("a", a.address), ("b", b.address), ("c", c.address)];
    push(&mut edge, &all, &[]);
    for (client, home) in clients.iter().zip(&homes) {
        assert_eq!(&client.ask("2"), home);
    }
    let first = [&a, &b][usize::from(homes[0] == "b")];
    let before = first.seen();
    clients[0].send(b"wait");
    wait_for("the datagram to arrive", SOON, || {
        (first.seen() > before).then_some(())
    });
    let leaving = all.iter().find(|(id, _)| *id == homes[0]).expect("it");
    let staying: Vec<_> = all
        .iter()
        .filter(|(id, _)| *id != homes[0])
        .copied()
        .collect();
    push(&mut edge, &staying, &[*leaving]);
    assert_eq!(
        clients[0].receive(),
        format!("{} wait", homes[0]),
        "what was asked before is answered"
    );
    for (client, home) in clients.iter().zip(&homes) {
        let now = client.ask("3");
        match *home == homes[0] {
            true => assert_ne!(&now, home),
            false => assert_eq!(&now, home),
        }
    }
    wait_for("the flows to leave", SOON, || {
        (streams(&edge, &homes[0]) == 0).then_some(())
    });
}

/// Asks one thing after the other while `change` happens; how many answers did not come.
fn lost_while(listen: SocketAddr, change: impl FnOnce()) -> (usize, usize) {
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let client = Client::of(listen);
                let (mut asked, mut lost) = (0_usize, 0);
                while !over.load(Ordering::SeqCst) || asked < 20 {
                    asked += 1;
                    client.send(asked.to_string().as_bytes());
                    let mut buffer = [0; 64];
                    match client.socket.recv(&mut buffer) {
                        Ok(length) => {
                            let answer = String::from_utf8_lossy(&buffer[..length]);
                            assert!(answer.ends_with(&format!(" {asked}")), "{answer}");
                        }
                        Err(_) => lost += 1,
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                (asked, lost)
            })
        })
        .collect();
    change();
    over.store(true, Ordering::SeqCst);
    let counts = clients.into_iter().map(|it| it.join().expect("a count"));
    counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

pub fn nothing_is_lost_while_replicas_are_replaced() {
    let mut current = Echo::start("0");
    let listen = ([127, 0, 0, 1], free_port()).into();
    let mut edge = edge(listen, &[("r0", current.address)]);
    let (asked, lost) = lost_while(listen, || {
        for number in 1..=5 {
            let next = Echo::start("n");
            let (old_id, new_id) = (format!("r{}", number - 1), format!("r{number}"));
            let (old, new) = (
                [(old_id.as_str(), current.address)],
                [(new_id.as_str(), next.address)],
            );
            push(&mut edge, &new, &old);
            wait_for("the old replica to be left", SOON, || {
                (streams(&edge, &old_id) == 0).then_some(())
            });
            push(&mut edge, &new, &[]);
            current.kill();
            current = next;
            wait_for("datagrams at the new one", SOON, || {
                (current.seen() > 20).then_some(())
            });
        }
    });
    assert_eq!(lost, 0, "of {asked}");
}

pub fn nothing_is_lost_while_a_new_edge_takes_over() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let listen: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let mut edge = edge(listen, &[("a", a.address), ("b", b.address)]);
    let clients: Vec<Client> = (0..16).map(|_| Client::of(listen)).collect();
    let homes: Vec<String> = clients.iter().map(|client| client.ask("1")).collect();
    let (asked, lost) = lost_while(listen, || {
        for _ in 0..3 {
            let old = edge.take_over(4);
            edge.wait_for_predecessor(old);
            let again: Vec<String> = clients.iter().map(|client| client.ask("2")).collect();
            assert_eq!(again, homes, "the new edge leads to the same replicas");
        }
    });
    assert_eq!(lost, 0, "of {asked}");
}

pub fn a_replica_where_nobody_listens_is_left() {
    let (mut a, mut b) = (Echo::start("a"), Echo::start("b"));
    let listen = ([127, 0, 0, 1], free_port()).into();
    let _edge = edge(listen, &[("a", a.address), ("b", b.address)]);
    let client = Client::of(listen);
    client
        .socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("the option");
    let home = client.ask("1");
    [&mut a, &mut b][usize::from(home == "b")].kill();
    let other = wait_for("the other replica to answer", SOON, || {
        client.send(b"2");
        let mut buffer = [0; 16];
        let length = client.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    });
    assert_ne!(other, format!("{home} 2"));
}

pub fn a_flood_of_clients_leaves_those_that_are_there() {
    let echo = Echo::start("a");
    let listen = ([127, 0, 0, 1], free_port()).into();
    let mut edge = edge(listen, &[("a", echo.address)]);
    // They are taken for many.
    edge.state.connections_per_address = Some(1 << 20);
    edge.push();
    edge.kill();
    edge.launch(&["--threads", "1"]);
    let client = Client::of(listen);
    assert_eq!(client.ask("1"), "a");
    let refused = wait_for("datagrams to be refused", Duration::from_secs(60), || {
        for _ in 0..500 {
            Client::of(listen).send(b"quiet");
        }
        assert_eq!(client.ask("2"), "a");
        let refused = edge.try_status().expect("a status").flows_refused;
        (refused > 0).then_some(refused)
    });
    assert!(refused > 0);
    let told = std::fs::read_to_string(edge.path("stderr")).expect("its talk");
    assert_eq!(told.matches("too many clients").count(), 1, "{told}");
}

pub fn an_address_that_floods_leaves_room_for_new_clients_of_others() {
    let echo = Echo::start("a");
    let listen = ([127, 0, 0, 1], free_port()).into();
    let mut edge = edge(listen, &[("a", echo.address)]);
    edge.state.connections_per_address = Some(20);
    edge.push();
    let clients: Vec<Client> = (0..20).map(|_| Client::of(listen)).collect();
    for client in &clients {
        assert_eq!(client.ask("1"), "a");
    }
    let one_more = Client::of(listen);
    wait_for("a datagram to be refused", SOON, || {
        one_more.send(b"quiet");
        (edge.try_status().expect("a status").flows_refused > 0).then_some(())
    });
    assert_eq!(clients[7].ask("2"), "a", "who is there stays");
    let other = UdpSocket::bind("127.0.0.2:0").expect("a port");
    other.connect(listen).expect("a destination");
    other.set_read_timeout(Some(SOON)).expect("the option");
    assert_eq!(Client { socket: other }.ask("1"), "a");
}

pub fn a_port_that_is_no_longer_wanted_is_free() {
    let echo = Echo::start("a");
    let listen: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let mut edge = edge(listen, &[("a", echo.address)]);
    assert_eq!(Client::of(listen).ask("1"), "a");
    let taken = UdpSocket::bind(listen).expect_err("it is the edge's");
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    edge.state.datagram_forwards.clear();
    edge.push();
    let foreign = wait_for("the port to be free", SOON, || UdpSocket::bind(listen).ok());
    edge.state.datagram_forwards = vec![Forward {
        id: "names:53".to_owned(),
        listen,
        pool: "names".to_owned(),
    }];
    edge.push();
    let taken = TakenPort {
        address: listen,
        transport: Transport::Udp,
    };
    assert_eq!(edge.status.taken, [taken]);
    drop(foreign);
    wait_for("the edge to have it", SOON, || {
        edge.try_status()
            .expect("a status")
            .taken
            .is_empty()
            .then_some(())
    });
    assert_eq!(Client::of(listen).ask("2"), "a");
}
