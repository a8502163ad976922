//! The pair of rules that lets our traffic pass a host firewall which drops what it does not
//! know: Docker's (FORWARD policy DROP), ufw's and the like.
//!
//! An accept in a table of our own cannot do that: each table that hooks FORWARD has its own
//! say. So the pair goes where the other firewall looks: DOCKER-USER where that chain is, else
//! FORWARD where it filters at all. It is put there with the `iptables` that this firewall was
//! made with; without such a program there is no such firewall.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::NetError;
use crate::program::{self, Run};

const DOCKER: &str = "DOCKER-USER";
const FORWARD: &str = "FORWARD";
/// Longest run of the program; it waits at most 5 s for its own lock.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most copies of a rule that are removed at once.
const COPIES: usize = 16;

/// The chain that needs the pair, by the rules of both; `None`: nothing filters.
fn chain_in_need(docker_user: Option<&str>, forward: &str) -> Option<&'static str> {
    if docker_user.is_some() {
        return Some(DOCKER);
    }
    let filters = forward
        .lines()
        .any(|line| line.starts_with("-A ") || line.trim() == "-P FORWARD DROP");
    filters.then_some(FORWARD)
}

/// Whether `rules` of a chain hold the pair of this instance.
fn holds_pair(rules: &str, tag: &str) -> bool {
    let ours = |line: &&str| {
        line.split_whitespace()
            .any(|word| word.trim_matches('"') == tag)
    };
    rules.lines().filter(ours).count() >= 2
}

fn pair<'a>(tag: &'a str, links: &'a str) -> [Vec<&'a str>; 2] {
    let comment = ["-m", "comment", "--comment", tag, "-j", "ACCEPT"];
    let out = ["-i", links].into_iter().chain(comment).collect();
    let back = [
        "-o",
        links,
        "-m",
        "conntrack",
        "--ctstate",
        "RELATED,ESTABLISHED",
    ]
    .into_iter()
    .chain(comment)
    .collect();
    [out, back]
}

/// Makes sure the pair for links that start with `prefix` is where it is needed.
pub fn ensure(tag: &str, prefix: &str) -> Result<(), NetError> {
    let Some(program) = find_program() else {
        return Ok(());
    };
    let docker_user = list(&program, DOCKER)?;
    let forward = match docker_user {
        Some(_) => None,
        None => list(&program, FORWARD)?,
    };
    let Some(chain) = chain_in_need(
        docker_user.as_deref(),
        forward.as_deref().unwrap_or_default(),
    ) else {
        return Ok(());
    };
    if docker_user
        .or(forward)
        .is_some_and(|rules| holds_pair(&rules, tag))
    {
        return Ok(());
    }
    remove_from(&program, chain, tag, prefix)?;
    for rule in pair(tag, &links(prefix)) {
        let arguments: Vec<&str> = ["-I", chain].into_iter().chain(rule).collect();
        let run = run(&program, &arguments)?;
        if !run.status.success() {
            return Err(NetError::Program {
                action: format!(
                    "let containers pass {chain} ({} {})",
                    program.display(),
                    arguments.join(" ")
                ),
                detail: run.errors,
            });
        }
    }
    tracing::info!(chain, "let containers pass the host's firewall");
    Ok(())
}

/// Removes the pair from wherever it may be.
pub fn remove(tag: &str, prefix: &str) -> Result<(), NetError> {
    let Some(program) = find_program() else {
        return Ok(());
    };
    for chain in [DOCKER, FORWARD] {
        if list(&program, chain)?.is_some_and(|rules| rules.contains(tag)) {
            remove_from(&program, chain, tag, prefix)?;
        }
    }
    Ok(())
}

fn remove_from(program: &Path, chain: &str, tag: &str, prefix: &str) -> Result<(), NetError> {
    for rule in pair(tag, &links(prefix)) {
        let arguments: Vec<&str> = ["-D", chain].into_iter().chain(rule).collect();
        for _ in 0..COPIES {
            if !run(program, &arguments)?.status.success() {
                break;
            }
        }
    }
    Ok(())
}

/// iptables writes a prefix with a plus.
fn links(prefix: &str) -> String {
    format!("{prefix}+")
}

/// The rules of a chain as `iptables -S` prints them; `None`: no such chain.
fn list(program: &Path, chain: &str) -> Result<Option<String>, NetError> {
    let run = run(program, &["-S", chain])?;
    Ok(run.status.success().then_some(run.output))
}

/// The machine's iptables, if it has one.
pub fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join("iptables"))
        .find(|candidate| candidate.is_file())
}

fn run(program: &Path, arguments: &[&str]) -> Result<Run, NetError> {
    program::run(
        Command::new(program).args(["-w", "5"]).args(arguments),
        PATIENCE,
    )
    .map_err(|error| NetError::Program {
        action: format!("run {}", program.display()),
        detail: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pair_goes_where_filtering_happens() {
        let open = "-P FORWARD ACCEPT\n";
        assert_eq!(chain_in_need(None, open), None);
        assert_eq!(chain_in_need(None, ""), None);
        assert_eq!(chain_in_need(None, "-P FORWARD DROP\n"), Some(FORWARD));
        assert_eq!(
            chain_in_need(None, "-P FORWARD ACCEPT\n-A FORWARD -j ufw\n"),
            Some(FORWARD)
        );
        assert_eq!(chain_in_need(Some("-N DOCKER-USER\n"), open), Some(DOCKER));
    }

    #[test]
    fn a_pair_is_ours_only_with_our_tag() {
        let rules = "-N DOCKER-USER\n\
            -A DOCKER-USER -i hv-ab-+ -m comment --comment havre-ab -j ACCEPT\n\
            -A DOCKER-USER -o hv-ab-+ -m comment --comment \"havre-ab\" -j ACCEPT\n";
        assert!(holds_pair(rules, "havre-ab"));
        assert!(!holds_pair(rules, "havre-a"));
        assert!(!holds_pair(&rules.replacen("havre-ab", "x", 1), "havre-ab"));
    }
}
