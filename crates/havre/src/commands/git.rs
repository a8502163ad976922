//! `havre git`: where a project's repository is, and the password for it. And git's other end on the machine itself.

mod connect;
mod mirror;

use std::io::{self, Read as _};
use std::process::Command;

use havre_api::{Address, Endpoint};
use havre_base::shell_word;

use super::block_on;
use crate::cli::git::{GitCommand, GitRemoteArgs};
use crate::context::{Context, Destination};
use crate::error::{Failure, Outcome};
use crate::exit::Exit;

pub use connect::connect;

/// What git calls it.
const REMOTE: &str = "havre";
/// Most that git says of what it wants a password for.
const MOST_ASKED: u64 = 64 * 1024;

/// A repository as git is to know it.
#[derive(Debug, PartialEq, Eq)]
struct Remote {
    url: String,
    /// Of the working folder's own configuration.
    settings: Vec<(String, String)>,
}

pub fn run(context: &Context, command: GitCommand) -> Outcome {
    match command {
        GitCommand::Remote(args) => remote(context, &args),
        GitCommand::Mirror(command) => block_on(mirror::run(context, *command)),
        GitCommand::Credential { operation } => credential(context, &operation),
    }
}

fn remote(context: &Context, args: &GitRemoteArgs) -> Outcome {
    let project = args.folder.project.environment()?.project;
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Failed, "cannot tell where this program is").caused_by(&error)
    })?;
    let program = shell_word(&program.display().to_string());
    let base = context.root.base();
    let root = base.map(|base| shell_word(&base.display().to_string()));
    let remote = match &context.to {
        Destination::Here => here(&program, root.as_deref(), project.as_str()),
        Destination::There(endpoint) => there(&program, endpoint, project.as_str()),
    };
    context.ui.data(&format!("{}\n", remote.url))?;
    if args.add {
        git(&["remote", "add", REMOTE, &remote.url])?;
        for (key, value) in &remote.settings {
            git(&["config", key, value])?;
        }
        context
            .ui
            .note(&format!("added as {REMOTE}: git push {REMOTE} main"));
        return Ok(Exit::Ok);
    }
    let mut lines = vec![format!(
        "git remote add {REMOTE} {}",
        shell_word(&remote.url)
    )];
    let settings = remote.settings.iter();
    lines.extend(settings.map(|(key, value)| format!("git config {key} {}", shell_word(value))));
    let lines = lines.join("\n  ");
    context.ui.note(&format!(
        "`havre git remote --add` does this in the repository at hand:\n  {lines}"
    ));
    Ok(Exit::Ok)
}

/// On this machine, by the daemon's socket. Pure.
fn here(program: &str, root: Option<&str>, project: &str) -> Remote {
    let root = root.map_or_else(String::new, |root| format!(" --root {root}"));
    Remote {
        url: format!("file:///{project}.git"),
        settings: commands(&format!("{program}{root}")),
    }
}

/// Elsewhere. Pure.
fn there(program: &str, endpoint: &Endpoint, project: &str) -> Remote {
    let url = format!("{}/{project}.git", endpoint.address);
    let settings = match &endpoint.address {
        Address::Https(address) => {
            let site = format!("https://{}", address.authority());
            let context = endpoint.name.as_ref().unwrap_or(&site);
            let helper = format!("!{program} -c {} git credential", shell_word(context));
            let mut settings = vec![(format!("credential.{site}.helper"), helper)];
            let authority = endpoint.ca_file.as_ref();
            settings.extend(authority.map(|file| {
                (
                    format!("http.{site}/.sslCAInfo"),
                    file.display().to_string(),
                )
            }));
            settings
        }
        Address::Ssh(_) | Address::Socket(_) | Address::Unix(_) => commands("havre"),
    };
    Remote { url, settings }
}

/// The commands at the other end.
fn commands(program: &str) -> Vec<(String, String)> {
    let command = |key: &str, name: &str| {
        (
            format!("remote.{REMOTE}.{key}"),
            format!("{program} {name}"),
        )
    };
    vec![
        command("receivepack", "git-receive-pack"),
        command("uploadpack", "git-upload-pack"),
    ]
}

fn git(args: &[&str]) -> Result<(), Failure> {
    let ran = Command::new("git").args(args).status();
    let status =
        ran.map_err(|error| Failure::new(Exit::Failed, "cannot run git").caused_by(&error))?;
    match status.success() {
        true => Ok(()),
        false => Err(
            Failure::new(Exit::Failed, format!("git {} failed", args.join(" "))).hint(
                "run it in a repository; `git remote remove havre` removes what was added before",
            ),
        ),
    }
}

/// As git asks a helper: it keeps what it was told itself.
fn credential(context: &Context, operation: &str) -> Outcome {
    if operation != "get" {
        return Ok(Exit::Ok);
    }
    let mut asked = String::new();
    io::stdin().take(MOST_ASKED).read_to_string(&mut asked)?;
    if let Destination::There(endpoint) = &context.to
        && let Some(answer) = answer(endpoint, &asked)
    {
        context.ui.data(&answer)?;
    }
    Ok(Exit::Ok)
}

/// The context's token, for its host and no other. Pure.
fn answer(endpoint: &Endpoint, asked: &str) -> Option<String> {
    let Address::Https(address) = &endpoint.address else {
        return None;
    };
    let value = |wanted: &str| {
        let mut pairs = asked.lines().filter_map(|line| line.split_once('='));
        pairs
            .find(|(key, _)| *key == wanted)
            .map(|(_, value)| value)
    };
    let is_meant = value("protocol") == Some("https")
        && value("host").is_some_and(|host| host.eq_ignore_ascii_case(&address.authority()));
    let token = endpoint.token.as_ref().filter(|_| is_meant)?;
    Some(format!("username={REMOTE}\npassword={}\n", token.reveal()))
}

#[cfg(test)]
mod tests {
    use havre_api::Token;

    use super::*;

    fn endpoint(address: &str) -> Endpoint {
        Endpoint {
            name: Some("prod".to_owned()),
            token: Token::new("secret"),
            ..Endpoint::new(address.parse().expect("an address"))
        }
    }

    #[test]
    fn the_token_is_for_its_host_alone() {
        let answered = |asked: &str| answer(&endpoint("https://havre.example.org:8443"), asked);
        let asked = "protocol=https\nhost=havre.example.org:8443\npath=shop.git\n";
        assert_eq!(
            answered(asked).as_deref(),
            Some("username=havre\npassword=secret\n")
        );
        for other in [
            "protocol=http\nhost=havre.example.org:8443\n",
            "protocol=https\nhost=havre.example.org\n",
            "protocol=https\nhost=evil.example.org\n",
            "protocol=https\n",
            "",
        ] {
            assert_eq!(answered(other), None, "{other}");
        }
        assert_eq!(answer(&endpoint("ssh://havre.example.org"), asked), None);
    }

    #[test]
    fn git_is_told_how_to_get_there() {
        let web = there("havre", &endpoint("https://havre.example.org"), "shop");
        assert_eq!(web.url, "https://havre.example.org/shop.git");
        let helper = "!havre -c prod git credential".to_owned();
        let key = "credential.https://havre.example.org.helper".to_owned();
        assert_eq!(web.settings, [(key, helper)]);
        let ssh = there("/x/havre", &endpoint("ssh://root@example.org:2222"), "shop");
        assert_eq!(ssh.url, "ssh://root@example.org:2222/shop.git");
        let here = here("/x/havre", Some("/r"), "shop");
        assert_eq!(here.url, "file:///shop.git");
        let receive = |remote: &Remote| remote.settings[0].clone();
        let key = "remote.havre.receivepack".to_owned();
        let command = "havre git-receive-pack".to_owned();
        assert_eq!(receive(&ssh), (key.clone(), command));
        let command = "/x/havre --root /r git-receive-pack".to_owned();
        assert_eq!(receive(&here), (key, command));
    }
}
