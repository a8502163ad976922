//! What builds images: logging in, the builder, names of images, and the build.

mod build;
pub(crate) mod cli;
mod client;
pub(crate) mod container;
mod deliver;
mod login;
mod metadata;
mod wanted;

pub(crate) use build::main as build_push;
pub(crate) use login::{main as login, post as logout};
pub(crate) use metadata::main as metadata;

use serde_json::json;

use crate::failure::{Failure, refused};
use crate::step::Step;

/// What the builder is called in outputs.
const BUILDER: &str = "havre";

/// `docker/setup-buildx-action`.
pub(crate) fn setup_buildx(step: &Step) -> Result<(), Failure> {
    let own = own_platform();
    own_only(step, "platforms")?;
    let there = step.var(havre_job::images::VARIABLE).is_some();
    if there {
        step.notice("images are built by Havre's own builder; there is no Buildx to set up");
    } else {
        step.warning("this run has no builder: `docker/build-push-action` will fail");
    }
    let status = if there { "running" } else { "inactive" };
    step.output("name", BUILDER)?;
    step.output("driver", BUILDER)?;
    step.output("platforms", &own)?;
    let node = json!([{"name": BUILDER, "endpoint": BUILDER, "status": status, "buildkitd-flags": "", "platforms": own}]);
    step.output("nodes", &node.to_string())?;
    step.output("endpoint", BUILDER)?;
    step.output("status", status)?;
    step.output("flags", "")
}

/// `docker/setup-qemu-action`.
pub(crate) fn setup_qemu(step: &Step) -> Result<(), Failure> {
    if step.input("platforms") != "all" {
        own_only(step, "platforms")?;
    }
    step.notice("nothing is emulated: images are built for this machine's own platform");
    step.output("platforms", &own_platform())
}

/// As images name it.
fn own_platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{arch}")
}

fn own_only(step: &Step, input: &str) -> Result<(), Failure> {
    let own = own_platform();
    let bare = own.trim_start_matches("linux/").to_owned();
    let asked = step.input(input);
    let mut asked = asked
        .split([',', '\n'])
        .map(str::trim)
        .filter(|platform| !platform.is_empty());
    match asked.find(|platform| *platform != own && *platform != bare) {
        None => Ok(()),
        Some(other) => refused(format!(
            "`{input}: {other}` is not this machine's platform: images are built for {own} only; build the others \
             on a machine of that platform"
        )),
    }
}
