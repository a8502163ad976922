//! `container:` and `services:` of a job, as boxes take them. Pure.

use havre_box::{CreateOptions, Image, Port, Service};
use havre_runs::ContainerStart;

/// A service, with the image that was found for it.
pub(super) fn service(name: &str, asked: &ContainerStart, image: Image) -> Result<Service, String> {
    let at = |why: String| format!("service {name}: {why}");
    if let Some(volume) = asked.volumes.first() {
        return Err(at(no_volumes(volume)));
    }
    let ports: Result<Vec<Port>, String> = asked.ports.iter().map(|port| port_of(port)).collect();
    Ok(Service {
        name: name.to_owned(),
        image,
        env: asked.env.clone(),
        entrypoint: words(asked.entrypoint.as_deref()).map_err(at)?,
        command: words(asked.command.as_deref()).map_err(at)?,
        ports: ports.map_err(at)?,
        options: options(asked).map_err(at)?,
    })
}

/// What the job's own container is made with.
pub(super) fn own(asked: &ContainerStart) -> Result<CreateOptions, String> {
    if let Some(volume) = asked.volumes.first() {
        return Err(format!("container: {}", no_volumes(volume)));
    }
    let mut options = options(asked).map_err(|why| format!("container: {why}"))?;
    options.env.splice(0..0, asked.env.iter().cloned());
    Ok(options)
}

fn options(asked: &ContainerStart) -> Result<CreateOptions, String> {
    CreateOptions::parse(&asked.options).map_err(|error| error.to_string())
}

fn no_volumes(volume: &str) -> String {
    format!(
        "the volume {volume:?} is not supported: what jobs share goes through `actions/cache` and artifacts"
    )
}

/// `80`, `8080:80`, `53/udp`.
fn port_of(text: &str) -> Result<Port, String> {
    let wrong = || {
        format!("{text:?} is no port: write PORT or PORT:PORT, with /udp behind it where it is UDP")
    };
    let (numbers, udp) = match text.trim().rsplit_once('/') {
        Some((numbers, "udp")) => (numbers, true),
        Some((numbers, "tcp")) => (numbers, false),
        Some(_) => return Err(wrong()),
        None => (text.trim(), false),
    };
    let number = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(wrong()),
    };
    let (host, container) = match numbers.split_once(':') {
        Some((host, container)) => (Some(number(host)?), number(container)?),
        None => (None, number(numbers)?),
    };
    Ok(Port {
        host,
        container,
        udp,
    })
}

/// A line as `docker create` takes entry points and commands: words, by the rules of a shell without its variables.
fn words(line: Option<&str>) -> Result<Option<Vec<String>>, String> {
    let Some(line) = line.filter(|line| !line.trim().is_empty()) else {
        return Ok(None);
    };
    let words = havre_base::shell_words(line).map_err(|why| format!("`{line}`: {why}"))?;
    Ok(Some(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_for_docker() {
        let port = |host, container, udp| Port {
            host,
            container,
            udp,
        };
        for (text, expected) in [
            ("80", Some(port(None, 80, false))),
            ("8080:80", Some(port(Some(8080), 80, false))),
            ("53/udp", Some(port(None, 53, true))),
            ("5432:5432/tcp", Some(port(Some(5432), 5432, false))),
            ("0", None),
            ("80:", None),
            ("127.0.0.1:80:80", None),
            ("80/sctp", None),
            ("8000-8010", None),
        ] {
            assert_eq!(port_of(text).ok(), expected, "{text}");
        }
    }
}
