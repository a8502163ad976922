//! What the commands of probes say.

/// The port of an address of the container's own that a probe asks.
pub fn local_port(probe: &str) -> Option<u16> {
    ["localhost:", "127.0.0.1:", "0.0.0.0:", "[::1]:"]
        .into_iter()
        .find_map(|host| {
            let (_, rest) = probe.split_once(host)?;
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            rest[..digits].parse().ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_probe_is_the_containers_own() {
        for (probe, port) in [
            ("curl -f http://localhost:5000/health || exit 1", Some(5000)),
            ("wget -qO- http://127.0.0.1:80", Some(80)),
            ("curl http://[::1]:8080/", Some(8080)),
            ("curl http://backend:5000/", None),
            ("curl http://localhost/", None),
            ("curl http://localhost:99999/", None),
            ("pg_isready", None),
        ] {
            assert_eq!(local_port(probe), port, "{probe}");
        }
    }
}
