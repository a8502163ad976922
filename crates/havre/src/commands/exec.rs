//! `havre exec`: a command in a replica, with the caller's terminal where it is wanted.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};

use bytes::Bytes;
use havre_api::{
    EXEC_CHUNK_BYTES, ExecConnection, ExecInput, ExecNews, ExecOutput, ExecReader, ExecRequest,
    ExecWriter, TerminalSize,
};
use havre_model::ServiceName;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::ExecArgs;
use crate::connect;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::target::full_replica;

mod raw;

use raw::RawTerminal;

/// Pieces of input that may wait for the daemon.
const INPUT_AHEAD: usize = 4;

/// Ends with the command's own exit code.
pub async fn run(context: &Context, args: ExecArgs) -> Result<u8, Failure> {
    let request = request(&args)?;
    if args.tty && args.interactive && !io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Exec,
            "-t needs a terminal, but standard input is not one",
        )
        .hint("use -i alone"));
    }
    let (client, _) = connect::running(context).await?;
    let ExecConnection { reader, writer } = client.exec(&request).await?;
    // Restored when dropped, on every way out.
    let raw = match args.tty && args.interactive {
        true => Some(RawTerminal::enter().map_err(|error| {
            Failure::new(Exit::Exec, "cannot prepare the terminal").caused_by(&error)
        })?),
        false => None,
    };
    let code = session(reader, writer, &args).await;
    drop(raw);
    code
}

fn request(args: &ExecArgs) -> Result<ExecRequest, Failure> {
    let mut env = BTreeMap::new();
    for variable in &args.env {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (variable.as_str(), inherited(variable)?),
        };
        env.insert(name.to_owned(), value);
    }
    if args.tty && !env.contains_key("TERM") {
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        env.insert("TERM".to_owned(), term);
    }
    let environment = args.project.environment()?;
    let replica = args
        .replica
        .as_ref()
        .map(|replica| full_replica(replica, &environment));
    Ok(ExecRequest {
        environment,
        service: ServiceName::new(&args.service),
        replica,
        argv: args.command.clone(),
        env,
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        stdin: args.interactive,
        tty: args.tty.then(|| {
            terminal_size().unwrap_or(TerminalSize {
                columns: 80,
                rows: 24,
            })
        }),
    })
}

fn inherited(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot pass on the variable {name}"))
            .caused_by(&error)
            .hint("`-e NAME=VALUE` sets one; the environment is named by `-E NAME`")
    })
}

/// Moves bytes in both directions until the command ends. A signal that asks this program to
/// end leaves the command: the daemon ends it when it finds its client gone.
async fn session(
    mut reader: ExecReader,
    writer: ExecWriter,
    args: &ExecArgs,
) -> Result<u8, Failure> {
    let cannot_listen =
        |error: io::Error| Failure::new(Exit::Exec, "cannot listen to signals").caused_by(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_listen)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_listen)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(cannot_listen)?;
    let output = async {
        loop {
            match reader.next().await? {
                ExecNews::Output(ExecOutput::Stdout(bytes)) => print(io::stdout(), &bytes)?,
                ExecNews::Output(ExecOutput::Stderr(bytes)) => print(io::stderr(), &bytes)?,
                ExecNews::Exit(code) => return Ok(exit_code(code)),
            }
        }
    };
    let input = send_input(writer, args);
    tokio::select! {
        code = output => code,
        failure = input => Err(failure),
        _ = interrupt.recv() => Ok(128 + 2),
        _ = terminate.recv() => Ok(128 + 15),
        _ = hangup.recv() => Ok(128 + 1),
    }
}

/// Codes beyond a byte cannot be passed on.
fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(Exit::Exec.code())
}

fn print(mut to: impl Write, bytes: &[u8]) -> Result<(), Failure> {
    to.write_all(bytes)?;
    to.flush()?;
    Ok(())
}

/// Sends standard input and the terminal's size; ends only when reading fails.
async fn send_input(mut writer: ExecWriter, args: &ExecArgs) -> Failure {
    let cannot = |error: io::Error| {
        Failure::new(Exit::Exec, "cannot pass the terminal's input on").caused_by(&error)
    };
    let mut resized = match signal(SignalKind::window_change()) {
        Ok(resized) => resized,
        Err(error) => return cannot(error),
    };
    let (sender, mut pieces) = mpsc::channel(INPUT_AHEAD);
    if args.interactive {
        // Ends with the program at the latest: a read of a terminal cannot be called off.
        std::thread::spawn(move || read_stdin(&sender));
    }
    loop {
        let piece = tokio::select! {
            Some(piece) = pieces.recv() => match piece {
                Ok(piece) => piece,
                Err(error) => return cannot(error),
            },
            Some(()) = resized.recv(), if args.tty => match terminal_size() {
                Some(size) => ExecInput::Resize(size),
                None => continue,
            },
            else => break,
        };
        if writer.send(piece).await.is_err() {
            break;
        }
    }
    // How the command ends, or why it cannot be reached, is for the reader to tell.
    std::future::pending().await
}

fn read_stdin(sender: &mpsc::Sender<io::Result<ExecInput>>) {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; EXEC_CHUNK_BYTES];
    loop {
        let piece = match stdin.read(&mut buffer) {
            Ok(0) => Ok(ExecInput::StdinClosed),
            Ok(count) => Ok(ExecInput::Stdin(Bytes::copy_from_slice(&buffer[..count]))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let over = !matches!(piece, Ok(ExecInput::Stdin(_)));
        if sender.blocking_send(piece).is_err() || over {
            return;
        }
    }
}

fn terminal_size() -> Option<TerminalSize> {
    let size = rustix::termios::tcgetwinsize(io::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stdin()))
        .ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(TerminalSize {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}
