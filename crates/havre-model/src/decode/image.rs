//! What an image is called, and which machine it is for.

use crate::read::{Field, refuse};
use crate::report::Report;

/// The machine's own platform is the only one: nothing is emulated.
pub(super) fn check_platform(platform: &str, field: Field<'_>, report: &mut Report) {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut parts = platform.split('/');
    let system = parts.next().unwrap_or_default();
    let architecture = parts.next();
    let same = match architecture {
        Some(architecture) => {
            let architecture = match architecture {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            };
            system == "linux" && architecture == own
        }
        None => system == "linux" || system == own,
    };
    if !same {
        let why = format!("this machine is linux/{own}, and nothing is emulated");
        refuse(
            field,
            &why,
            "remove it, or use a machine of that kind",
            report,
        );
    }
}

/// Fails on what cannot be the name of an image.
pub(super) fn check_image(image: &str, field: Field<'_>, report: &mut Report) {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'$' | b'"' | b'\'' | b'\\' | b'`');
    let path = image.split('@').next().unwrap_or(image);
    let host_end = path.find('/').unwrap_or(0);
    let repository = path.get(host_end..).unwrap_or(path);
    let repository = repository.split(':').next().unwrap_or(repository);
    let message = if image.is_empty() {
        "is empty".to_owned()
    } else if !image.bytes().all(plain)
        || path.is_empty()
        || path.starts_with(['/', ':'])
        || path.contains("//")
    {
        format!("`{image}` is not an image's name")
    } else if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        format!("`{image}` has capital letters, which an image's name cannot have")
    } else {
        return;
    };
    let message = format!("{}: `image` {message}", field.owner);
    report
        .error("compose/value", field.span(), message)
        .hint("write `name:tag`, `registry/name:tag` or `name@sha256:…`");
}
