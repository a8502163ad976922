//! Published UDP ports: datagrams reach a service through its releases.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::machine::{Machine, on_machine};

/// Answers each datagram with `$PAGE`, a blank and the same again. BusyBox has nothing like it.
const ECHO: &str = r#"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
  static char in[65536], out[66000];
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7000)};
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  if (bind(s, (struct sockaddr *)&at, sizeof at)) return 1;
  const char *page = getenv("PAGE");
  for (;;) {
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t n = recvfrom(s, in, sizeof in, 0, (struct sockaddr *)&from, &size);
    if (n < 0) return 1;
    size_t head = n > 60000 ? 0 : strlen(page) + 1;
    memcpy(out, page, head);
    if (head) out[head - 1] = ' ';
    memcpy(out + head, in, n);
    sendto(s, out, head + n, 0, (struct sockaddr *)&from, size);
  }
}
"#;

fn write(machine: &Machine, page: &str, ports: &str) {
    machine.web(&format!(
        "
  echo:
    build: {{context: ., dockerfile_inline: \"FROM base:1\\nCOPY echo /bin/echo-server\\n\"}}
    init: true
    command: [echo-server]
    environment: {{PAGE: {page}}}
    ports: {ports}
"
    ));
    machine.write(
        "havre.yaml",
        "domain: shop.localhost\nroutes: [{path: /, service: web, port: 8080}]\n",
    );
}

fn compile(machine: &Machine) {
    machine.write("echo.c", ECHO);
    let program = machine.project().join("echo");
    let gcc = Command::new("gcc")
        .args(["-static", "-O", "-o"])
        .arg(&program)
        .arg(machine.project().join("echo.c"))
        .output()
        .expect("gcc");
    assert!(gcc.status.success(), "{gcc:?}");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

fn client(wait: Duration) -> UdpSocket {
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    client.set_read_timeout(Some(wait)).unwrap();
    client
}

/// Sends and waits for the answer, which is checked to be to this.
fn ask(client: &UdpSocket, to: (&str, u16), payload: &str) -> std::io::Result<String> {
    client.send_to(payload.as_bytes(), to)?;
    let mut buffer = [0; 128];
    let (length, from) = client.recv_from(&mut buffer)?;
    assert_eq!(from.to_string(), format!("{}:{}", to.0, to.1));
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let (page, echoed) = answer.split_once(' ').unwrap();
    assert_eq!(echoed, payload);
    Ok(page.to_owned())
}

#[test]
fn datagrams_reach_a_service_through_its_releases() {
    on_machine(|machine| {
        machine.shop("one");
        compile(machine);
        write(
            machine,
            "one",
            "['7000:7000/udp', '127.0.0.1:7010-7011:7000-7001/udp']",
        );
        machine.ok(&["up"]);
        let patient = client(Duration::from_secs(20));
        // By whichever address of the machine: on all of them it is open.
        for address in ["127.0.0.1", "127.0.0.5"] {
            assert_eq!(ask(&patient, (address, 7000), "hello").unwrap(), "one");
        }
        assert_eq!(ask(&patient, ("127.0.0.1", 7010), "range").unwrap(), "one");
        let long: Vec<u8> = (0..65_507_u32).map(|n| n.to_le_bytes()[0]).collect();
        patient.send_to(&long, ("127.0.0.1", 7000)).unwrap();
        let mut answer = vec![0; 65_535];
        let (length, _) = patient.recv_from(&mut answer).unwrap();
        assert!(answer[..length] == long, "{length} bytes came back");
        let routes = machine.status()["routes"].to_string();
        assert!(routes.contains("udp://0.0.0.0:7000"), "{routes}");

        let over = AtomicBool::new(false);
        let pages = std::thread::scope(|scope| {
            let visitor = scope.spawn(|| {
                let client = client(Duration::from_secs(20));
                let mut pages = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let number = pages.len().to_string();
                    pages.push(ask(&client, ("127.0.0.1", 7000), &number));
                    std::thread::sleep(Duration::from_millis(5));
                }
                pages
            });
            write(machine, "two", "['7000:7000/udp']");
            machine.ok(&["up"]);
            over.store(true, Ordering::Relaxed);
            visitor.join().unwrap()
        });
        let pages: Vec<String> = pages.into_iter().map(Result::unwrap).collect();
        let moved = pages.iter().position(|page| page == "two").unwrap();
        assert!(pages[..moved].iter().all(|page| page == "one"), "{pages:?}");
        assert!(pages[moved..].iter().all(|page| page == "two"), "{pages:?}");
        let gone = client(Duration::from_millis(300));
        assert!(ask(&gone, ("127.0.0.1", 7010), "x").is_err(), "closed");

        let other = machine.run(&["up", "-p", "other"]);
        assert_eq!(other.code, 7, "{}", other.err);
        let owner = "port 7000/udp, which `echo` publishes, is taken by shop/production";
        assert!(other.err.contains(owner), "{}", other.err);
        let foreign = UdpSocket::bind("0.0.0.0:7001").unwrap();
        write(machine, "three", "['7001:7000/udp']");
        let taken = machine.run(&["up"]);
        assert_eq!(taken.code, 7, "{}", taken.err);
        assert!(taken.err.contains("is taken by it"), "{}", taken.err);
        drop(foreign);

        machine.ok(&["down"]);
        assert!(UdpSocket::bind("0.0.0.0:7000").is_ok(), "free again");
    });
}
