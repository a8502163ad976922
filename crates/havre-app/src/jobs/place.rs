//! Where a leg runs, by the labels that it asks for. Pure.

use std::collections::BTreeMap;

/// What a label stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The programs of this machine.
    Host,
    /// An image.
    Image(String),
}

/// Labels that this machine answers to without being told: those of runners of one's own, and those of GitHub's
/// Linux machines.
const OWN: [&str; 4] = ["self-hosted", "linux", "havre", "host"];
const UBUNTU: &str = "ubuntu-";

/// The place where all labels hold.
///
/// Errors are sentences for whoever wrote the workflow.
pub(crate) fn place(labels: &[String], images: &BTreeMap<String, String>) -> Result<Place, String> {
    if labels.is_empty() {
        return Err("`runs-on` names nothing to run on".to_owned());
    }
    let mut image: Option<&String> = None;
    for label in labels {
        let known = images
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(label));
        match known {
            Some((_, named)) if image.is_some_and(|image| image != named) => {
                return Err(format!(
                    "`runs-on`: the labels {} stand for different images",
                    labels.join(", ")
                ));
            }
            Some((_, named)) => image = Some(named),
            None if is_own(label) => {}
            None => return Err(unknown(label, images)),
        }
    }
    Ok(match image {
        Some(image) => Place::Image(image.clone()),
        None => Place::Host,
    })
}

fn is_own(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let version = label.strip_prefix(UBUNTU);
    // GitHub's machines of another kind of processor say so behind the version.
    let is_ubuntu = version.is_some_and(|version| match version.strip_suffix("-arm") {
        Some(_) => arch == "arm64",
        None => {
            arch == "x64"
                && (version == "latest"
                    || version == "slim"
                    || version.split('.').all(|part| {
                        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
                    }))
        }
    });
    OWN.contains(&label.as_str()) || label == arch || is_ubuntu
}

fn unknown(label: &str, images: &BTreeMap<String, String>) -> String {
    let mut known = vec!["ubuntu-latest".to_owned(), "self-hosted".to_owned()];
    known.extend(images.keys().cloned());
    format!(
        "`runs-on`: nothing here is called {label:?}; there are {}, and `container:` chooses an image",
        known.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(labels: &[&str]) -> Result<Place, String> {
        let images = [("big", "tools:1"), ("ubuntu-22.04", "jammy:1")];
        let images = images.map(|(name, image)| (name.to_owned(), image.to_owned()));
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        place(&labels, &images.into())
    }

    #[test]
    fn labels_of_this_machine_are_its_own_programs() {
        for labels in [
            &["self-hosted"][..],
            &["Self-Hosted", "Linux"],
            &["host"],
            &[
                "linux",
                std::env::consts::ARCH.replace("x86_64", "x64").as_str(),
            ],
        ] {
            assert_eq!(check(labels), Ok(Place::Host), "{labels:?}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn githubs_linux_machines_are_this_one() {
        for label in [
            "ubuntu-latest",
            "ubuntu-24.04",
            "Ubuntu-Latest",
            "ubuntu-slim",
        ] {
            assert_eq!(check(&[label]), Ok(Place::Host), "{label}");
        }
        for label in [
            "ubuntu-24.04-arm",
            "ubuntu-",
            "ubuntu-x",
            "ubuntu-latest-8-cores",
        ] {
            assert!(check(&[label]).is_err(), "{label}");
        }
    }

    #[test]
    fn the_machines_configuration_comes_first() {
        assert_eq!(
            check(&["ubuntu-22.04"]),
            Ok(Place::Image("jammy:1".to_owned()))
        );
        assert_eq!(
            check(&["linux", "BIG"]),
            Ok(Place::Image("tools:1".to_owned()))
        );
        assert!(
            check(&["big", "ubuntu-22.04"])
                .unwrap_err()
                .contains("different images")
        );
    }

    #[test]
    fn what_nobody_knows_is_an_error_and_never_passes() {
        for labels in [
            &["windows-latest"][..],
            &["macos-14"],
            &["linux", "gpu"],
            &[],
        ] {
            assert!(check(labels).is_err(), "{labels:?}");
        }
        let why = check(&["windows-latest"]).unwrap_err();
        assert!(
            why.contains("\"windows-latest\"") && why.contains("big"),
            "{why}"
        );
    }
}
